import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tagmask.cli.main import ORDER
from tagmask.cli.models import app
from tagmask.store import Store
from tests import ceph
from tests.faults import Proxy
from tests.training import colour_bundle

Command = Callable[..., tuple[int, str, str]]
ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setenv("TAGMASK_STORE", str(tmp_path / "store"))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def run(*arguments: object, status: int = 0) -> tuple[str, str]:
    """Standard output and standard error of `tagmask models`, which has to end with `status`."""
    result = CliRunner().invoke(app, [str(each) for each in arguments])
    assert result.exit_code == status, result.output
    return result.stdout, result.stderr


def write(path: Path, letter: str, **changed: object) -> Path:
    return colour_bundle.write_colour_bundle(path / f"{letter}.onnx", weights_digest=letter * 64, **changed)


def test_bundles_are_added_promoted_and_listed(tmp_path: Path, store: Store):
    metadata = {"created": "2026-05-04T01:30:00+02:00", "rounds": 3, "metrics": {"iou": [1.0], "miou": 0.56789}}
    figures = {"value": 61.0, "low": 52.0, "high": 68.4}
    assert run("add", write(tmp_path, "a", **metadata)) == (f"aaaaaaaaaaaa is in {store.root}\n", "")
    assert store.champion() is None
    measured = {"photos": 8, "without_tags": figures | {"value": 58.0}, "with_tags": figures}
    out, _ = run("add", write(tmp_path, "b", measured=measured), "--promote")
    assert out.splitlines()[-1] == "bbbbbbbbbbbb is the champion"
    head, first, second = run("list")[0].splitlines()
    assert head.split() == ["version", "created", "classes", "round", "metrics", "size"]
    assert " ".join(first.split()) == "aaaaaaaaaaaa 2026-05-03 23:30 cat, dog 3 miou 0.568 0.0 MB"
    assert second.split()[:2] == ["*", "bbbbbbbbbbbb"]
    assert "mIoU 61 (52 to 68)" in second
    assert run("promote", "aaaaaaaaaaaa")[0] == "aaaaaaaaaaaa is the champion\n"
    assert run("rollback")[0] == "bbbbbbbbbbbb is the champion\n"


def test_a_narrow_terminal_cuts_nothing_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    run(
        "add",
        write(tmp_path, "a", created="2026-05-04T01:30:00+02:00", rounds=3, metrics={"miou": 0.56789}),
        "--promote",
    )
    monkeypatch.setenv("COLUMNS", "40")
    cells = ["*", "aaaaaaaaaaaa", "2026-05-03 23:30", "cat, dog", "3", "miou 0.568", "0.0 MB"]
    assert " ".join(cells) in " ".join(run("list")[0].split())
    assert len(re.findall(r" aaaaaaaaaaaa +(published|promoted)\b", run("history")[0])) == 2


def test_the_option_goes_before_the_environment(tmp_path: Path, store: Store):
    run("add", write(tmp_path, "a"), "--store", tmp_path / "other")
    assert not store.root.exists()
    assert Store(tmp_path / "other").versions() == ("aaaaaaaaaaaa",)


def test_without_either_the_store_lies_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("TAGMASK_STORE")
    monkeypatch.chdir(tmp_path)
    run("add", write(tmp_path, "a"))
    assert Store(Path("store")).versions() == ("aaaaaaaaaaaa",)


@pytest.mark.parametrize("option", [("--store", "http://host/x"), ("--store=http://host/x",)])
def test_a_store_is_a_folder_or_in_object_storage(option: tuple[str, ...], command: Command):
    status, _, error = command("models", "list", *option)
    assert status == 2
    assert "http://host/x: not supported; give a path on this machine, or a URL such as s3://bucket/prefix" in error


def test_a_store_in_object_storage_is_listed(s3: Proxy, tmp_path: Path, command: Command):
    store = f"s3://{ceph.BUCKET}/cli"
    Store(store).publish(write(tmp_path, "a"))
    status, out, _ = command("models", "list", "--store", store)
    assert (status, "aaaaaaaaaaaa" in out) == (0, True)


def test_an_empty_store_says_what_to_do(store: Store):
    assert "`tagmask models add model.onnx`" in run("list")[0]
    assert not store.root.exists()


def test_only_the_first_of_many_classes_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(
        colour_bundle, "COLOURS", {"background": (0, 0, 0)} | {f"c{n}": (n, n, n) for n in range(1, 21)}
    )
    run("add", write(tmp_path, "a"))
    out, _ = run("list")
    assert "c1, c2, c3, c4, c5, c6, c7, c8 and 12 more" in out


def test_a_damaged_bundle_does_not_hide_the_others(tmp_path: Path, store: Store):
    for letter in "ab":
        run("add", write(tmp_path, letter))
    store.path("aaaaaaaaaaaa").write_bytes(b"rubbish")
    out, complained = run("list")
    rows = [line.split() for line in out.splitlines()[1:]]
    assert [row[0] for row in rows] == ["aaaaaaaaaaaa", "bbbbbbbbbbbb"]
    assert ["damaged" in row for row in rows] == [True, False]
    assert re.fullmatch(r"error: .*aaaaaaaaaaaa/model.onnx: [^\n]+\n", complained)


def test_history_tells_what_happened_and_why(tmp_path: Path, store: Store):
    assert "no events in" in run("history")[0]
    run("add", write(tmp_path, "a"), "--promote")
    reasons = ["mIoU 58.0 [against] 61.2", "forgotten: cat"]
    store.record_decision("bbbbbbbbbbbb", promoted=False, reasons=reasons, figures={})
    store.record_decision("cccccccccccc", promoted=True, reasons=[], figures={})
    head, *rows = (line.split() for line in run("history")[0].splitlines())
    assert head == ["when", "(UTC)", "version", "what", "why"]
    assert [row[2] for row in rows] == [letter * 12 for letter in "aabc"]
    assert [" ".join(row[3:]) for row in rows] == [
        "published",
        "promoted",
        "failed the gate mIoU 58.0 [against] 61.2; forgotten: cat",
        "passed the gate",
    ]


def test_old_bundles_are_removed(tmp_path: Path, store: Store):
    for letter in "abcd":
        run("add", write(tmp_path, letter))
    run("promote", "aaaaaaaaaaaa")
    assert run("prune", "--keep", 1)[0] == "bbbbbbbbbbbb is removed\ncccccccccccc is removed\n"
    assert store.versions() == ("aaaaaaaaaaaa", "dddddddddddd")
    assert run("prune", "--keep", 1)[0] == "nothing to remove\n"
    run("prune", status=2)
    run("prune", "--keep", -1, status=2)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("add {folder}/[absent].onnx", r"\[absent\]\.onnx: cannot be read"),
        ("add {folder}", "not a regular file"),
        ("promote 0123456789ab", "'0123456789ab' is not in the store"),
        ("promote ../../etc", r"'\.\./\.\./etc' is not in the store"),
        ("rollback", "no former champion"),
        ("list --store {folder}/broken", r"champion\.json: damaged"),
    ],
)
def test_what_a_user_caused_is_one_line_and_status_2(command: Command, tmp_path: Path, line: str, message: str):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "champion.json").touch()
    status, output, errors = command("models", *(part.format(folder=tmp_path) for part in line.split()))
    assert (status, output) == (2, "")
    assert re.fullmatch(rf"error: [^\n]*{message}[^\n]*; [^\n]+\n", errors)


def python(code: str, *arguments: object) -> "subprocess.CompletedProcess[str]":
    line = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(line, cwd=ROOT, env=dict(os.environ), text=True, capture_output=True, timeout=60)


def test_tagmask_has_these_commands(store: Store):
    done = python("from tagmask.cli.main import main; main()", "models", "promote", "0123456789ab")
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(r"error: version '0123456789ab' is not in the store [^\n]+\n", done.stderr)


def test_help_lists_commands_in_the_order_of_work():
    shown = python("from tagmask.cli.main import main; main()", "--help").stdout
    named = re.findall(r"^│ ([a-z]+) ", shown.partition("Commands")[2], re.MULTILINE)
    assert named == [*ORDER, "flow", "inbox"]


def test_a_defect_with_a_file_that_ends_early_is_not_called_aborted(
    store: Store, command: Command, monkeypatch: pytest.MonkeyPatch
):
    def ended(store: Store) -> None:
        raise EOFError("No data left in file")

    monkeypatch.setattr(Store, "history", ended)
    with pytest.raises(RuntimeError, match="ended early: No data left in file"):
        command("models", "history")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, which Linux has")
def test_output_to_a_full_disk_is_one_line(store: Store):
    line = [sys.executable, "-c", "from tagmask.cli.main import main; main()", "models", "list"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(line, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    message = "error: standard output: cannot be written (No space left on device); free disk space\n"
    assert (done.returncode, done.stderr) == (2, message)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            "import os; os.mkdir('gone'); os.chdir('gone'); os.rmdir('../gone')",
            "the working directory was removed; change",
        ),
        (
            "import tempfile; tempfile._candidate_tempdir_list = lambda: ['/gone']; main.app = tempfile.gettempdir",
            r"No usable temporary directory found in \['/gone'\]; free disk space",
        ),
    ],
)
def test_a_machine_without_its_folders_is_one_line(tmp_path: Path, spoil: str, message: str):
    code = f"import os; from tagmask.cli import main; os.chdir({str(tmp_path)!r}); {spoil}; main.main()"
    done = python(code, "segment", "photo.jpg", "--out", "masks")
    assert done.returncode == 2
    assert re.fullmatch(rf"error: {message}[^\n]+\n", done.stderr)


def test_help_loads_nothing_heavy():
    done = python(
        "import sys, tagmask.cli.models; print(sorted({'onnx', 'pydantic', 'numpy', 'torch'} & set(sys.modules)))"
    )
    assert done.stdout == "[]\n", done.stderr
