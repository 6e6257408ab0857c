import errno
import os
from pathlib import Path

import pytest

from tagmask.disk import writable
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
