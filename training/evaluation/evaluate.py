"""Accuracy of a bundle on photos with true masks: without tags, which is the honest figure, and with their tags."""

from collections.abc import Sequence

from tagmask.classes import spell
from tagmask.crf import CrfConfig
from tagmask.errors import DataError
from tagmask.masks import BACKGROUND, read_mask
from tagmask.photos import read_photo
from tagmask.prediction import Prediction
from tagmask.progress import Progress, Silent
from tagmask.scores import Evaluation
from tagmask.segmentation import Pixels
from tagmask.segmenter import Segmenter
from training.datasets.photos import TaggedPhotos
from training.evaluation.measure import truth_table
from training.evaluation.metrics import Confusion, scores_of


def evaluate(
    segmenter: Segmenter,
    data: TaggedPhotos,
    *,
    classes: Sequence[str] | None = None,
    crf: CrfConfig | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Compare the bundle's masks with the true masks, as `confusions` does; by default of all classes of the model."""
    chosen = spell(classes, segmenter.classes) if classes else segmenter.classes[1:]
    photos, *totals = confusions(segmenter, data, chosen, crf, progress or Silent(), "segmenting")
    without_tags, with_tags = (scores_of(total, (BACKGROUND, *chosen), photos) for total in totals)
    return Evaluation(without_tags, with_tags)


def confusions(
    segmenter: Segmenter,
    data: TaggedPhotos,
    classes: Sequence[str],
    crf: CrfConfig | None,
    progress: Progress,
    title: str,
) -> tuple[int, Confusion, Confusion]:
    """Number of photos, and confusion of the bundle's masks with the true masks, without tags and with tags.

    `classes` names the foreground classes to score; background comes first in the figures. Other classes are excluded
    on both sides: their true pixels are void, and the network chooses among background and `classes`. Photos without a
    mask, or whose tags are all others than `classes`, are left out, so that the figures do not depend on the tags that
    `data` was loaded with. Masks are compared at the size of the true mask. With `crf` DenseCRF runs twice per photo,
    which takes longer than the network. Both masks are from one inference per photo; `title` is the stage that
    `progress` shows.

    Raises DataError for a class that the model or the true masks do not have, and when no photo has a true mask.
    """
    data, classes = data.respelled(segmenter.classes), spell(classes, segmenter.classes)
    _check_classes(segmenter, data, classes)
    photos = [photo for photo in data.relevant(classes) if photo.mask is not None]
    if not photos:
        tagged = f" and a tag of {', '.join(classes)}" if data.mask_classes else ""
        raise DataError(f"{data.name}: no photo with a true mask{tagged}; evaluate on data, or a split, that has some")
    truths = truth_table(data.mask_classes, classes)
    rows = truth_table(segmenter.classes, classes)  # label of the model -> row of the confusion
    without_tags, with_tags = Confusion(len(classes) + 1), Confusion(len(classes) + 1)
    with progress.stage(title, len(photos)) as advance:
        for photo in photos:
            assert photo.mask is not None
            truth = truths[read_mask(photo.mask)]
            size = (truth.shape[0], truth.shape[1])
            prediction = segmenter.predict(read_photo(photo.path))
            tags = [tag for tag in photo.tags if tag in classes]
            masks = both_masks(prediction, segmenter, tags, size, classes, crf)
            for total, mask in zip((without_tags, with_tags), masks, strict=True):
                total.add(rows[mask], truth)
            advance(1)
    return len(photos), without_tags, with_tags


def both_masks(
    prediction: Prediction,
    segmenter: Segmenter,
    tags: Sequence[str],
    size: tuple[int, int],
    classes: Sequence[str] = (),
    crf: CrfConfig | None = None,
) -> tuple[Pixels, Pixels]:
    """The masks of one prediction, choosing among `classes`, by default all, and among `tags`: (H, W) uint8 labels."""
    own = segmenter.labels_of(tags) if tags else (0,)
    return prediction.mask(segmenter.labels_of(classes), size, crf), prediction.mask(own, size, crf, tagged=True)


def _check_classes(segmenter: Segmenter, data: TaggedPhotos, classes: Sequence[str]) -> None:
    if not data.mask_classes:
        raise DataError(f"{data.name}: no true masks, so nothing to compare with; evaluate on data that has them")
    for name in classes:
        for owner, known in (("the model", segmenter.classes[1:]), ("the true masks", data.mask_classes[1:])):
            if name not in known:
                raise DataError(
                    f"class {name!r} is unknown to {owner}, known are {', '.join(known)}; "
                    "name the classes to score with --classes"
                )
    if len(set(classes)) < len(classes):
        raise DataError("a class to score is named twice; name it once")
