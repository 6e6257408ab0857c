"""Comparison of two bundles on the same tagged photos: accuracy, agreement and time per photo. Needs no torch.

comparison = compare(Path("new.onnx"), Path("champion.onnx"), photos)
comparison.challenger.miou, comparison.champion.miou
"""

import hashlib
import statistics
import time
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import onnx
from pydantic import BaseModel, Field, computed_field

from tagmask.bundle import read_metadata
from tagmask.classes import spell
from tagmask.errors import BundleError, DataError, Fault
from tagmask.inputs import Precision
from tagmask.masks import BACKGROUND, MAX_CLASSES, read_mask
from tagmask.photos import read_photo
from tagmask.prediction import Prediction
from tagmask.progress import Advance, silent
from tagmask.scores import Interval
from tagmask.segmentation import Pixels
from tagmask.segmenter import Segmenter
from training.datasets.photos import Photo, TaggedPhotos
from training.evaluation.corrected import count_pixels, gain_interval, mious
from training.evaluation.measure import truth_table
from training.evaluation.metrics import Confusion
from training.evaluation.painted import Painted
from training.stages.masks import PRESENT

TIMED = 50
"""Most photos that the bundles are timed on."""

ENOUGH = 10
"""Corrected photos from which on bundles are compared by them."""


class Figures(BaseModel, frozen=True, allow_inf_nan=False):
    """Figures of one bundle."""

    version: str
    data_digest: str = Field(description="SHA-256 of the tagged training photos, hex")
    classes: tuple[str, ...] = Field(description="by label, background first")
    precision: Precision = Field(description="that of the bundle")
    bytes: int = Field(ge=1, description="size of its file")
    seconds: float = Field(gt=0, description="median time per photo, from pixels to probabilities")
    graph: str = Field(description="SHA-256 of what is computed per photo, whatever the weights are, hex")
    iou: dict[str, float] = Field(description="without tags, 0..100; of the classes in the true masks")
    consistency: float = Field(ge=0, le=1, description="F1 of the tags and the classes predicted without tags")
    coverage: float | None = Field(ge=0, le=1, description="mean share of a photo's pixels labelled as its tags")
    painted: dict[str, float] = Field(description="share of the photos with the tag on which it is painted, 0..1")
    estimated_iou: dict[str, float] = Field(
        default_factory=dict,
        description="to expect with tags, estimated on the training photos, 0..100; empty: unknown",
    )

    @computed_field(description="mean of `iou`, 0..100")  # type: ignore[prop-decorator]
    @property
    def miou(self) -> float | None:
        return statistics.fmean(self.iou.values()) if self.iou else None


class Gain(BaseModel, frozen=True, allow_inf_nan=False):
    """mIoU of two bundles without tags, 0..100, on corrected photos, over the classes that both know."""

    photos: int = Field(ge=ENOUGH, description="corrected photos from whose corrections neither learned")
    challenger: float
    champion: float
    gain: Interval = Field(description="challenger minus champion, in points, with its 95% interval")


class Comparison(BaseModel, frozen=True, allow_inf_nan=False):
    """Figures of a challenger, and of the champion, if any, on the same photos."""

    challenger: Figures
    champion: Figures | None
    agreement: float | None = Field(ge=0, le=1, description="mean share of a photo's pixels with the same label")
    photos: int = Field(ge=1, description="number of photos compared")
    faults: tuple[Fault, ...] = Field(description="photos that could not be read, and why; not in the figures")
    corrected: Gain | None = Field(None, description="on held-out corrections, if there are enough")


def compared_photos(data: TaggedPhotos, classes: Sequence[str]) -> list[Photo]:
    """The photos of `data` that `compare` uses: those that show nothing, or have a tag among `classes` of a bundle."""
    return data.relevant(classes)


def compare(
    challenger: Path,
    champion: Path | None,
    data: TaggedPhotos,
    *,
    corrected: Sequence[Photo] = (),
    device: str = "auto",
    threads: int | None = None,
    advance: Advance = silent,
) -> Comparison:
    """Measure two bundles, or a challenger alone, on the tagged photos `data`, one photo in memory at a time.

    All figures are over the classes of both bundles, named as in the challenger; other tags, and photos that have
    only such, are left out.

    iou: VOC's, on photos with true masks. A class that a bundle does not know has an IoU of 0; true pixels of classes
      that neither knows are void. A class without a true pixel has no figure, even if it is predicted, so that both
      means are over the same classes. Classes that the true masks do not have are not predicted.
    consistency: a class counts as predicted from a share of PRESENT of a photo's pixels; a tag that a bundle does not
      know is a miss, and a class predicted in a photo that shows nothing is a false alarm.
    coverage, painted and agreement: over the tagged photos whose tags both bundles know, as a new or forgotten class
      rightly changes the others. None without such a photo; a class without one is not in `painted`.
    seconds: over the first TIMED photos. Both bundles process a photo once before they are timed on it, and take turns
      in going first, so that other load on the machine affects both.
    corrected: on the photos `corrected`, from whose corrections neither learned, if these are at least ENOUGH.

    `device` and `threads` are those of `Segmenter.load`. Photos and masks that cannot be read are skipped and listed in
    `faults`. `advance(1)` follows each photo. Raises BundleError for a bundle that cannot be used, ConfigError for the
    device, and DataError when no photo is left, or one of `corrected` cannot be read.
    """
    paths = (challenger,) if champion is None else (challenger, champion)
    segmenters = [Segmenter.load(path, device=device, threads=threads) for path in paths]
    spellings = [spell(segmenter.classes[1:], segmenters[0].classes[1:]) for segmenter in segmenters]
    classes = tuple(dict.fromkeys(chain(*spellings)))
    if len(classes) > MAX_CLASSES:
        raise BundleError(
            f"{challenger}: {len(classes)} classes together with those of {champion}, at most {MAX_CLASSES} can be "
            "compared; compare it with a bundle that shares more classes"
        )
    data = data.respelled(classes)
    sides = [_Side(segmenter, classes, data.mask_classes) for segmenter in segmenters]
    truths = None if set(classes).isdisjoint(data.mask_classes) else truth_table(data.mask_classes, classes)
    agreed, faults, done = [], list[Fault](), 0
    for photo in compared_photos(data, classes):
        try:
            pixels = read_photo(photo.path)
            truth = truths[read_mask(photo.mask)] if truths is not None and photo.mask is not None else None
        except DataError as fault:
            faults.append(_fault(photo, fault))
        else:
            agreed += _add_photo(sides, pixels, [tag for tag in photo.tags if tag in classes], truth)
            if done < TIMED:
                for side in sides if done % 2 else reversed(sides):
                    side.time(pixels)
            done += 1
        advance(1)
    if not done:
        why = f"; first fault: {faults[0].where}: {faults[0].why}" if faults else ""
        raise DataError(f"{data.name}: no readable photo tagged {', '.join(classes)} to compare models on{why}")
    figures = [side.figures(path, classes) for side, path in zip(sides, paths, strict=True)]
    return Comparison(
        challenger=figures[0],
        champion=figures[1] if champion is not None else None,
        agreement=_mean(agreed),
        photos=done,
        faults=tuple(faults),
        corrected=_compare_corrected(segmenters, corrected, advance) if len(segmenters) > 1 else None,
    )


def _compare_corrected(segmenters: Sequence[Segmenter], photos: Sequence[Photo], advance: Advance) -> Gain | None:
    known = [segmenter.classes[1:] for segmenter in segmenters]
    shared = [name for name in known[0] if name in spell(known[1], known[0])]
    if not shared:
        return None
    new, old = (count_pixels(segmenter, photos, shared, advance)[0] for segmenter in segmenters)
    if len(new) < ENOUGH:
        return None
    after, before = (float(mious(pixels.sum(axis=0))) for pixels in (new, old))
    return Gain(photos=len(new), challenger=after, champion=before, gain=gain_interval(new, old))


def graph_digest(path: Path) -> str:
    """SHA-256 of a bundle's operators, the shapes and types of its weights, and its working size, hex.

    Bundles of the same digest take the same time per photo.
    """
    size = read_metadata(path).working_size
    model = onnx.load(path)
    shapes = [onnx.TensorProto(name=w.name, dims=w.dims, data_type=w.data_type) for w in model.graph.initializer]
    del model.graph.initializer[:], model.metadata_props[:]
    model.graph.initializer.extend(shapes)
    return hashlib.sha256(f"{size} ".encode() + model.SerializeToString(deterministic=True)).hexdigest()


class _Side:
    """One bundle, and the sums of its figures."""

    def __init__(self, segmenter: Segmenter, classes: Sequence[str], mask_classes: Sequence[str]) -> None:
        self.segmenter = segmenter
        self.names = spell(segmenter.classes, classes)
        self._rows = truth_table(self.names, classes)  # its label -> row of the confusion
        known = (label for label, name in enumerate(self.names) if label and name in mask_classes)
        self._scored = (0, *known)
        self._confusion = Confusion(len(classes) + 1)
        self._hits = self._named = 0
        self._coverage: list[float] = []
        self._painted = Painted(classes)
        self._seconds: list[float] = []

    def time(self, pixels: Pixels) -> None:
        start = time.perf_counter()
        self.segmenter.predict(pixels)
        self._seconds.append(time.perf_counter() - start)

    def score(self, prediction: Prediction, truth: Pixels | None, tags: Sequence[str], size: tuple[int, int]) -> None:
        """Add the prediction without tags: its classes at `size`, its pixels at the size of the true mask."""
        mask = prediction.mask(self.segmenter.labels_of(()), size=size)
        shares = np.bincount(mask.ravel(), minlength=len(self.names)) / mask.size
        predicted = {self.names[label] for label in np.flatnonzero(shares >= PRESENT)} - {BACKGROUND}
        self._hits += len(predicted.intersection(tags))
        self._named += len(predicted) + len(tags)
        if truth is not None:
            own = prediction.mask(self._scored, size=(truth.shape[0], truth.shape[1]))
            self._confusion.add(self._rows[own], truth)

    def mask(self, prediction: Prediction, tags: Sequence[str], size: tuple[int, int]) -> Pixels:
        """The mask with tags: `size`, uint8, value = row of the confusion."""
        mask = self._rows[prediction.mask(self.segmenter.labels_of(tags), size=size, tagged=True)]
        self._coverage.append(float((mask > 0).mean()))
        self._painted.add(mask, tags)
        return mask

    def figures(self, path: Path, classes: Sequence[str]) -> Figures:
        metadata = self.segmenter.metadata
        pixels = self._confusion.counts.sum(axis=1).tolist()
        known = metadata.metrics.get("estimate", {"iou": {}})["iou"]
        iou = zip((BACKGROUND, *classes), self._confusion.iou().tolist(), pixels, strict=True)
        return Figures(
            version=metadata.version,
            data_digest=metadata.data_digest,
            classes=self.names,
            precision=metadata.precision,
            bytes=path.stat().st_size,
            seconds=statistics.median(self._seconds),
            graph=graph_digest(path),
            iou={name: value for name, value, true in iou if true},
            consistency=2 * self._hits / self._named if self._named else 1.0,
            coverage=_mean(self._coverage),
            painted=self._painted.shares(),
            estimated_iou={
                name: known[own] for name, own in zip(self.names, self.segmenter.classes, strict=True) if own in known
            },
        )


def _fault(photo: Photo, fault: DataError) -> Fault:
    """The fault without the path of the folder, as figures are stored in bundles."""
    why = str(fault)
    for path in filter(None, (photo.path, photo.mask)):
        why = why.replace(str(path), path.name)
    return Fault(photo.id, why)


def _add_photo(sides: Sequence[_Side], pixels: Pixels, tags: Sequence[str], truth: Pixels | None) -> list[float]:
    """Add one photo to all `sides`; the share of its pixels with the same label, if it has tags that both know."""
    predictions = [side.segmenter.predict(pixels) for side in sides]
    size = predictions[0].pixels.shape[0], predictions[0].pixels.shape[1]
    for side, prediction in zip(sides, predictions, strict=True):
        side.score(prediction, truth, tags, size)
    if not tags or not all(set(tags) <= set(side.names) for side in sides):
        return []
    masks = [side.mask(prediction, tags, size) for side, prediction in zip(sides, predictions, strict=True)]
    return [float((masks[0] == masks[1]).mean())] if len(masks) > 1 else []


def _mean(values: Sequence[float]) -> float | None:
    return statistics.fmean(values) if values else None
