"""Beginning a run in a new folder, or resuming the one that a folder holds."""

from typing import Any

from tagmask import files
from tagmask.errors import RunError
from training.run.description import Description, read_description
from training.run.layout import Layout


def begin_or_resume(layout: Layout, description: Description, resume: bool) -> None:
    """Write `description`, or check that the run in the folder has the same.

    Raises RunError if the folder holds other files, a run and `resume` is not set, or a run of other data or settings.
    """
    files.remove_unfinished(layout.root)
    if not layout.description.is_file():
        if layout.root.is_dir() and any(layout.root.iterdir()):
            raise RunError(f"{layout.root}: holds other files; give an empty or new folder as --out")
        files.write_text(layout.description, description.model_dump_json(indent=2) + "\n")
        return
    if not resume:
        raise RunError(f"{layout.root}: holds a run already; add --resume to continue it, or give another --out")
    before, now = read_description(layout).model_dump(mode="json"), description.model_dump(mode="json")
    for name in ("classes", "data_digest", "settings", "start"):  # the data digest covers the classes too
        if before[name] != now[name]:
            difference = _difference(before[name], now[name], name)
            raise RunError(f"{layout.root}: cannot be resumed, {difference} changed; undo that, or give another --out")


def _difference(before: Any, now: Any, name: str) -> str:
    """What differs, for people: the first setting by its dotted name, with both values."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in sorted(before.keys() | now.keys()):
            if before.get(key) != now.get(key):
                return _difference(before.get(key), now.get(key), key if name == "settings" else f"{name}.{key}")
    if name == "data_digest":
        return "the photos or their tags"
    if name == "start":
        return "the run to start from"
    return f"{name} (from {before} to {now})"
