"""PASCAL VOC (Everingham et al., IJCV 2010): ImageSets/, Annotations/, JPEGImages/, SegmentationClass/.

Read: tags are from ImageSets/Main/<class>_<split>.txt, where 1 means that the class is present, 0 that it is present
but difficult, -1 that it is absent; for photos in no such file, from the object names in Annotations/<id>.xml. A photo
where every class is absent, or whose annotation has no object, shows nothing. Other tools have photos in images/, and
photos and annotations in one folder.

Written: JPEGImages/, SegmentationClass/, ImageSets/Segmentation/<subset>.txt and ImageSets/Main/<subset>.txt, and tags
in ImageSets/Main/<class>_<subset>.txt; classes.txt names the mask values for Tagmask, labelmap.txt with their colours
for Datumaro and CVAT. Names have no folders and blanks: photo "my cat/1" is "my_cat_1".
"""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path, PurePath

from tagmask import files
from tagmask.errors import DataError
from tagmask.masks import BACKGROUND, PALETTE, read_mask, write_mask
from tagmask.photos import PHOTO_SUFFIXES
from tagmask.progress import Advance
from tagmask.wording import count
from training.datasets.copies import copy_photo, flat_names
from training.datasets.exports import head, read_elements
from training.datasets.folders import is_mask_folder, subfolders
from training.datasets.listing import (
    Listing,
    possible_ids,
    read_ids,
    read_lines,
    read_mask_classes,
    unknown_split,
    unreadable,
)
from training.datasets.paths import PHOTO_FOLDERS
from training.datasets.photos import Photo, TaggedPhotos

MASK_CLASSES = (
    "background aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike person "
    "pottedplant sheep sofa train tvmonitor"
)
"""VOC's names of mask values 0 to 20, used without classes.txt."""


_HEAD = re.compile(rb"\s*(<\?.*?\?>\s*)?(<!--.*?-->\s*)*<annotation[\s>]", re.DOTALL)
_FLAG = re.compile(r"\s+(-1|0|1)$")


def is_voc(root: Path) -> bool:
    """Whether the folder is laid out as VOC: ImageSets/ beside JPEGImages/, or an annotation of VOC."""
    parts = [root / name for name in ("JPEGImages", "ImageSets", "Annotations")]
    return (parts[0].is_dir() and any(part.is_dir() for part in parts[1:])) or bool(_annotations(root))


def read(root: Path, split: str | None) -> Listing:
    """Read one split, or with None all photos that any list names.

    Raises DataError for an unknown split, and one whose photos have neither lines in Main/ nor annotations.
    """
    listing = Listing(root)
    sets = _ImageSets.find(root / "ImageSets")
    if split is not None and split not in sets.splits:
        raise unknown_split(root, split, sets.splits)
    files = _photos(root)
    annotations = _annotations(root, files)
    masks = _by_stem(root, "SegmentationClass", frozenset({".png"}))
    tags = _main_tags(sets, split, files, listing)
    ids = _ids(sets, split, tags, annotations, files, listing)
    if not ids.keys() <= tags.keys() | annotations.keys():
        tags = {**_main_tags(sets, None, files, Listing(root)), **tags}
    if ids and not ids.keys() & (tags.keys() | annotations.keys()):
        raise DataError(
            f"{root}: no tags{f' for split {split!r}' if split else ''}, which are not read from masks; add "
            f"ImageSets/Main/<class>_{split or '<split>'}.txt or Annotations/<id>.xml"
        )
    for name, where in ids.items():
        if name not in files:
            listing.fault(where, f"photo {name!r} not found; add it or remove the line")
            continue
        named = tags[name] if name in tags else _objects(annotations.get(name), listing)
        listing.add(Photo(name, files[name], listing.tags(named, where), masks.get(name)), where)
    if masks:
        listing.mask_classes = mask_classes(root)
    return listing


def mask_classes(root: Path) -> tuple[str, ...]:
    """Names of the values of masks in SegmentationClass/. Raises DataError for a classes.txt that is none."""
    names = root / "classes.txt"
    return read_mask_classes(names) if names.is_file() else tuple(MASK_CLASSES.split())


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
            if "_" in path.stem and _has_flags(path):
                tag_files.append(path)
            else:
                main[path.stem] = path
        known = sorted({*segmentation, *main}, key=len, reverse=True)
        return cls(segmentation, main, tuple((*_class_and_split(path.stem, known), path) for path in tag_files))


def _has_flags(path: Path) -> bool:
    """Whether the first line of a list ends with a flag. Raises DataError for a file that cannot be read."""
    try:
        with files.open_file(path) as lines:
            line = next((line for line in lines if line.strip()), b"").decode(errors="replace")
    except OSError as fault:
        raise unreadable(path, fault) from fault
    return len(line.split()) > 1 and _FLAG.search(line.rstrip()) is not None


def _class_and_split(stem: str, known: Iterable[str]) -> tuple[str, str]:
    """Split "train_train_small" by the splits known from lists, longest first: class train, split train_small."""
    for split in known:
        if stem.endswith(f"_{split}"):
            return stem.removesuffix(f"_{split}"), split
    name, _, split = stem.rpartition("_")
    return name or stem, split


def _main_tags(sets: _ImageSets, split: str | None, files: Mapping[str, Path], listing: Listing) -> dict[str, set[str]]:
    """Tags of every id that the split's tag files list; background if all tag files of its split have it as absent."""
    tags: dict[str, set[str]] = {}
    absent = defaultdict[tuple[str, str], set[str]](set)
    for name, its_split, path in sets.tagged:
        if split not in (None, its_split):
            continue
        for where, line in read_lines(path, listing):
            if flag := _FLAG.search(line):
                photo = _id(line[: flag.start()], files)
                tags.setdefault(photo, set()).update(() if flag[1] == "-1" else (name,))
                absent[photo, its_split].update((name,) if flag[1] == "-1" else ())
            else:
                listing.fault(where, "malformed line; write an id and 1 (present), 0 (difficult) or -1 (absent)")
    tag_files = Counter(its_split for _, its_split, _ in sets.tagged)
    for (photo, its_split), names in absent.items():
        if len(names) == tag_files[its_split]:
            tags[photo].add(BACKGROUND)
    return tags


def _ids(
    sets: _ImageSets,
    split: str | None,
    tags: Iterable[str],
    annotations: Mapping[str, Path],
    files: Mapping[str, Path],
    listing: Listing,
) -> dict[str, str]:
    """Ids to read, each with the place where it is listed."""
    if split is None:
        lists = [read_ids(path, listing) for path in chain(sets.segmentation.values(), sets.main.values())]
    else:
        path = sets.segmentation.get(split) or sets.main.get(split)
        lists = [read_ids(path, listing)] if path else []
    ids = {_id(line, files): where for each in lists for line, where in each.items()}
    if split is None or not lists:
        ids = {**dict.fromkeys(tags, "ImageSets/Main"), **ids}
    if ids:
        return ids
    if left := len(files.keys() - annotations.keys()):
        listing.fault(listing.root.name, f"{count(left, 'photo')} without an annotation; left out")
    return {name: path.relative_to(listing.root).as_posix() for name, path in annotations.items()}


def _id(line: str, files: Mapping[str, Path]) -> str:
    """The id that a line of a list means, which may be a path or end with a flag."""
    line = unicodedata.normalize("NFC", line)
    plain = _FLAG.sub("", line)
    return next((name for text in (line, plain) for name in possible_ids(text) if name in files), plain)


def _objects(path: Path | None, listing: Listing) -> set[str]:
    """Names of the objects in an annotation, "" for none, background if it has no object; nothing without one."""
    if path is None:
        return set()
    try:
        objects = [each for each in read_elements(path) if each.path.split("/")[1:2] == ["object"]]
    except DataError as fault:
        why = str(fault).removeprefix(f"{path}: ")
        listing.fault(path.relative_to(listing.root).as_posix(), f"its tags are ignored: {why}")
        return set()
    return ({each.text for each in objects if each.path.endswith("/object/name")} or {""}) if objects else {BACKGROUND}


def _photos(root: Path) -> dict[str, Path]:
    """Photos by id: those in `root`, in its folders of photos, and above all those in JPEGImages/."""
    inner = [folder.name for folder in subfolders(root) if not is_mask_folder(folder)]
    return {
        name: path
        for each in ("", *inner, *PHOTO_FOLDERS)
        for name, path in _by_stem(root, each, PHOTO_SUFFIXES).items()
    }


def _annotations(root: Path, files: Collection[str] = ()) -> dict[str, Path]:
    """Annotations by the id of their photo, if the first folder with XML has those of VOC."""
    for folder in ("Annotations", "annotations", "labels", "xmls", "xml", *PHOTO_FOLDERS, ""):
        found = _by_stem(root, folder, frozenset({".xml"}))
        if (found and folder == "Annotations") or any(_HEAD.match(head(path)) for path in islice(found.values(), 3)):
            return {name if name in files else PurePath(name).name: path for name, path in found.items()}
    return {}


def _by_stem(root: Path, folder: str, suffixes: frozenset[str]) -> dict[str, Path]:
    """Files below a folder, in `root` itself for "", by path without suffix in composed Unicode, the first by name."""
    paths = sorted((root / folder).rglob("*") if folder else root.iterdir(), reverse=True)
    chosen = (path for path in paths if path.suffix.lower() in suffixes and not path.name.startswith("."))
    names = ((path.relative_to(root / folder).with_suffix("").as_posix(), path) for path in chosen)
    return {unicodedata.normalize("NFC", name): path for name, path in names}


def check_classes(names: Iterable[str]) -> None:
    """Raise DataError for a class that cannot be part of a file's name."""
    for name in names:
        if name.startswith((".", "#")) or set(name) & set("/\\:"):
            why = "VOC has class names in file names and between colons"
            raise DataError(f"class {name!r}: {why}; rename it, or write another format")


def write(data: TaggedPhotos, out: Path, subset: str, advance: Advance) -> None:
    """All photos are JPEG, as the layout has it."""
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
