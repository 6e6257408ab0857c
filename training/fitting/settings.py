"""Settings and result of a training."""

from dataclasses import dataclass
from math import ceil
from typing import Self

from pydantic import BaseModel, Field

BALANCED = 256
"""Photos at most on which a network is balanced after its training; see training/fitting/balance.py."""

REGRESSED = 2048
"""Photos at most to which a tag head is fitted; see training/fitting/tag_regression.py."""


class FitConfig(BaseModel, frozen=True, extra="forbid"):
    """Epochs, steps and learning rates of one training."""

    epochs: int = Field(ge=1, le=1000, description="passes over the photos")
    tag_photos: int = Field(300, ge=1, le=1_000_000, description="photos per epoch of a more frequent tag, in turns")
    least_steps: int = Field(1, ge=1, le=1_000_000, description="least steps; small data sets get extra epochs")
    batch: int = Field(ge=1, le=4096, description="photos per step, over all processes together")
    learning_rate: float = Field(gt=0, le=1, description="AdamW step for new layers, falling to 0 as a half cosine")
    backbone_factor: float = Field(0.1, ge=0, le=1, description="learning rate of pretrained layers / that of new ones")
    weight_decay: float = Field(1e-2, ge=0, le=1, description="AdamW weight decay")

    def among(self, photos: int) -> Self:
        """The same with the epochs that `least_steps` requires when an epoch shows `photos` photos."""
        steps = max(1, ceil(photos / self.batch))  # per epoch
        return self.model_copy(update={"epochs": max(self.epochs, ceil(self.least_steps / steps)), "least_steps": 1})


@dataclass(frozen=True)
class FitResult:
    """Total seconds, the share of them spent waiting for data (0..1), and the mean loss of each epoch."""

    seconds: float
    waiting: float
    losses: tuple[float, ...]
