"""The folder that the flows keep everything in, and the lock that lets one flow at a time work in it.

WORKSPACE/
  lock                            held by the flow that is at work; names its run
  data/                           all photos ever taken in, each once: flows/collection
    catalogue.sqlite              what is known of each photo and where it came from
    photos/<aa>/<sha256>.jpg      the bytes as they came
    quarantine/<sha256>.jpg|json  what cannot be learned from, and why
    <digest>.jsonl                a version of the data set, readable by `tagmask train`
    <digest>.held-out.jsonl       its photos that only compare models
  stages/<stage>-<key>/           what a stage wrote, by the digest of all that went into it
  runs/<key>/                     one training: its ledger, its bundle, and links to its stages: training/run/layout.py
  weights/<version>/              networks of a published bundle, to start from
  training.json, last.json        the training that is not finished yet, and the last that is: flows/memory.py
  store/                          bundles by version, and the champion (unless another store is named)
"""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tagmask.errors import RunError
from training.run.layout import Layout

UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)
"""What the system says when it does not let files be written."""


class Busy(RunError):
    """Another flow is at work in the workspace."""


@dataclass(frozen=True)
class Workspace:
    """Paths below one workspace folder."""

    root: Path

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def photos(self) -> Path:
        return self.data / "photos"

    @property
    def quarantine(self) -> Path:
        return self.data / "quarantine"

    @property
    def stages(self) -> Path:
        return self.root / "stages"

    @property
    def runs(self) -> Path:
        return self.root / "runs"

    @property
    def store(self) -> Path:
        return self.root / "store"

    def run(self, key: str) -> Layout:
        return Layout(self.runs / key)

    def weights(self, version: str) -> Path:
        return self.root / "weights" / version

    @contextmanager
    def alone(self, name: str, *, wait: bool) -> Iterator[None]:
        """Hold the workspace while the context is open; `name` says to others who has it.

        The system lets go of it when this process ends, however it ends. With `wait` it is waited for. Raises Busy,
        naming the flow that has it, without `wait`; RunError when the folder cannot be written.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as fault:
            raise RunError(
                f"workspace {self.root}: cannot be written ({fault.strerror}); grant access to it, or name another one"
            ) from fault
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError as fault:
                other = os.pread(handle, 200, 0).decode(errors="replace") or "another flow"
                raise Busy(f"workspace {self.root}: {other} is at work in it; wait for it to end") from fault
            os.ftruncate(handle, 0)
            os.pwrite(handle, name.encode(), 0)
            yield
        finally:
            os.close(handle)
