"""The decision: how good a round's masks are, and whether the round is kept, judged without pixel labels.

Reads superpixels, evidence, the masks of the round and of the round before; in the first round, its labels. Writes only
its line in the ledger.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pydantic import BaseModel, Field

from tagmask.masks import VOID
from training.datasets.photos import Photo, TaggedPhotos
from training.evaluation.estimate import Estimate, SignCounter, estimate
from training.evaluation.painted import LOSS, Painted, vanished
from training.stages import labels
from training.stages.base import Stage, StageId
from training.stages.evidence import add_signs
from training.stages.masks import full_mask, seen_labels, small_mask


class DecisionConfig(BaseModel, frozen=True, extra="forbid"):
    """When a round is worse than the one before, and therefore dropped."""

    consistency_loss: float = Field(0.05, ge=0, le=1, description="greatest drop of tag consistency (F1, 0..1)")
    coverage_change: float = Field(1.5, ge=1, le=100, description="greatest factor between the rounds' coverages")
    agreement: float = Field(0.7, ge=0, le=1, description="least share of pixels labelled as in the round before")
    painted_loss: float = Field(
        LOSS, ge=0, le=1, description="greatest part that a class may lose of the photos on which it was painted"
    )


@dataclass(frozen=True)
class Decision(Stage):
    """Judges a round."""

    settings: DecisionConfig

    name = "decision"

    @property
    def reads(self) -> tuple[StageId, ...]:
        before = (1, "labels") if self.round == 1 else (self.round - 1, "masks")
        return (0, "superpixels"), (self.round, "evidence"), (self.round, "masks"), before

    def decide(self, data: TaggedPhotos, run: Path, previous: Mapping[str, Any] | None) -> dict[str, Any]:
        """The round's quality, whether it is "kept", and "why" it should not be, although the first round always is.

        `previous` has the quality of the round before; the classes of the first round are compared with its labels.
        """
        quality = asdict(round_quality(data, run, self.round))
        if previous is None:
            before = painted_shares(data, partial(labels.read, run=run, number=1))
        else:
            before = previous.get("painted", {})  # which runs of earlier versions lack
        faults = degradations(quality, previous, self.settings)
        if gone := vanished(before, quality["painted"], self.settings.painted_loss):
            faults.append("vanished: " + ", ".join(f"{name} ({shares})" for name, shares in gone.items()))
        return {**quality, "kept": not faults or self.round == 1, "why": "; ".join(faults)}


@dataclass(frozen=True)
class Quality:
    """A round's quality without pixel labels, each 0..1.

    `consistency`: F1 between the photos' tags and the classes seen without tags. `coverage`: mean share of
    a photo that its masks give to its tags. `agreement`: share of pixels with the label of the round before. `painted`:
    of the photos with each tag, the share on which its masks paint it. `estimate`: the IoU to expect, percent. Photos
    that show nothing count for consistency alone.
    """

    consistency: float
    coverage: float
    agreement: float
    painted: dict[str, float]
    estimate: Estimate


def round_quality(data: TaggedPhotos, run: Path, number: int) -> Quality:
    """Quality of round `number` by its masks; the first round is compared with its own labels."""
    hits = seen_total = tagged = 0
    coverage = agreement = 0.0
    painted, signs = Painted(data.classes), SignCounter(len(data.classes))
    for photo in data.photos:
        tags, seen = set(photo.labels(data.classes)), seen_labels(photo, run, number)
        hits, seen_total, tagged = hits + len(seen & tags), seen_total + len(seen), tagged + len(photo.tags)
        if not photo.tags:  # limited to its tags, its mask is empty in every round
            continue
        mask = small_mask(photo, run, number, data.classes)  # (h, w)
        coverage += float((mask > 0).mean())
        painted.add(mask, photo.tags)
        add_signs(signs, photo, run, number, data.classes, full_mask(photo, run, number, data.classes))
        if number == 1:
            before = cv2.resize(labels.read(photo, run, 1), mask.shape[::-1], interpolation=cv2.INTER_NEAREST)
        else:
            before = small_mask(photo, run, number - 1, data.classes)
        known = before != VOID
        agreement += float((mask == before)[known].mean()) if known.any() else 1.0
    photos = sum(bool(photo.tags) for photo in data.photos)
    return Quality(
        2 * hits / max(1, seen_total + tagged), coverage / photos, agreement / photos, painted.shares(),
        estimate(signs.signs(), data.classes),
    )  # fmt: skip


def painted_shares(data: TaggedPhotos, mask_of: Callable[[Photo], np.ndarray]) -> dict[str, float]:
    """`Quality.painted` of other masks: `mask_of` gives the (h, w) labels of a photo."""
    painted = Painted(data.classes)
    for photo in data.photos:
        if photo.tags:
            painted.add(mask_of(photo), photo.tags)
    return painted.shares()


def degradations(quality: Mapping[str, Any], previous: Mapping[str, Any] | None, config: DecisionConfig) -> list[str]:
    """Why a round is worse than the previous one, in words; empty if it is not."""
    if previous is None:
        return []
    faults = []
    if quality["consistency"] < previous["consistency"] - config.consistency_loss:
        faults.append(f"tag consistency fell from {previous['consistency']:.3f} to {quality['consistency']:.3f}")
    ratio = quality["coverage"] / max(previous["coverage"], 1e-6)
    if not 1 / config.coverage_change <= ratio <= config.coverage_change:
        faults.append(f"coverage went from {previous['coverage']:.3f} to {quality['coverage']:.3f}")
    if quality["agreement"] < config.agreement:
        faults.append(f"only {quality['agreement']:.3f} of the pixels agree with the round before")
    return faults
