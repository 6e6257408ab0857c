import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydantic import BaseModel

from tagmask import files
from tagmask.errors import RunError

ROOT = Path(__file__).parents[2]


def test_a_block_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path):
    path = tmp_path / "a.txt"
    files.write_text(path, "old")

    def fail() -> None:
        with files.atomic_write(path) as file:
            file.write(b"new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_file_appears_only_when_the_block_ends(tmp_path: Path):
    path = tmp_path / "deep" / "er" / "a.bin"
    with files.atomic_write(path) as file:
        file.write(b"half")
        file.flush()
        assert not path.exists()
    assert path.read_bytes() == b"half"
    assert path.stat().st_mode & 0o777 == 0o644


def test_texts_pictures_and_arrays_come_back(tmp_path: Path):
    files.write_text(tmp_path / "t", "Zürich")
    assert (tmp_path / "t").read_bytes() == "Zürich".encode()
    array = np.arange(6, dtype=np.float16).reshape(2, 3)
    files.write_array(tmp_path / "a.npy", array)
    read = np.load(tmp_path / "a.npy")
    assert read.dtype == np.float16
    assert (read == array).all()
    picture = np.arange(12, dtype=np.uint8).reshape(3, 4)
    files.write_png(tmp_path / "p.png", Image.fromarray(picture))
    with Image.open(tmp_path / "p.png") as image:
        assert image.format == "PNG"
        assert (np.array(image) == picture).all()


def test_a_name_may_be_as_long_as_the_file_system_has_it(tmp_path: Path):
    files.write_text(tmp_path / ("n" * 255), "text")
    assert (tmp_path / ("n" * 255)).read_text() == "text"


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path: Path):
    left = tmp_path / "maps" / "cat" / ".1.npy.x8f3.part"
    kept = tmp_path / "maps" / "cat" / "1.part"
    left.parent.mkdir(parents=True)
    left.touch()
    kept.touch()
    files.remove_unfinished(tmp_path)
    assert not left.exists()
    assert kept.exists()
    files.remove_unfinished(tmp_path / "absent")


def test_a_named_temporary_file_replaces_what_a_killed_writer_left(tmp_path: Path):
    part = tmp_path / ".part"
    part.write_text("half of something long")
    with files.atomic_write(tmp_path / "a", temporary=part, mode=None) as file:
        file.write(b"whole")
    assert (tmp_path / "a").read_bytes() == b"whole"
    assert list(tmp_path.iterdir()) == [tmp_path / "a"]


def test_permissions_are_fixed_or_left_to_the_umask(tmp_path: Path):
    before = os.umask(0o077)
    try:
        files.write_text(tmp_path / "fixed", "")
        with files.atomic_write(tmp_path / "private", mode=None):
            pass
    finally:
        os.umask(before)
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("fixed", "private")] == [0o644, 0o600]


def test_a_lock_is_held_by_one_and_released_when_its_holder_is_killed(tmp_path: Path):
    path = tmp_path / "lock"
    script = (
        "import sys, pathlib; from tagmask.files import locked\n"
        "with locked(pathlib.Path(sys.argv[1])): print(flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", script, str(path)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    holder.stdout.readline()
    with pytest.raises(BlockingIOError), files.locked(path, wait=False):
        pass
    holder.kill()
    with files.locked(path):
        assert path.is_file()
    holder.communicate()


def test_a_lock_whose_file_cannot_be_opened(tmp_path: Path):
    (tmp_path / "lock").mkdir()
    with pytest.raises(OSError, match="lock"), files.locked(tmp_path / "lock"):
        pass


def test_a_document_is_read_or_its_fault_named(tmp_path: Path):
    class Version(BaseModel):
        number: int

    path = tmp_path / "version.json"
    assert files.read_model(path, Version, error=RunError, remedy="remove it") is None
    path.write_text('{"number": 3}')
    assert files.read_model(path, Version, error=RunError, remedy="remove it") == Version(number=3)
    path.write_text('{"number": "x"}')
    with pytest.raises(RunError, match=r"version\.json: damaged number \(.*\); remove it"):
        files.read_model(path, Version, error=RunError, remedy="remove it")


def test_only_regular_files_are_opened(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "folder").mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        for name in ("pipe", "link", "zero", "folder", "socket"):
            with pytest.raises(files.UnfitFileError) as refused:
                files.read_bytes(tmp_path / name)
            assert files.read_fault(refused.value) == "is not a regular file; replace or remove it"
            assert files.read_fault(refused.value, "name a list") == "is not a regular file; name a list"


def test_a_folder_is_not_replaced_even_if_it_is_a_link(tmp_path: Path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    for name in ("folder", "link"):
        with pytest.raises(IsADirectoryError):
            files.write_text(tmp_path / name, "text")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "link"]
    assert (tmp_path / "link").is_symlink()


def test_the_size_is_judged_before_reading(tmp_path: Path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"abc")
    assert files.read_bytes(path, 3) == b"abc"
    with pytest.raises(files.UnfitFileError) as refused:
        files.read_bytes(path, 2)
    assert files.read_fault(refused.value) == "has 3 bytes, more than 2; make it smaller or remove it"
    with pytest.raises(FileNotFoundError) as absent:
        files.read_bytes(tmp_path / "absent")
    assert files.read_fault(absent.value) == "cannot be read (No such file or directory); make it readable or remove it"


def test_a_text_is_read_as_utf_8_with_any_line_ends(tmp_path: Path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfa\r\nb\rc\n\xc3\xa4")
    assert files.read_text(tmp_path / "a.txt") == "a\nb\nc\nä"


def test_a_png_is_read_as_it_is_stored_and_nothing_else_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    values = np.array([[0, 65535]], dtype=np.uint16)
    files.write_png(tmp_path / "a.png", Image.fromarray(values))
    assert (np.array(files.read_png(tmp_path / "a.png")) == values).all()
    (tmp_path / "cut.png").write_bytes((tmp_path / "a.png").read_bytes()[:-30])
    (tmp_path / "eps.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 2 1\n%%EndComments\n")
    for name in ("cut.png", "eps.png"):
        with pytest.raises(ValueError, match="not a PNG that can be read"):
            files.read_png(tmp_path / name)
    monkeypatch.setattr(files, "MAX_PNG_PIXELS", 1)
    with pytest.raises(ValueError, match="2x1 pixels, more than 1"):
        files.read_png(tmp_path / "a.png")
