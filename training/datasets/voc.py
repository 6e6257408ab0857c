"""PASCAL VOC (Everingham et al., IJCV 2010): ImageSets/, Annotations/, JPEGImages/, SegmentationClass/.

Read: tags are from ImageSets/Main/<class>_<split>.txt, where 1 means that the class is present, 0 that it is present
but difficult, -1 that it is absent; for photos in no such file, from the object names in Annotations/<id>.xml.

Written: JPEGImages/, SegmentationClass/, ImageSets/Segmentation/<subset>.txt and ImageSets/Main/<subset>.txt, and tags
in ImageSets/Main/<class>_<subset>.txt; classes.txt names the mask values for Tagmask, labelmap.txt with their colours
for Datumaro and CVAT. Names have no folders and blanks: photo "my cat/1" is "my_cat_1".
"""

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from tagmask import files
from tagmask.errors import DataError
from tagmask.masks import PALETTE, read_mask, write_mask
from tagmask.photos import PHOTO_SUFFIXES
from tagmask.progress import Advance
from training.datasets.copies import copy_photo, flat_names
from training.datasets.exports import read_elements
from training.datasets.listing import Listing, read_ids, read_lines, read_mask_classes, unknown_split, unreadable
from training.datasets.photos import Photo, TaggedPhotos

MASK_CLASSES = (
    "background aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike person "
    "pottedplant sheep sofa train tvmonitor"
)
"""VOC's names of mask values 0 to 20, used without classes.txt."""


def is_voc(root: Path) -> bool:
    """Whether the folder is laid out as VOC."""
    return (root / "JPEGImages").is_dir() and ((root / "ImageSets").is_dir() or (root / "Annotations").is_dir())


def read(root: Path, split: str | None) -> Listing:
    """Read one split, or with None all photos that any list names. Raises DataError for an unknown split."""
    listing = Listing(root)
    sets = _ImageSets.find(root / "ImageSets")
    if split is not None and split not in sets.splits:
        raise unknown_split(root, split, sets.splits)
    tags = _main_tags(sets, split, listing)
    files = _by_stem(root / "JPEGImages", PHOTO_SUFFIXES)
    masks = _by_stem(root / "SegmentationClass", frozenset({".png"}))
    annotations = _by_stem(root / "Annotations", frozenset({".xml"}))
    for name, where in _ids(sets, split, tags, annotations, listing).items():
        if name not in files:
            listing.fault(where, f"photo {name!r} not found in JPEGImages; add it or remove the line")
            continue
        named = tags[name] if name in tags else _objects(annotations.get(name), listing)
        listing.add(Photo(name, files[name], listing.tags(named, where), masks.get(name)), where)
    if masks:
        names = root / "classes.txt"
        listing.mask_classes = read_mask_classes(names) if names.is_file() else tuple(MASK_CLASSES.split())
    return listing


@dataclass(frozen=True)
class _ImageSets:
    """Files below ImageSets: lists of ids by split, and (class, split, file) of each tag file."""

    segmentation: dict[str, Path]
    main: dict[str, Path]
    tagged: tuple[tuple[str, str, Path], ...]

    @property
    def splits(self) -> set[str]:
        return {*self.segmentation, *self.main, *(split for _, split, _ in self.tagged)}

    @classmethod
    def find(cls, root: Path) -> "_ImageSets":
        segmentation = {path.stem: path for path in (root / "Segmentation").glob("*.txt")}
        main, tag_files = {}, []
        for path in sorted((root / "Main").glob("*.txt")):
            if _has_two_columns(path):
                tag_files.append(path)
            else:
                main[path.stem] = path
        known = sorted({*segmentation, *main}, key=len, reverse=True)
        return cls(segmentation, main, tuple((*_class_and_split(path.stem, known), path) for path in tag_files))


def _has_two_columns(path: Path) -> bool:
    """Raises DataError for a file that cannot be read."""
    try:
        with files.open_file(path) as lines:
            return len(next((line for line in lines if line.strip()), b"").split()) == 2
    except OSError as fault:
        raise unreadable(path, fault) from fault


def _class_and_split(stem: str, known: Iterable[str]) -> tuple[str, str]:
    """Split "train_train_small" by the splits known from lists, longest first: class train, split train_small."""
    for split in known:
        if stem.endswith(f"_{split}"):
            return stem.removesuffix(f"_{split}"), split
    name, _, split = stem.rpartition("_")
    return name or stem, split


def _main_tags(sets: _ImageSets, split: str | None, listing: Listing) -> dict[str, set[str]]:
    """Tags of every id that the split's tag files list."""
    tags: dict[str, set[str]] = {}
    for name, its_split, path in sets.tagged:
        if split not in (None, its_split):
            continue
        for where, line in read_lines(path, listing):
            match unicodedata.normalize("NFC", line).split():
                case [photo, "1" | "0"]:
                    tags.setdefault(photo, set()).add(name)
                case [photo, "-1"]:
                    tags.setdefault(photo, set())
                case _:
                    listing.fault(where, "malformed line; write an id and 1 (present), 0 (difficult) or -1 (absent)")
    return tags


def _ids(
    sets: _ImageSets, split: str | None, tags: Iterable[str], annotations: Iterable[str], listing: Listing
) -> dict[str, str]:
    """Ids to read, each with the place where it is listed."""
    if split is None:
        lists = [read_ids(path, listing) for path in chain(sets.segmentation.values(), sets.main.values())]
    else:
        path = sets.segmentation.get(split) or sets.main.get(split)
        lists = [read_ids(path, listing)] if path else []
    ids = {name: where for each in lists for name, where in each.items()}
    if split is None or not lists:
        ids = {**dict.fromkeys(tags, "ImageSets/Main"), **ids}
    return ids or {name: f"Annotations/{name}.xml" for name in annotations}


def _objects(path: Path | None, listing: Listing) -> set[str]:
    """Names of the objects in an annotation, none without one."""
    if path is None:
        return set()
    try:
        objects = {each.text for each in read_elements(path) if each.path.split("/")[1:] == ["object", "name"]}
    except DataError as fault:
        why = str(fault).removeprefix(f"{path}: ")
        listing.fault(f"Annotations/{path.name}", f"its tags are ignored: {why}")
        return set()
    return objects - {""}


def _by_stem(folder: Path, suffixes: frozenset[str]) -> dict[str, Path]:
    """Files of the folder by stem in composed Unicode; of two with one stem the first by name."""
    paths = sorted(folder.iterdir(), reverse=True) if folder.is_dir() else []
    return {unicodedata.normalize("NFC", path.stem): path for path in paths if path.suffix.lower() in suffixes}


def write(data: TaggedPhotos, out: Path, subset: str, advance: Advance) -> None:
    """All photos are JPEG, as the layout has it. Raises DataError for a class that cannot be part of a file's name."""
    for name in data.mask_classes:
        if name.startswith((".", "#")) or set(name) & set("/\\:"):
            why = "VOC has class names in file names and between colons"
            raise DataError(f"class {name!r}: {why}; rename it, or write another format")
    names = flat_names(data.photos)
    for photo in data.photos:
        assert photo.mask is not None
        copy_photo(photo, out / "JPEGImages", names[photo.id], media_types=("image/jpeg",))
        write_mask(out / "SegmentationClass" / f"{names[photo.id]}.png", read_mask(photo.mask))
        advance(1)
    sets = out / "ImageSets"
    for task in ("Segmentation", "Main"):
        files.write_text(sets / task / f"{subset}.txt", "".join(f"{names[each.id]}\n" for each in data.photos))
    for name in data.mask_classes[1:]:
        lines = (f"{names[each.id]} {1 if name in each.tags else -1:2}\n" for each in data.photos)
        files.write_text(sets / "Main" / f"{name}_{subset}.txt", "".join(lines))
    colours = (",".join(map(str, colour)) for colour in PALETTE)
    labels = (f"{name}:{colour}::\n" for name, colour in zip(data.mask_classes, colours, strict=False))
    files.write_text(out / "labelmap.txt", "".join(labels))
    files.write_text(out / "classes.txt", "".join(f"{name}\n" for name in data.mask_classes))
