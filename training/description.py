"""run.json: what a run was asked for. Needs no torch."""

from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from training.config import TrainConfig
from training.errors import RunError
from training.layout import Layout


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
