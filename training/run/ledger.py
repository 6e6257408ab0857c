"""The ledger: one line a finished stage, what it cost and how good it is; what resuming and choosing a round go by."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tagmask import files
from tagmask.errors import RunError

Line = Mapping[str, Any]
"""{"round": int, "stage": str, "photos": int, "seconds": float, ...}; quality figures are shares 0..1, mIoU 0..100."""


class Ledger:
    """An append-only JSON Lines file; a line is there whole or not at all."""

    def __init__(self, path: Path) -> None:
        """Open the ledger at `path`, with the lines it has. Raises RunError when a line is not one of a ledger."""
        self.path = path
        self._lines: list[Line] = []
        self.reload()

    def reload(self) -> None:
        """Read the file again, as another process may have added lines. Raises RunError as opening does."""
        path = self.path
        try:
            text = path.read_text(encoding="utf-8") if path.is_file() else ""
            lines = [json.loads(line) for line in text.splitlines()]
            if not all(isinstance(line, dict) and {"round", "stage"} <= line.keys() for line in lines):
                raise ValueError("a line is not a stage of a round")
            self._lines = lines
        except ValueError as fault:  # JSONDecodeError and UnicodeDecodeError are ones
            raise RunError(f"{path}: damaged ({fault}); start the run anew in another folder") from fault

    def __iter__(self) -> Iterator[Line]:
        return iter(self._lines)

    def find(self, number: int, stage: str) -> Line | None:
        """The line of `stage` in round `number`, or None while it has not finished."""
        return next((line for line in self._lines if line["round"] == number and line["stage"] == stage), None)

    def add(self, number: int, stage: str, **figures: Any) -> Line:
        """Append a line and return it."""
        line = {"round": number, "stage": stage, **figures}
        lines = [*self._lines, line]
        files.write_text(self.path, "".join(json.dumps(each) + "\n" for each in lines))
        self._lines = lines
        return line


def remark(line: Line) -> str:
    """What a line of a table of stages says beyond cost and mIoU."""
    if line["stage"] == "decision":
        quality = ", ".join(f"{name} {line[name]:.3f}" for name in ("consistency", "coverage", "agreement"))
        return f"{'kept' if line['kept'] else 'dropped: ' + line['why']}; {quality}"
    if line["stage"] == "seeds" and "precision" in line:
        return f"precision {line['precision']:.1f}, of {line['sure']:.1f}% of the pixels"
    return f"loss {line['losses'][0]:.3f} to {line['losses'][-1]:.3f}" if line.get("losses") else ""
