"""What a stage is: an object with one name, whose fields are the settings that decide its result.

    Stage               one stage of one round
      PhotoStage        processes one photo at a time
        MaskStage       whose result can be shown as a mask
      NetworkStage      trains a network on all photos (training.stages.network)
      Decision          judges a round (training.stages.decision)

The name is used for the stage's folder, its table of settings, its line in the ledger, in reports and by `look`.
Importing a stage does not import torch: a stage with a network imports it when it runs, and says so by `needs_torch`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from training.datasets.photos import Photo, TaggedPhotos

StageId = tuple[int, str]
"""Round and name of a stage; round 0 holds the stages before the rounds."""


def folder(run: Path, number: int, name: str) -> Path:
    """Where stage `name` of round `number` writes: RUN/NAME before the rounds, then RUN/round-N/NAME."""
    return run / f"round-{number}" / name if number else run / name


@dataclass(frozen=True)
class Stage(ABC):
    """One stage of one round.

    Beside `round`, the fields are named like settings of the run (`long_side`, `seed`, …); `settings` is the table with
    the stage's own name. A stage sees no other settings, so its result depends on them, on the photos, on their tags if
    `tagged`, and on the stages that it `reads`.
    """

    round: int

    name: ClassVar[str]
    needs_torch: ClassVar[bool] = False
    tagged: ClassVar[bool] = True

    @classmethod
    def of(cls, config: BaseModel, number: int) -> Self:
        """The stage of round `number`, with its settings from `config`, a TrainConfig."""
        names = [field.name for field in fields(cls) if field.name != "round"]
        return cls(number, **{name: getattr(config, cls.name if name == "settings" else name) for name in names})

    @property
    def id(self) -> StageId:
        return self.round, self.name

    @property
    def title(self) -> str:
        """For display: "round 2: labels"."""
        return f"round {self.round}: {self.name}" if self.round else self.name

    @property
    @abstractmethod
    def reads(self) -> tuple[StageId, ...]:
        """The stages whose results it reads."""

    def values(self) -> dict[str, Any]:
        """Its settings by name, as JSON values."""
        names = (field.name for field in fields(self) if field.name != "round")
        return {self.name if name == "settings" else name: to_jsonable_python(getattr(self, name)) for name in names}

    def files(self) -> tuple[Path, ...]:
        """The files that its settings name, whose content decides its result."""
        return ()

    def folder(self, run: Path) -> Path:
        """Where it writes, in the folder of a run."""
        return folder(run, self.round, self.name)


@dataclass(frozen=True)
class PhotoStage(Stage):
    """A stage that processes one photo at a time. Its files are written atomically and never overwritten."""

    suffix: ClassVar[str] = ".png"

    @classmethod
    def file_of(cls, photo: Photo, run: Path, number: int = 0) -> Path:
        """The file of a photo in round `number`; the one written last if the stage writes several."""
        return folder(run, number, cls.name) / f"{photo.id}{cls.suffix}"

    def file(self, photo: Photo, run: Path) -> Path:
        return self.file_of(photo, run, self.round)

    def begin(self, data: TaggedPhotos, run: Path) -> dict[str, Any]:
        """What is done once, before the first photo; returns figures for the stage's line in the ledger."""
        return {}

    @abstractmethod
    def run(self, photo: Photo, run: Path, classes: tuple[str, ...], network: Any = None) -> None:
        """Read what the stages before wrote for `photo` and write its file; `network` is what `load` returned."""

    def picture(self, photo: Photo, pixels: np.ndarray, run: Path) -> np.ndarray | None:
        """A picture of the result, (H, W, 3) uint8 RGB like `pixels`, the photo; None to show the mask."""
        return None

    def load(self, run: Path, device: str) -> Any:
        """The network that `run` needs, on `device` ("cpu", "cuda:0"); None for a stage that needs no torch."""
        return None

    def prepare(self, run: Path, classes: tuple[str, ...], device: str = "cpu") -> Callable[[Photo], None]:
        """`run` for every photo without its file. Without torch it can be sent to another process."""
        return partial(self._run_once, run=run, classes=classes, network=self.load(run, device))

    def _run_once(self, photo: Photo, run: Path, classes: tuple[str, ...], network: Any) -> None:
        if not self.file(photo, run).is_file():
            self.run(photo, run, classes, network)


@dataclass(frozen=True)
class MaskStage(PhotoStage):
    """A stage whose result can be shown, and measured, as a mask; `sparse` if much of that is void."""

    sparse: ClassVar[bool] = False

    @abstractmethod
    def mask(self, photo: Photo, run: Path, classes: tuple[str, ...]) -> np.ndarray:
        """(H, W) uint8 labels, 255 void, at working size."""


def strongest(probabilities: np.ndarray, photo: Photo, classes: tuple[str, ...]) -> np.ndarray:
    """The label of greatest probability: (L, ...) of the photo's L labels -> (...) uint8."""
    return np.array(photo.labels(classes), dtype=np.uint8)[probabilities.argmax(axis=0)]
