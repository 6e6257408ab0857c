import errno
import os
import re
import tempfile
from pathlib import Path

import pytest

from tagmask.disk import temporary_files, writable
from tagmask.errors import RunError


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "free disk space"),
        (errno.EACCES, "grant this process write access"),
        (errno.ENOTDIR, "choose another folder"),
        (errno.ELOOP, "choose another folder"),
        (errno.EFBIG, "choose another folder"),
    ],
)
def test_the_remedy_fits_the_cause(number: int, remedy: str):
    why = os.strerror(number)
    with (
        pytest.raises(RunError, match=rf"^out: cannot be written \({why}\); {remedy} and start again$"),
        writable(Path("out")),
    ):
        raise OSError(number, why)


def test_what_is_not_about_writing_is_left_alone():
    with pytest.raises(FileNotFoundError), writable(Path("out")):
        raise FileNotFoundError(errno.ENOENT, "no photo")


def test_a_machine_without_a_folder_for_temporary_files_is_told_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: [str(tmp_path / "gone")])
    why = re.escape(f"No usable temporary directory found in ['{tmp_path}/gone']; free disk space in one of them, or ")
    with pytest.raises(RunError, match=f"^{why}set TMPDIR to a folder that this process can write$"), temporary_files():
        tempfile.gettempdir()


def test_a_missing_file_is_no_matter_of_temporary_files(tmp_path: Path):
    with pytest.raises(FileNotFoundError), temporary_files():
        (tmp_path / "gone").read_bytes()
