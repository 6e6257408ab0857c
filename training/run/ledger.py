"""The ledger: a line per finished stage with its cost and quality, by which a run resumes and keeps a round."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tagmask import files
from tagmask.errors import RunError

Line = Mapping[str, Any]
"""{"round": int, "stage": str, "photos": int, "seconds": float, ...}; quality figures are shares 0..1, mIoU 0..100."""


class Ledger:
    """A JSON Lines file that only grows; each line is written completely or not at all."""

    def __init__(self, path: Path) -> None:
        """Open the ledger at `path` with its lines, if it exists. Raises RunError if it is damaged."""
        self.path = path
        self._lines: list[Line] = []
        self.reload()

    def reload(self) -> None:
        """Read the file again, as another process may have added lines. Raises RunError if it is damaged."""
        path = self.path
        try:
            text = path.read_text(encoding="utf-8") if path.is_file() else ""
            lines = [json.loads(line) for line in text.splitlines()]
            if not all(isinstance(line, dict) and {"round", "stage"} <= line.keys() for line in lines):
                raise ValueError("a line has no round or no stage")
            self._lines = lines
        except ValueError as fault:  # includes JSONDecodeError and UnicodeDecodeError
            raise RunError(f"{path}: damaged ({fault}); start the run again in another folder") from fault

    def __iter__(self) -> Iterator[Line]:
        return iter(self._lines)

    def find(self, number: int, stage: str) -> Line | None:
        """The line of `stage` in round `number`; None until it has finished."""
        return next((line for line in self._lines if line["round"] == number and line["stage"] == stage), None)

    def add(self, number: int, stage: str, **figures: Any) -> Line:
        """Append a line and return it."""
        line = {"round": number, "stage": stage, **figures}
        lines = [*self._lines, line]
        files.write_text(self.path, "".join(json.dumps(each) + "\n" for each in lines))
        self._lines = lines
        return line


def remark(line: Line) -> str:
    """A line's figures besides cost and mIoU, for tables of stages."""
    if line["stage"] == "decision":
        quality = ", ".join(f"{name} {line[name]:.3f}" for name in ("consistency", "coverage", "agreement"))
        verdict = ("kept as the first" if line["why"] else "kept") if line["kept"] else "dropped"
        return f"{': '.join(filter(None, (verdict, line['why'])))}; {quality}"
    if line["stage"] == "seeds" and "precision" in line:
        return f"precision {line['precision']:.1f}, of {line['sure']:.1f}% of the pixels"
    if line["stage"] == "saliency" and "normalization" in line:
        return f"normalization {line['normalization']}: {line['why']}"
    return f"loss {line['losses'][0]:.3f} to {line['losses'][-1]:.3f}" if line.get("losses") else ""
