"""Masks for photos by a bundle: for a tagged data set, or for single photos with an overlay to look at."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

from tagmask import files, masks
from tagmask.errors import DataError
from tagmask.formats.overlay import tint
from tagmask.photos import read_photo
from tagmask.progress import Advance, silent
from training.config import CrfConfig
from training.datasets.photos import Fault, Photo, TaggedPhotos
from training.predict import Predictor


@dataclass(frozen=True)
class Labelled:
    """What `label` did: masks written, masks that were there already, and photos and tags left out, with reasons.

    `data` are the photos that have a mask now, with it and what its values mean.
    """

    written: int
    kept: int
    faults: tuple[Fault, ...]
    data: TaggedPhotos


def label(
    predictor: Predictor, data: TaggedPhotos, out: Path, *, crf: CrfConfig | None = None, advance: Advance = silent
) -> Labelled:
    """Write a palette PNG for each photo of `data`, of background and the photo's own tags alone.

    Masks are `out`/<id>.png, values named by `out`/classes.txt, one name a line from value 0. A mask that is there
    already is kept, so a stopped run goes on. Left out, with a fault each, are photos that cannot be read or have no
    tag that the model knows; tags that it does not know are ignored, with one fault a tag. `advance(1)` follows each
    photo. Raises DataError when `out` holds masks of other classes, or PNGs of somebody else.
    """
    _name_values(predictor, out)
    unknown = [name for name in data.classes if name not in predictor.classes[1:]]
    faults = [Fault(name, "a tag that the model does not know; ignored, train with it to paint it") for name in unknown]
    written = kept = 0
    labelled = []
    for photo in data.photos:
        path = out / f"{photo.id}.png"
        tags = [tag for tag in photo.tags if tag not in unknown]
        if not tags:
            faults.append(Fault(photo.id, "no tag that the model knows; left out"))
        elif path.is_file():
            kept += 1
        elif fault := _paint(predictor, photo, tags, crf, path):
            faults.append(fault)
        else:
            written += 1
        if tags and path.is_file():
            labelled.append(replace(photo, mask=path))
        advance(1)
    masked = replace(data, photos=tuple(labelled), mask_classes=predictor.classes)
    return Labelled(written, kept, tuple(faults), masked)


def segment_files(
    predictor: Predictor,
    paths: Sequence[Path],
    out: Path,
    *,
    tags: Sequence[str] | None = None,
    crf: CrfConfig | None = None,
    advance: Advance = silent,
) -> list[Fault]:
    """Write `out`/<stem>.png, a palette mask, and `out`/<stem>-overlay.png, the tinted photo, for each photo.

    `tags`, if given, limit all masks to background and those. Returns a fault for each photo that cannot be read; the
    others are painted. `advance(1)` follows each photo. Raises DataError before anything is written for a tag that
    the model does not know, two photos that would share an output, or an output that would replace an input.
    """
    labels = predictor.labels(tags)
    photos = list(dict.fromkeys(paths))
    _check_outputs(photos, out)
    faults = []
    for path in photos:
        try:
            photo = read_photo(path)
        except DataError as fault:
            faults.append(Fault(str(path), str(fault).removeprefix(f"{path}: ")))
        else:
            mask = predictor.predict(photo).mask(labels, crf)
            mask_path, overlay_path = _outputs(path, out)
            masks.write_mask(mask_path, mask)
            files.write_png(overlay_path, Image.fromarray(tint(photo, mask)))
        advance(1)
    return faults


def _paint(predictor: Predictor, photo: Photo, tags: Sequence[str], crf: CrfConfig | None, path: Path) -> Fault | None:
    try:
        pixels = read_photo(photo.path)
    except DataError as fault:
        return Fault(photo.id, str(fault))
    masks.write_mask(path, predictor.segment(pixels, tags, crf))
    return None


def _name_values(predictor: Predictor, out: Path) -> None:
    path = out / "classes.txt"
    text = "".join(f"{name}\n" for name in predictor.classes)
    if path.is_file():
        if path.read_text(encoding="utf-8", errors="replace") != text:
            raise DataError(f"{path}: names other classes than the model; label into another, or an empty, folder")
    elif strange := min(out.rglob("*.png"), default=None):
        raise DataError(f"{strange}: would be taken for a mask of this model; label into another, or an empty, folder")
    else:
        files.write_text(path, text)


def _outputs(photo: Path, out: Path) -> tuple[Path, Path]:
    return out / f"{photo.stem}.png", out / f"{photo.stem}-overlay.png"


def _check_outputs(photos: Sequence[Path], out: Path) -> None:
    inputs = {path.resolve() for path in photos}
    makers: dict[Path, Path] = {}
    for photo in photos:
        for output in _outputs(photo, out):
            if output.resolve() in inputs:
                raise DataError(f"{output}: would replace an input photo; give another folder with --out")
            other = makers.setdefault(output, photo)
            if other != photo:
                raise DataError(
                    f"{output}: would be written for both {other} and {photo}; rename one, or run them apart"
                )
