"""Figures of masks compared with true masks."""

from collections.abc import Mapping
from dataclasses import dataclass


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
