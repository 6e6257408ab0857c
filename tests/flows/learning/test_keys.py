import ast
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import training
from flows.learning.flow import TrainingRequest, run_key
from flows.learning.keys import WITHOUT_RESULT, ReadSource, imports, read_source, source_digest, stage_keys
from flows.settings import FlowSettings
from training.config import load_config
from training.run.plan import run_stages
from training.stages.base import StageId

EARLY: set[StageId] = {(0, "superpixels"), (0, "saliency"), (0, "classifier"), (0, "class_maps")}
TOLD: set[StageId] = {(1, "regiontagger"), (1, "evidence"), (1, "seeds")}
MINED: set[StageId] = TOLD | {(1, "regionnet"), (1, "regions"), (1, "refinement")}
LEARNED = ("labels", "pixelnet", "masks", "decision")
FIRST: set[StageId] = MINED | {(1, name) for name in LEARNED}
SECOND: set[StageId] = {(2, name) for _, name in FIRST}
ALL = EARLY | FIRST | SECOND
ALL_NAMES = {name for _, name in ALL}

SOURCES = sorted(path for path in Path(training.__file__).parent.rglob("*.py"))


def keys(
    data: str = "d", start: str | None = None, read: ReadSource | None = None, **overrides: object
) -> dict[StageId, str]:
    config = load_config(
        overrides={"rounds": 2, **{name.replace("__", "."): value for name, value in overrides.items()}}
    )
    return stage_keys(run_stages(config), data_digest=data, start=start, read=read)


def changed(now: dict[StageId, str], before: dict[StageId, str]) -> set[StageId]:
    assert now.keys() == before.keys()
    return {name for name in now if now[name] != before[name]}


def test_the_share_that_is_held_out_matters_only_with_corrections(tmp_path: Path):
    def key(corrected: int, share: float) -> str:
        config = load_config(overrides={"corrections.held_out": share})
        request = TrainingRequest(
            photos=tmp_path, count=30, corrected=corrected, data_digest="d", classes=("cat",), config=config
        )
        return run_key(request, FlowSettings())

    assert key(0, 0.2) == key(0, 0.3)
    assert key(25, 0.2) != key(25, 0.3)


def test_each_stage_has_a_key_of_its_own():
    found = keys()
    assert found.keys() == ALL
    assert len(set(found.values())) == len(ALL)


@pytest.mark.parametrize(
    ("setting", "value", "due"),
    [
        ("superpixels__min_size", 7, ALL - {(0, "classifier")}),
        ("long_side", 100, ALL),
        ("seed", 5, ALL - {(0, "superpixels"), (0, "saliency")}),
        ("classifier__fit__epochs", 3, ALL - {(0, "superpixels"), (0, "saliency")}),
        ("regionnet__fit__epochs", 3, FIRST - TOLD | SECOND),
        ("crf__steps", 3, FIRST - MINED | SECOND),
        ("pixelnet__fit__epochs", 3, FIRST - MINED - {(1, "labels")} | SECOND),
        ("decision__agreement", 0.3, {(1, "decision"), (2, "decision")}),
    ],
)
def test_a_setting_changes_exactly_what_depends_on_it(setting, value, due):
    assert changed(keys(**{setting: value}), keys()) == due


def test_photos_and_tags_leave_alone_what_reads_no_tags():
    assert changed(keys(data="other"), keys()) == ALL - {(0, "superpixels"), (0, "saliency")}


def test_another_start_changes_the_networks_and_what_comes_of_them():
    assert changed(keys(start="earlier"), keys()) == ALL - {(0, "superpixels"), (0, "saliency")}


def changed_source(module: str) -> ReadSource:
    """Sources as they are, but for a changed `module`."""

    def read(name: str) -> str | None:
        source = read_source(name)
        return f"{source}\nCHANGED = True\n" if name == module and source is not None else source

    return read


def downstream(names: set[str]) -> set[StageId]:
    """The stages called `names`, those that read them, and so on."""
    found: set[StageId] = set()
    for stage in run_stages(load_config(overrides={"rounds": 2})):
        if stage.name in names or found.intersection(stage.reads):
            found.add(stage.id)
    return found


NETWORKS = {"classifier", "regiontagger", "regionnet", "pixelnet"}
LOCALIZE = {"class_maps", "masks", "pixelnet"}
USES = {
    "training.stages.superpixels": ALL_NAMES - {"classifier"},
    "training.stages.saliency": {"saliency", "regiontagger", "evidence"},
    "training.stages.labels": {"labels", "pixelnet", "decision"},
    "training.stages.decision": {"decision"},
    "training.stages.refinement": {"refinement", "labels"},
    "training.stages.pooling": {"class_maps", "regiontagger", "evidence", "masks"},
    "training.networks.classifier": {"classifier", *LOCALIZE},
    "training.networks.regionnet": {"regiontagger", "evidence", "regionnet", "regions"},
    "training.networks.regiontagger": {"regiontagger", "evidence"},
    "training.networks.pixelnet": LOCALIZE,
    "training.networks.localize": LOCALIZE,
    "training.networks.saliency": {"saliency"},
    "training.networks.warm_start": NETWORKS,
    "training.fitting.balance": {"pixelnet"},
    "training.fitting.loop": NETWORKS,
    "training.fitting.sampling": NETWORKS,
    "training.fitting.augmentation": NETWORKS,
    "training.datasets.photos": ALL_NAMES,
    "tagmask.crf.worker": {"labels"},
    "tagmask.photos": ALL_NAMES,
    "tagmask.files": ALL_NAMES,
}
"""Some modules, and stages that import them, directly or not; all others that change read one of these."""


@pytest.mark.parametrize("module", USES)
def test_a_changed_module_changes_the_stages_that_use_it_and_what_reads_them(module):
    assert changed(keys(read=changed_source(module)), keys()) == downstream(USES[module])


def test_each_module_of_the_method_changes_the_keys_of_the_stages_that_import_it():
    before = keys()
    by_module = {name: loaded(f"training.stages.{name}") for name in ALL_NAMES}
    method = set().union(*by_module.values())
    assert {"training.networks.backbones", "training.fitting.devices", "tagmask.masks"} < method
    for module in sorted(method):
        users = {name for name, modules in by_module.items() if module in modules}
        due = set() if module in WITHOUT_RESULT else downstream(users)
        assert changed(keys(read=changed_source(module)), before) == due, module


def test_modules_that_no_stage_imports_change_nothing():
    for module in (
        "training.run.train",
        "training.cli.train",
        "training.report.page",
        "tagmask.client",
        "tagmask.store",
    ):
        assert changed(keys(read=changed_source(module)), keys()) == set()


def loaded(module: str) -> set[str]:
    """`module` and all modules of ours that it imports, found by walking the files."""
    found: set[str] = set()
    waiting = {module}
    while waiting:
        name = waiting.pop()
        found.add(name)
        source = read_source(name)
        assert source is not None
        for each in imports(source):
            parts = each.split(".")
            if parts[0] in ("training", "tagmask"):
                known = each if file_of(each) else ".".join(parts[:-1])
                waiting |= {known} - found
    return found


def file_of(module: str) -> Path | None:
    path = Path(training.__file__).parents[1].joinpath(*module.split("."))
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


def test_files_that_settings_name_count_by_what_is_in_them(tmp_path):
    network = tmp_path / "saliency.onnx"
    network.write_bytes(b"one")
    before = keys(saliency__network=str(network))
    assert changed(keys(saliency__network=str(network)), before) == set()
    network.write_bytes(b"two")
    assert (0, "saliency") in changed(keys(saliency__network=str(network)), before)
    network.unlink()
    with pytest.raises(OSError, match=r"saliency\.onnx"):
        keys(saliency__network=str(network))


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(SOURCES), st.data())
def test_comments_and_formatting_do_not_count(path, data):
    source = path.read_text()
    lines = source.splitlines()
    tops = [node.lineno - 1 for node in ast.parse(source).body if not getattr(node, "decorator_list", None)]
    at = data.draw(st.sampled_from(tops))
    filler = data.draw(st.lists(st.sampled_from(["", "# a remark", "#"]), max_size=4))
    assert source_digest("\n".join([*lines[:at], *filler, *lines[at:]])) == source_digest(source)
    assert source_digest(ast.unparse(ast.parse(source))) == source_digest(source)


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(SOURCES), st.data())
def test_any_other_value_counts(path, data):
    tree = ast.parse(path.read_text())
    values = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, int)]
    if not values:
        return
    data.draw(st.sampled_from(values)).value += 1_000_003
    assert source_digest(ast.unparse(tree)) != source_digest(path.read_text())


def test_docstrings_do_not_count_but_other_texts_do():
    code = 'def f():\n    """{}"""\n    return "{}"\n'
    assert source_digest(code.format("one", "a")) == source_digest(code.format("two", "a"))
    assert source_digest(code.format("one", "a")) != source_digest(code.format("one", "b"))
