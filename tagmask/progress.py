"""Progress of a long computation, which calls an `Advance`; a `Progress` shows it."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

Advance = Callable[[int], None]
"""Called with the number of photos done since the last call."""


def silent(photos: int) -> None:
    """An `Advance` that shows nothing."""


class Progress(Protocol):
    """Shows progress: in a terminal, in a workflow's user interface, in a log."""

    def stage(self, name: str, total: int) -> AbstractContextManager[Advance]:
        """Show stage `name` of `total` photos while the context is open."""


class Silent:
    """A `Progress` that shows nothing."""

    def stage(self, name: str, total: int) -> AbstractContextManager[Advance]:
        return nullcontext(silent)
