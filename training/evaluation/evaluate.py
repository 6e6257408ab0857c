"""How good a bundle is on photos with true masks, without tags given (the honest figure) and with tags given."""

from collections.abc import Sequence
from dataclasses import dataclass

from tagmask.crf import CrfConfig
from tagmask.errors import DataError
from tagmask.masks import BACKGROUND, read_mask
from tagmask.photos import read_photo
from tagmask.progress import Advance, silent
from tagmask.segmenter import Segmenter
from training.datasets.photos import Photo, TaggedPhotos
from training.evaluation.measure import truth_table
from training.evaluation.metrics import Confusion, Scores


@dataclass(frozen=True)
class Evaluation:
    """VOC figures of one bundle on the same photos, choosing among all scored classes, or among a photo's tags."""

    without_tags: Scores
    with_tags: Scores

    def to_json(self) -> dict[str, object]:
        """`{"without_tags": {"miou": 0..100, "iou": {class: 0..100 or null}}, "with_tags": {…}}`."""
        return {
            "without_tags": {"miou": self.without_tags.miou, "iou": dict(self.without_tags.iou)},
            "with_tags": {"miou": self.with_tags.miou, "iou": dict(self.with_tags.iou)},
        }


def scored_photos(data: TaggedPhotos, classes: Sequence[str]) -> list[Photo]:
    """The photos of `data` that `evaluate` looks at: with a mask, and with a tag of `classes`."""
    return [photo for photo in data.photos if photo.mask is not None and not set(classes).isdisjoint(photo.tags)]


def evaluate(
    segmenter: Segmenter,
    data: TaggedPhotos,
    *,
    classes: Sequence[str] | None = None,
    crf: CrfConfig | None = None,
    advance: Advance = silent,
) -> Evaluation:
    """Compare the bundle's masks with the true ones, as `confusions` does."""
    chosen = _chosen(segmenter, classes)
    without_tags, with_tags = confusions(segmenter, data, classes=chosen, crf=crf, advance=advance)
    names, photos = (BACKGROUND, *chosen), len(scored_photos(data, chosen))
    return Evaluation(Scores.of(without_tags, names, photos), Scores.of(with_tags, names, photos))


def confusions(
    segmenter: Segmenter,
    data: TaggedPhotos,
    *,
    classes: Sequence[str] | None = None,
    crf: CrfConfig | None = None,
    advance: Advance = silent,
) -> tuple[Confusion, Confusion]:
    """Confusion of the bundle's masks with the true ones, without tags given and with; one inference serves both.

    `classes` names the foreground classes to score, None all of the model's; background comes first in the figures.
    Neither truth nor prediction knows others: true pixels of other classes are void, and the network chooses among
    background and `classes`. Photos without a mask or without a tag of `classes` are left out, so that the figure does
    not depend on which tags `data` was loaded with. Masks are compared at the true ones' own size. With `crf` DenseCRF
    runs twice a photo, which takes longer than the network. `advance(1)` follows each photo.

    Raises DataError for a class that the model or the masks do not know, and when no photo has a mask.
    """
    chosen = _chosen(segmenter, classes)
    _check_classes(segmenter, data, chosen)
    photos = scored_photos(data, chosen)
    if not photos:
        tagged = f" and a tag of {', '.join(chosen)}" if data.mask_classes else ""
        raise DataError(f"{data.root}: no photo with a true mask{tagged}; evaluate on data, or a split, that has some")
    truths = truth_table(data.mask_classes, chosen)
    rows = truth_table(segmenter.classes, chosen)  # label of the model -> row of the confusion
    without_tags, with_tags = Confusion(len(chosen) + 1), Confusion(len(chosen) + 1)
    for photo in photos:
        assert photo.mask is not None
        truth = truths[read_mask(photo.mask)]
        size = (truth.shape[0], truth.shape[1])
        prediction = segmenter.predict(read_photo(photo.path))
        tags = [tag for tag in photo.tags if tag in chosen]
        for total, names in ((without_tags, chosen), (with_tags, tags)):
            total.add(rows[prediction.mask(segmenter.labels_of(names), size, crf)], truth)
        advance(1)
    return without_tags, with_tags


def _chosen(segmenter: Segmenter, classes: Sequence[str] | None) -> tuple[str, ...]:
    return segmenter.classes[1:] if classes is None else tuple(classes)


def _check_classes(segmenter: Segmenter, data: TaggedPhotos, classes: Sequence[str]) -> None:
    if not data.mask_classes:
        raise DataError(f"{data.root}: no true masks, so nothing to compare with; evaluate on data that has them")
    for name in classes:
        for owner, known in (("the model", segmenter.classes[1:]), ("the true masks", data.mask_classes[1:])):
            if name not in known:
                raise DataError(
                    f"class {name!r} is unknown to {owner}, known are {', '.join(known)}; "
                    "name the classes to score with --classes"
                )
    if not classes or len(set(classes)) < len(classes):
        raise DataError("the classes to score must be at least one, each named once")
