"""A second data set, of other photos and classes, to see whether the recipe holds there: linked together, not copied.

    python -m benchmarks.others VOC WEB OUT

Its classes are cat, chair, dog, person and sofa. OUT gets the VOC layout, with the splits `train` (of VOC's `train`
what is outside `train_small` and shows a chair, a person or a sofa; and the folders `cat` and `dog` of WEB, which have
no masks) and `val` (what VOC's `val` shows of the classes).
"""

import argparse
from collections.abc import Iterable
from pathlib import Path

from training.datasets import load
from training.datasets.photos import Photo

CLASSES = ("cat", "chair", "dog", "person", "sofa")


def main() -> None:
    """Link the data set together at OUT."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("voc", type=Path)
    parser.add_argument("web", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    voc, out = options.voc.resolve(), options.out
    first = {photo.id for photo in load(voc, split="train_small").photos}
    candidates = load(voc, split="train", classes=CLASSES).photos
    wanted = {"chair", "person", "sofa"}
    train = [photo for photo in candidates if photo.id not in first and wanted.intersection(photo.tags)]
    train += load(options.web.resolve(), classes=("cat", "dog")).photos
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation", "ImageSets/Main"):
        (out / folder).mkdir(parents=True)
    (out / "classes.txt").write_text((voc / "classes.txt").read_text())
    _link(out, "train", train)
    _link(out, "val", load(voc, split="val", classes=CLASSES).photos)


def _link(out: Path, split: str, photos: Iterable[Photo]) -> None:
    names = {photo.id.replace("/", "-"): photo for photo in photos}
    for name, photo in names.items():
        (out / "JPEGImages" / f"{name}{photo.path.suffix}").symlink_to(photo.path)
        if photo.mask is not None:
            (out / "SegmentationClass" / f"{name}.png").symlink_to(photo.mask)
    (out / "ImageSets/Segmentation" / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))
    for tag in CLASSES:
        lines = (f"{name} {1 if tag in photo.tags else -1}\n" for name, photo in names.items())
        (out / "ImageSets/Main" / f"{tag}_{split}.txt").write_text("".join(lines))


if __name__ == "__main__":
    main()
