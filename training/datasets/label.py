"""Masks for the photos of a tagged data set, by a bundle: what `tagmask label` does."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tagmask import files, masks
from tagmask.errors import DataError, Fault
from tagmask.inputs import Refine
from tagmask.photos import PHOTO_SUFFIXES, read_photo
from tagmask.progress import Advance, silent
from tagmask.segmentation import Pixels, Segmentation
from tagmask.segmenter import Segmenter, SegmentOptions
from training.datasets.photos import TaggedPhotos


@dataclass(frozen=True)
class LabelResult:
    """Result of `label`: numbers of masks written and of masks kept from before, and photos and tags left out.

    `data` holds the photos that have a mask now, with that mask and the names of its values.
    """

    written: int
    kept: int
    faults: tuple[Fault, ...]
    data: TaggedPhotos


def label(
    segmenter: Segmenter, data: TaggedPhotos, out: Path, *, refine: Refine = "none", advance: Advance = silent
) -> LabelResult:
    """Write a palette PNG for each photo of `data`, of background and the photo's own tags alone.

    Masks are `out`/<id>.png, their values named by `out`/classes.txt, one name per line from value 0. Existing masks
    are kept, so that an interrupted run can be resumed, unless they were predicted by another model, for other tags, or
    with another `refine`. Photos that cannot be read, or have only tags that the model does not know, are left out,
    with one fault each; unknown tags are ignored, with one fault per tag. `advance(1)` follows each photo. Raises
    DataError when `out` holds masks of other classes, damaged masks, or photos, and when no photo could be labelled.
    """
    _write_classes(segmenter, out)
    data = data.respelled(segmenter.classes)
    unknown = [name for name in data.classes if name not in segmenter.classes[1:]]
    faults = [Fault(name, "the model does not know this tag; ignored, train with it to segment it") for name in unknown]
    written = kept = 0
    labelled = []
    for photo in data.photos:
        path = out / f"{photo.id}.png"
        tags = tuple(tag for tag in photo.tags if tag not in unknown)
        if photo.tags and not tags:
            faults.append(Fault(photo.id, "no tag that the model knows; left out"))
        elif path.is_file() and not _is_another(path, segmenter.version, _options(tags, refine)):
            kept += 1
            labelled.append(replace(photo, mask=path))
        else:
            try:
                mask, provenance = _predict(segmenter, photo.path, tags, refine)
            except DataError as fault:
                faults.append(Fault(photo.id, str(fault)))
            else:
                masks.write_mask(path, mask, provenance)
                written += 1
                labelled.append(replace(photo, mask=path))
        advance(1)
    if faults and not labelled:
        raise DataError(f"{data.name}: no photo could be labelled; first fault: {faults[0].where}: {faults[0].why}")
    masked = replace(data, photos=tuple(labelled), mask_classes=segmenter.classes)
    return LabelResult(written, kept, tuple(faults), masked)


def _is_another(mask: Path, version: str, options: str) -> bool:
    """Whether another model than `version`, or other `options`, made a mask, and nobody has saved it since."""
    provenance = masks.read_provenance(mask)
    return provenance is not None and (provenance.model, provenance.options) != (version, options)


def _options(tags: tuple[str, ...], refine: Refine) -> str:
    return " ".join([f"refine={refine}", *sorted(tags)])


def _predict(
    segmenter: Segmenter, path: Path, tags: tuple[str, ...], refine: Refine
) -> tuple[Pixels, masks.Provenance]:
    """The mask of a photo, and how it was predicted; without tags, it is background alone."""
    if tags:
        mask, score = segmenter.run(path, SegmentOptions(tags, refine), _mask_and_score)
    else:
        mask, score = np.zeros(read_photo(path).shape[:2], dtype=np.uint8), 1.0
    return mask, masks.Provenance(segmenter.version, score, _options(tags, refine))


def _mask_and_score(segmentation: Segmentation) -> tuple[Pixels, float]:
    return segmentation.mask, segmentation.score


def _write_classes(segmenter: Segmenter, out: Path) -> None:
    """Write classes.txt, which names the values of the masks; if it is there, it must name the same.

    Raises DataError if it names others, or if there are photos or masks in `out` without it.
    """
    path = out / "classes.txt"
    text = "".join(f"{name}\n" for name in segmenter.classes)
    if path.is_file():
        if files.read_text(path, errors="replace") != text:
            raise DataError(f"{path}: names other classes than the model; choose another or an empty folder")
    elif other := min((path for path in out.rglob("*") if path.suffix.lower() in PHOTO_SUFFIXES), default=None):
        what = "would be taken for a mask of this model" if other.suffix == ".png" else "is a photo, not a mask"
        raise DataError(f"{other}: {what}; choose another or an empty folder")
    else:
        files.write_text(path, text)
