"""Shared by all readers: the listing that they fill, and small text lists beside the photos."""

import unicodedata
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from tagmask import files
from tagmask.classes import MAX_LENGTH, class_key, class_name, class_name_fault, find_class, merge_tags
from tagmask.errors import DataError, Fault
from tagmask.masks import BACKGROUND, MAX_CLASSES
from tagmask.photos import PHOTO_SUFFIXES
from tagmask.wording import printable
from training.datasets.paths import PHOTO_FOLDERS, ListedFiles, path_fault
from training.datasets.photos import ListedMasks, Photo

_MAX_KNOWN = 10_000  # sets of tags that a listing remembers: most photos have one of a few


@dataclass
class Listing:
    """Photos by id with all their tags, as a reader finds them below `root`, and the entries that it could not use.

    The tag "background", always alone, says that a photo shows nothing; nothing is known of a photo without tags.
    `layout` is the title of their layout.
    """

    root: Path
    photos: dict[str, Photo] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    mask_classes: tuple[str, ...] = ()
    layout: str = ""
    _spellings: dict[str, str] = field(default_factory=dict)  # of each class, by its key: the first
    _tags: dict[tuple[str, ...], tuple[str, ...]] = field(default_factory=dict)  # of the texts that had no fault
    files: ListedFiles = field(init=False)

    def __post_init__(self) -> None:
        self.files = ListedFiles(self.root)

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes that the `tags` named so far, sorted, each as it was first spelled."""
        return tuple(sorted(self._spellings.values()))

    @property
    def known_tags(self) -> tuple[str, ...]:
        """The tags of the photos, sorted, without background."""
        return tuple(sorted({tag for photo in self.photos.values() for tag in photo.tags} - {BACKGROUND}))

    def fault(self, where: str, why: str) -> None:
        """Record something left out or ignored."""
        self.faults.append(Fault(printable(where), printable(why)))

    def add(self, photo: Photo, where: str) -> None:
        """Add a photo, with its id in composed Unicode.

        If it is listed twice, tags are merged; of two photos with one id, one is kept (faults).
        """
        photo = replace(photo, id=unicodedata.normalize("NFC", photo.id))
        known = self.photos.setdefault(photo.id, photo)
        if known is photo:
            return
        if known.path == photo.path:
            self.photos[photo.id] = replace(known, tags=merge_tags(known.tags, photo.tags))
            self.fault(where, "photo listed twice; its tags were merged, keep one entry")
        else:
            kept, dropped = sorted((known, photo), key=lambda each: each.path)
            self.photos[photo.id] = kept
            self.fault(where, f"{dropped.path.name!r} left out, as {kept.path.name!r} has the same id; rename one")

    def add_listed(
        self,
        image: str,
        tags: tuple[str, ...],
        where: str,
        beside: Sequence[str] = (),
        masks: ListedMasks = (None, None),
    ) -> None:
        """Add the photo listed as `image`, searched as by `ListedFiles.photos`; a fault if it is not one photo."""
        image = self.files.inside(image)
        if fault := path_fault(image):
            self.fault(where, fault)
            return
        found = self.files.photos(image, beside)
        if len(found) > 1:
            which = f"photo {image!r} may be {str(found[0])!r} or {str(found[1])!r}"
            self.fault(where, f"{which}; write its name as it is")
        elif found:
            path = found[0]
            parts = path.parts[1:] if len(path.parts) > 1 and path.parts[0] in PHOTO_FOLDERS else path.parts
            name = str(PurePosixPath(*parts).with_suffix(""))
            self.add(Photo(name, self.root / path, tags, None, *masks), where)
        else:
            how = "name it by its path below the data set's folder or its images/, with its suffix, or remove the entry"
            self.fault(where, f"photo {image!r} not found; {how}")

    def tags(self, names: Iterable[str], where: str) -> tuple[str, ...]:
        """Sorted tags from the texts `names`, each as the listing first spelled it, without blank texts.

        A text that cannot name a class is a fault; as the photo shows something, it then lacks background too. So are
        texts that are all blank.
        """
        texts = tuple(names)
        if texts in self._tags:
            return self._tags[texts]
        tags, faulty = set(), bool(texts) and not any(map(class_name, texts))
        if faulty:
            self.fault(where, "its class has no name; add the name, or remove the entry")
        for tag in filter(None, sorted(map(class_name, texts))):
            key = class_key(tag)
            if key != BACKGROUND and (fault := class_name_fault(tag)):
                self.fault(where, f"tag {tag[:MAX_LENGTH]!r} {fault}")
                faulty = True
            else:
                tags.add(BACKGROUND if key == BACKGROUND else self._spellings.setdefault(key, tag))
        merged = merge_tags(tags - {BACKGROUND} if faulty else tags)
        if not faulty and len(self._tags) < _MAX_KNOWN:
            self._tags[texts] = merged
        return merged

    def take_as_nothing(self, names: Collection[str]) -> None:
        """Take the tags `names`, in any spelling, for background: a photo that has no other tag shows nothing."""
        for name, photo in self.photos.items():
            tags = (BACKGROUND if find_class(tag, names) else tag for tag in photo.tags)
            self.photos[name] = replace(photo, tags=merge_tags(tags))

    def keep_split(self, split: str, others: Iterable[str] = ()) -> None:
        """Keep only the photos whose ids splits/<split>.txt lists; unknown ids are faults.

        Raises DataError, naming the known splits and `others`, if the list does not exist.
        """
        files = {path.stem: path for path in (self.root / "splits").glob("*.txt")}
        if split not in files:
            raise unknown_split(self.root, split, {*files, *others})
        ids = read_ids(files[split], self)
        kept = set()
        for line, where in ids.items():
            if found := next((name for name in possible_ids(line) if name in self.photos), None):
                kept.add(found)
            else:
                self.fault(where, f"no photo has the id {line!r}; add the photo or remove the line")
        self.photos = {name: photo for name, photo in self.photos.items() if name in kept}

    def attach_masks(self) -> None:
        """Attach the ground-truth masks masks/<id>.png, whose values are named in classes.txt."""
        root = self.root
        if not (root / "masks").is_dir():
            return
        if not (root / "classes.txt").is_file():
            self.fault("masks/", "ignored without classes.txt to name the mask values; add it, one name per line")
            return
        self.mask_classes = read_mask_classes(root / "classes.txt")
        for name, photo in self.photos.items():
            if mask := self.files.file(PurePosixPath("masks", f"{name}.png")):
                self.photos[name] = replace(photo, mask=root / mask)


@dataclass(frozen=True)
class Entry:
    """A photo of a list: where it is listed, its path, its tags as written, and its split if the list has splits.

    With its correction and its hint, if the list states them.
    """

    where: str
    image: str
    tags: tuple[str, ...]
    split: str = ""
    masks: ListedMasks = (None, None)


def read_text(path: Path, max_bytes: int = files.MAX_BYTES) -> str:
    """A UTF-8 text of at most `max_bytes`, with or without byte order mark.

    Raises DataError for anything else.
    """
    try:
        return files.read_text(path, max_bytes)
    except UnicodeDecodeError as fault:
        raise DataError(f"{path}: not UTF-8 text ({fault.reason} at byte {fault.start}); save it as UTF-8") from fault
    except OSError as fault:
        raise unreadable(path, fault) from fault


def unreadable(path: Path, fault: OSError) -> DataError:
    """The error for a file that cannot be read, or that is not read."""
    return DataError(f"{path}: {files.read_fault(fault)}")


def read_lines(path: Path, listing: Listing) -> Iterator[tuple[str, str]]:
    """("splits/val.txt:12", stripped line) for each line with text; empty lines are faults."""
    name = path.relative_to(listing.root).as_posix()
    for number, line in enumerate(read_text(path).removesuffix("\n").split("\n"), start=1):
        if stripped := line.strip():
            yield f"{name}:{number}", stripped
        else:
            listing.fault(f"{name}:{number}", "empty line; remove it")


def read_ids(path: Path, listing: Listing) -> dict[str, str]:
    """Ids (NFC) of a list with one per line, each with its place in it; repeated and refused ids are faults."""
    ids: dict[str, str] = {}
    for where, text in read_lines(path, listing):
        line = unicodedata.normalize("NFC", listing.files.inside(text))
        if fault := path_fault(line):
            listing.fault(where, fault)
        elif line in ids:
            listing.fault(where, "id listed twice; keep one line")
        else:
            ids[line] = where
    return ids


def possible_ids(line: str) -> Iterator[str]:
    """What a line of a list may mean: an id, or the path of a photo, and below images/ or JPEGImages/."""
    path = PurePosixPath(line.replace("\\", "/"))
    stem = path.with_suffix("") if path.suffix.lower() in PHOTO_SUFFIXES else path
    yield line
    yield str(stem)
    if stem.parts[:-1] and stem.parts[0] in PHOTO_FOLDERS:
        yield str(PurePosixPath(*stem.parts[1:]))


def unknown_split(root: Path, split: str, known: Iterable[str]) -> DataError:
    """The error for a split that a data set does not have."""
    names = ", ".join(sorted(known))
    return DataError(f"{root}: no split {split!r}; {f'choose one of {names}' if names else 'it has no splits'}")


def read_mask_classes(path: Path) -> tuple[str, ...]:
    """Names of mask values from classes.txt: line k, from 0, names value k. Raises DataError for anything else."""
    names = tuple(line.strip() for line in read_text(path).rstrip().split("\n"))
    if names[0] != BACKGROUND:
        raise DataError(f"{path}: the first line names mask value 0 and must be {BACKGROUND!r}, not {names[0]!r}")
    if not all(names) or len(set(names)) < len(names) or len(names) > MAX_CLASSES + 1:
        raise DataError(f"{path}: must have a different class name on each line, at most {MAX_CLASSES + 1} lines")
    return names
