"""Figures of masks compared with true masks."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self


@dataclass(frozen=True)
class Scores:
    """PASCAL VOC figures of one set of masks: percent 0..100, None for a class that neither truth nor prediction has.

    `photos` is the number of photos compared. `extra` counts predictions without a truth, `missing` truths without a
    prediction; neither is scored.
    """

    miou: float | None
    iou: Mapping[str, float | None]
    photos: int
    extra: int = 0
    missing: int = 0

    def to_json(self) -> dict[str, object]:
        """`{"miou": 0..100, "iou": {class: 0..100 or null}, "photos": n, "missing": n}`."""
        return {"miou": self.miou, "iou": dict(self.iou), "photos": self.photos, "missing": self.missing}


@dataclass(frozen=True)
class Evaluation:
    """Figures of one bundle on the same photos, choosing among all scored classes, or among a photo's tags."""

    without_tags: Scores
    with_tags: Scores

    def to_json(self) -> dict[str, object]:
        """`{"without_tags": {"miou": 0..100, "iou": {class: 0..100 or null}}, "with_tags": {…}}`."""
        return {
            "without_tags": {"miou": self.without_tags.miou, "iou": dict(self.without_tags.iou)},
            "with_tags": {"miou": self.with_tags.miou, "iou": dict(self.with_tags.iou)},
        }


@dataclass(frozen=True)
class Interval:
    """A figure in percent, or the difference of two in points, and its 95% confidence interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.0f} ({self.low:.0f} to {self.high:.0f})"


@dataclass(frozen=True)
class Measured:
    """The mIoU of a bundle on `photos` corrected photos whose corrections it did not learn from."""

    photos: int
    without_tags: Interval
    with_tags: Interval

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """The figures from their fields as JSON values."""
        return cls(values["photos"], Interval(**values["without_tags"]), Interval(**values["with_tags"]))

    def __str__(self) -> str:
        return (
            f"measured on {self.photos:,} corrected photos: mIoU {self.with_tags} with tags given, "
            f"{self.without_tags} without"
        )
