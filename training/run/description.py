"""run.json: what a run was asked for, and photos.json: the photos that it learns from. Needs no torch."""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from tagmask import files
from tagmask.errors import RunError
from training.config import TrainConfig
from training.datasets.photos import TaggedPhotos
from training.run.layout import Layout

_PHOTOS = TypeAdapter(TaggedPhotos)


class Description(BaseModel):
    """What a run learns from, and how; a run goes on only where this is the same."""

    model_config = ConfigDict(frozen=True)

    data_digest: str = Field(description="SHA-256 of the tagged photos, hex")
    photos: int
    classes: tuple[str, ...] = Field(description="learned classes, without background")
    settings: TrainConfig
    start: str | None = Field(None, description="SHA-256 of the networks that it goes on from, hex")


@dataclass(frozen=True)
class Apart:
    """A run whose steps are run apart from one another.

    `run` is its folder, with run.json; `photos` the list that it learns from; `start` a finished run to go on from;
    `device` "auto", "cpu" or "cuda".
    """

    run: Path
    photos: Path
    start: Path | None = None
    device: str = "auto"


def read_description(layout: Layout) -> Description:
    """What a run was asked for. Raises RunError when there is none, or it cannot be read."""
    try:
        return Description.model_validate_json(layout.description.read_bytes())
    except (OSError, ValueError) as fault:
        raise RunError(f"{layout.description}: cannot be read ({fault}); start anew with another --out") from fault


def write_photos(layout: Layout, data: TaggedPhotos) -> None:
    """Note which photos a run learns from, their tags, and where they lie, so that it can be looked at later."""
    photos = (replace(each, path=each.path.absolute(), mask=each.mask and each.mask.absolute()) for each in data.photos)
    noted = replace(data, root=data.root.absolute(), photos=tuple(photos))
    files.write_text(layout.photos, json.dumps(asdict(noted), default=str) + "\n")


def read_photos(layout: Layout) -> TaggedPhotos | None:
    """The photos that a run learns from, as they were when it began; None where it did not note them.

    Raises RunError when the note cannot be read.
    """
    try:
        return _PHOTOS.validate_python(json.loads(layout.photos.read_bytes()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as fault:
        raise RunError(f"{layout.photos}: damaged, or not readable; remove it, and name the photos instead") from fault
