"""What a long computation tells of itself while it runs."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

Advance = Callable[[int], None]
"""Called with the number of photos done since the last call."""


def silent(photos: int) -> None:
    """An `Advance` that tells nobody."""


class Progress(Protocol):
    """Somebody who shows progress: a terminal, a workflow's user interface, a log."""

    def stage(self, name: str, total: int) -> AbstractContextManager[Advance]:
        """Show stage `name` of `total` photos while the context is open."""


class Silent:
    """Shows nothing."""

    def stage(self, name: str, total: int) -> AbstractContextManager[Advance]:
        return nullcontext(silent)
