import ast
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import training
from flows.learning import keys as key_module
from flows.learning.keys import source_digest, step_keys
from training.config import load_config
from training.run.plan import Name, steps

EARLY: set[Name] = {(0, "superpixels"), (0, "saliency"), (0, "classifier"), (0, "maps")}
MINED: set[Name] = {(1, "seeds"), (1, "regionnet"), (1, "regions"), (1, "refined")}
SECOND: set[Name] = {(2, name) for name in ("seeds", "regionnet", "regions", "labels", "pixelnet", "masks", "decision")}
FIRST: set[Name] = MINED | {(1, name) for name in ("labels", "pixelnet", "masks", "decision")}
CRF = "tagmask.crf.dense"
ALL = EARLY | FIRST | SECOND

SOURCES = sorted(path for path in Path(training.__file__).parent.rglob("*.py"))


def keys(data: str = "d", start: str | None = None, **overrides: object) -> dict[Name, str]:
    config = load_config(
        overrides={"rounds": 2, **{name.replace("__", "."): value for name, value in overrides.items()}}
    )
    return step_keys(steps(config), config, data_digest=data, start=start)


def changed(now: dict[Name, str], before: dict[Name, str]) -> set[Name]:
    assert now.keys() == before.keys()
    return {name for name in now if now[name] != before[name]}


def test_each_step_has_a_key_of_its_own():
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
        ("regionnet__fit__epochs", 3, FIRST - {(1, "seeds")} | SECOND),
        ("crf__steps", 3, FIRST - MINED | SECOND),
        ("pixelnet__fit__epochs", 3, FIRST - MINED - {(1, "labels")} | SECOND),
        ("keep__agreement", 0.3, {(1, "decision"), (2, "decision")}),
    ],
)
def test_a_setting_changes_exactly_what_depends_on_it(setting, value, due):
    assert changed(keys(**{setting: value}), keys()) == due


def test_photos_and_tags_leave_alone_what_reads_no_tags():
    assert changed(keys(data="other"), keys()) == ALL - {(0, "superpixels"), (0, "saliency")}


def test_another_start_changes_the_networks_and_what_comes_of_them():
    assert changed(keys(start="earlier"), keys()) == ALL - {(0, "superpixels"), (0, "saliency")}


def test_the_code_of_a_stage_changes_it_and_what_reads_it(monkeypatch):
    before = keys()
    digest = key_module.code_digest
    monkeypatch.setattr(key_module, "code_digest", lambda name: "new" if name == "tagmask.crf.dense" else digest(name))
    assert changed(keys(), before) == FIRST - MINED | SECOND


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
