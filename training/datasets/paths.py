"""The files that lists name, found below the folder of their data set."""

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath

from tagmask.photos import PHOTO_SUFFIXES
from tagmask.wording import is_printable

PHOTO_FOLDERS = ("images", "JPEGImages")
"""Folders of a data set that are searched for listed photos; they are not part of a photo's id."""

MAX_NAME, MAX_PATH = 255, 3000
"""Most bytes of a file's name, and of a listed path."""


def path_fault(path: str) -> str | None:
    """Why a listed path or id is refused, or None: it must be printable and inside the data set's folder.

    Only the text is checked; a link that the data set's owner put into the folder may lead anywhere.
    """
    if not path or not is_printable(path):
        return "the name is empty or contains control characters; rename the photo"
    parts = PureWindowsPath(path)  # splits at / and \
    if parts.root or ".." in parts.parts or "://" in path:
        return f"{path!r} leads outside the data set's folder; list photos by their path inside it"
    if len(path.encode()) > MAX_PATH or any(len(part.encode()) > MAX_NAME for part in parts.parts):
        return f"{path[:40]!r}… is too long (more than {MAX_NAME} bytes per name); rename the photo"
    return None


@dataclass
class ListedFiles:
    """The files below `root`, in whatever Unicode form they are listed."""

    root: Path
    _names: dict[Path, dict[str, str]] = field(default_factory=dict)
    _stems: dict[PurePosixPath, dict[str, list[str]]] = field(default_factory=dict)

    def inside(self, path: str) -> str:
        """`path`, as it is below the root if it is absolute and leads into it."""
        if path.startswith("/"):
            for root in (self.root.absolute(), self.root.resolve()):
                if PurePosixPath(path).is_relative_to(root):
                    return PurePosixPath(path).relative_to(root).as_posix()
        return path

    def photos(self, image: str, beside: Sequence[str] = ()) -> list[PurePosixPath]:
        """The paths below the root that the photo listed as `image` may have: usually one, none if it is missing.

        The folders `beside`, the root and PHOTO_FOLDERS are searched in this order, for the first file that is called
        `image`. If there is none, all photos are meant whose suffix is written in another case, or which have one where
        `image` has none.
        """
        paths = [PurePosixPath(folder, image.replace("\\", "/")) for folder in (*beside, "", *PHOTO_FOLDERS)]
        for path in paths:
            if not path_fault(str(path)) and (found := self.file(path)):
                return [found]
        safe = (path for path in paths if not path_fault(str(path)))
        return list(dict.fromkeys(photo for path in safe for photo in self._with_suffix(path)))

    def file(self, path: PurePosixPath) -> PurePosixPath | None:
        """`path` below the root as the file system spells it, None if there is no such file."""
        if (self.root / path).is_file():
            return path
        found = self._spelled(path)
        return found if (self.root / found).is_file() else None

    def _spelled(self, path: PurePosixPath) -> PurePosixPath:
        """`path` with each name as the file system spells it."""
        found = PurePosixPath()
        for part in path.parts:
            if not (self.root / found / part).exists():
                composed = unicodedata.normalize("NFC", part)
                part = self._other_forms(self.root / found).get(composed, composed)
            found /= part
        return found

    def _other_forms(self, folder: Path) -> dict[str, str]:
        """Names in `folder` that are not in composed Unicode, as those from a Mac, by their composed form."""
        if folder not in self._names:
            names = (path.name for path in _entries(folder))
            composed = ((unicodedata.normalize("NFC", name), name) for name in names)
            self._names[folder] = {form: name for form, name in composed if form != name}
        return self._names[folder]

    def _with_suffix(self, path: PurePosixPath) -> list[PurePosixPath]:
        """The photos that are called like `path`, whatever the case of its suffix, or any if it has none, sorted."""
        suffix = path.suffix.lower() if path.suffix.lower() in PHOTO_SUFFIXES else ""
        stem = unicodedata.normalize("NFC", path.name[: len(path.name) - len(suffix)])
        folder = self._spelled(path.parent)
        if folder not in self._stems:
            stems = self._stems[folder] = {}
            for photo in sorted(_entries(self.root / folder)):
                if photo.suffix.lower() in PHOTO_SUFFIXES and photo.is_file():
                    stems.setdefault(unicodedata.normalize("NFC", photo.stem), []).append(photo.name)
        return [folder / name for name in self._stems[folder].get(stem, ()) if name.lower().endswith(suffix)]


def _entries(folder: Path) -> Iterable[Path]:
    return folder.iterdir() if folder.is_dir() else ()
