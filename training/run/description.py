"""run.json, the data and settings of a run, and photos.json, the photos that it learns from. Needs no torch."""

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field, TypeAdapter

from tagmask import files
from tagmask.disk import unwritable
from tagmask.errors import RunError
from training.config import TrainConfig
from training.datasets.held_out import choose_held_out
from training.datasets.photos import TaggedPhotos
from training.run.layout import Layout
from training.run.learned import read_corrected

if TYPE_CHECKING:
    from training.run.start import Start

_PHOTOS = TypeAdapter(TaggedPhotos)


class Description(BaseModel, frozen=True):
    """Data and settings of a run; it resumes only if they are unchanged."""

    data_digest: str = Field(description="SHA-256 of the tagged photos, hex")
    photos: int
    corrected: int = Field(0, description="photos of which people vouch for pixels")
    held_out: tuple[str, ...] = Field((), description="those of them whose corrections are held out, by id")
    hinted: int = Field(0, description="photos with a mask that another model made")
    classes: tuple[str, ...] = Field(description="learned classes, without background")
    settings: TrainConfig
    start: str | None = Field(None, description="SHA-256 of the networks that it starts from, hex")


@dataclass(frozen=True)
class RunReference:
    """Where another process finds a run of which it computes single stages.

    `run` is its folder, with run.json; `photos` the list that it learns from; `start` a finished run to start from;
    `device` "auto", "cpu" or "cuda".
    """

    run: Path
    photos: Path
    start: Path | None = None
    device: str = "auto"


def describe(data: TaggedPhotos, data_digest: str, config: TrainConfig, start: "Start | None") -> Description:
    """The description of a run on `data`, whose digest is given, from the networks of `start`, if any.

    Raises OSError for a corrected photo that cannot be read, and RunError for a damaged record of `start`.
    """
    learned = read_corrected(Layout(start.root)) if start else frozenset()
    return Description(
        data_digest=data_digest,
        photos=len(data.photos),
        corrected=data.corrected,
        held_out=choose_held_out(data, config.corrections.held_out, learned),
        hinted=data.hinted,
        classes=data.classes,
        settings=config,
        start=start.digest() if start else None,
    )


def read_description(layout: Layout) -> Description:
    """Data and settings of a run. Raises RunError if the folder holds no run, or they cannot be read."""
    remedy = "train again into another folder"
    description = files.read_model(layout.description, Description, error=RunError, remedy=remedy)
    if description is None:
        raise RunError(
            f"{layout.root}: not a run, as it has no {layout.description.name}; name the --out of a training"
        )
    return description


@contextmanager
def begin_or_resume(layout: Layout, description: Description, resume: bool) -> Iterator[None]:
    """Write `description`, or check that the run in the folder has the same; no other training may write meanwhile.

    Raises RunError if another training is writing to the folder, if it holds other files or cannot be written, or holds
    a run and `resume` is not set, or a run of other data or settings.
    """
    with _locked(layout):
        files.remove_unfinished(layout.root)
        _begin_or_check(layout, description, resume)
        yield


@contextmanager
def _locked(layout: Layout) -> Iterator[None]:
    with ExitStack() as stack:
        try:
            layout.root.mkdir(parents=True, exist_ok=True)
            own = {layout.lock, *files.unfinished(layout.root)}
            if not layout.description.is_file() and set(layout.root.iterdir()) - own:
                raise RunError(f"{layout.root}: holds other files; give an empty or new folder as --out")
            stack.enter_context(files.locked(layout.lock, wait=False))
        except BlockingIOError as fault:
            raise RunError(
                f"{layout.root}: another training is writing to it; wait until it ends, or give another --out"
            ) from fault
        except OSError as fault:
            raise unwritable(layout.root, fault) from fault
        yield


def _begin_or_check(layout: Layout, description: Description, resume: bool) -> None:
    if not layout.description.is_file():
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
    """The first difference in words: a setting by its dotted name, with both values."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in sorted(before.keys() | now.keys()):
            if before.get(key) != now.get(key):
                return _difference(before.get(key), now.get(key), key if name == "settings" else f"{name}.{key}")
    if name == "data_digest":
        return "the photos, their tags, corrections or hints"
    if name == "start":
        return "the run to start from"
    return f"{name} (from {before} to {now})"


def write_photos(layout: Layout, data: TaggedPhotos) -> None:
    """Record the photos of a run, their tags and paths, for reports, unless the record is the same already."""
    photos = (replace(each, path=each.path.absolute(), mask=each.mask and each.mask.absolute()) for each in data.photos)
    absolute = replace(data, root=data.root.absolute(), photos=tuple(photos))
    text = json.dumps(asdict(absolute), default=str) + "\n"
    if not layout.photos.is_file() or layout.photos.read_bytes() != text.encode():
        files.write_text(layout.photos, text)


def read_photos(layout: Layout) -> TaggedPhotos | None:
    """The photos of a run, as they were when it began; None if they were not recorded.

    Raises RunError if the record cannot be read.
    """
    try:
        return _PHOTOS.validate_python(json.loads(files.read_bytes(layout.photos)))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as fault:
        raise RunError(f"{layout.photos}: damaged or not readable; remove it and name the photos instead") from fault
