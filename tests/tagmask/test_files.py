from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tagmask import files


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
