"""A list of photos: CSV with the header image,tags, or JSON objects {"image": "a.jpg", "tags": ["cat", "dog"]}.

The objects are in an array or one per line, or there is one object of the tags of each photo, {"a.jpg": ["cat"]}.
Columns and keys may have the names that other tools give them (IMAGE, ID, TAGS, TAG), and cells may be separated by
`,`, `;` or tabs. Several tags in one text are separated by spaces, or by `;` or `,`; a photo may have several lines.
Instead of tags, a CSV may have a column per class, of 0 and 1. A photo with no tag shows nothing. Photos are listed by
their path from the list's folder, or from a folder in it: one called like the list, images/ or JPEGImages/. A column
or key `split`, or splits/<split>.txt with one id per line, names each photo's split. Masks are masks/<id>.png, with
their values named in classes.txt. An object of JSON may have the keys `correction` and `hint`, each the JSON of a
Correction, which are trained on.
"""

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tagmask.classes import merge_tags
from tagmask.errors import DataError
from tagmask.masks import BACKGROUND
from tagmask.photos import PHOTO_SUFFIXES
from training.datasets.exports import head, read_json
from training.datasets.listing import Entry, Listing, read_lines, read_text, unknown_split
from training.datasets.photos import ListedMasks, listed_masks

SUFFIXES = (".csv", ".tsv", ".jsonl", ".json")

IMAGE = ("image", "photo", "file", "path", "file_name", "filename", "filepath", "image_name", "image_path")
ID = ("image_id", "id")
TAGS = ("tags", "labels", "classes", "categories")
TAG = ("tag", "label", "class", "category")
SPLIT = ("split",)
"""Names of columns and keys, in lower case: of the photo, or else its id, of several tags, one, and the split."""

_INDEX = re.compile(r"(Unnamed: \d+)?")
"""What pandas calls the column of line numbers that it writes, and calls it when it has read it."""

_BY_PHOTO = re.compile(
    rf'\s*\{{\s*"[^"]*({"|".join(map(re.escape, sorted(PHOTO_SUFFIXES)))})"\s*:\s*["\[]', re.IGNORECASE
)
"""How a JSON object begins that has the tags of each photo."""

_SEPARATORS = ",;\t"
_FLAGS = {"0": False, "1": True, "0.0": False, "1.0": True, "false": False, "true": True}


def lists(root: Path) -> list[Path]:
    """The files in a folder that may be lists, sorted."""
    return sorted(path for path in root.iterdir() if path.is_file() and _may_be_list(path))


def find(root: Path) -> Path | None:
    """The list `root`, or the list in a folder, or None: tags.csv or tags.jsonl, or else one with known columns.

    Raises DataError for several.
    """
    if root.is_file():
        return root if _may_be_list(root) else None
    found = lists(root)
    chosen = [path for path in found if path.stem == "tags"] or [path for path in found if _is_list(path)]
    if len(chosen) > 1:
        names = ", ".join(path.name for path in chosen[:5])
        raise DataError(
            f"{root}: {len(chosen)} lists ({names}); name those to read, such as {chosen[0]}, or rename one to tags.csv"
        )
    return chosen[0] if chosen else None


def read(root: Path, split: str | None) -> Listing:
    """Read the list `root`, or that of a folder, or one split of it.

    Raises DataError for a folder without a list, a list without the columns, or an unknown split.
    """
    path = root if root.is_file() else find(root) or next(iter(lists(root)), None)
    if path is None:
        raise DataError(f"{root}: no .csv, .jsonl or .json of tags in it; add the list, or name it")
    listing = Listing(path.parent)
    rows = list(_json_rows(path, listing) if _is_json(path) else _csv_rows(path, listing))
    splits = {row.split for row in rows if row.split}
    if split is not None and splits:
        if split not in splits:
            raise unknown_split(path, split, splits)
        rows = [row for row in rows if row.split == split]
    photos: dict[str, tuple[str, set[str]]] = {}
    masks = {row.image: row.masks for row in rows if any(row.masks)}
    for row in rows:
        texts = row.tags if any(map(str.strip, row.tags)) else [BACKGROUND]
        photos.setdefault(row.image, (row.where, set()))[1].update(listing.tags(texts, row.where))
    for image, (where, tags) in photos.items():
        listing.add_listed(image, merge_tags(tags), where, (path.stem,), masks.get(image, (None, None)))
    if split is not None and not splits:
        listing.keep_split(split)
    listing.attach_masks()
    return listing


@dataclass(frozen=True)
class _Columns:
    """What the columns or keys of a list are called: of the photo, of its tags and its split, "" for none, and others.

    A column of line numbers is none of them.
    """

    image: str
    tags: str
    split: str
    others: tuple[str, ...]

    @classmethod
    def of(cls, header: list[str]) -> "_Columns | None":
        """None without a column of photos. Raises ValueError for two of a kind."""
        photos = IMAGE if any(name.lower() in IMAGE for name in header) else ID
        kinds = {"photos": photos, "tags": TAGS + TAG, "splits": SPLIT}
        named = {kind: [name for name in header if name.lower() in known] for kind, known in kinds.items()}
        for kind, names in named.items():
            if len(names) > 1:
                raise ValueError(f"the columns {names[0]!r} and {names[1]!r} both name {kind}; rename one")
        image, tags, split = (next(iter(names), "") for names in named.values())
        others = tuple(name for name in header if name not in (image, tags, split) and not _INDEX.fullmatch(name))
        return cls(image, tags, split, others) if image else None

    def split_tags(self, text: str) -> tuple[str, ...]:
        """The tags in a text; that of a single tag may have spaces."""
        if self.tags.lower() in TAG:
            return (text,)
        return tuple(re.split("[;,]", text) if re.search("[;,]", text) else text.split())


def _may_be_list(path: Path) -> bool:
    """Whether a file may be a list, by its suffix; of .json, which other tools write too, by how it begins."""
    suffix = path.suffix.lower()
    return suffix in SUFFIXES and (suffix != ".json" or _is_list(path))


def _is_list(path: Path) -> bool:
    """Whether a file begins with known columns or keys."""
    text = head(path).decode(errors="replace")
    if _is_json(path):
        return _BY_PHOTO.match(text) is not None or _has_tags(_first(text))
    try:
        return _dialect("\n".join(text.splitlines())) is not None
    except ValueError:
        return True  # what is wrong with it is told when it is read


def _dialect(text: str) -> tuple[str, _Columns] | None:
    """The separator of cells with which the text begins with a header, and its columns; None without such a separator.

    Raises ValueError for a header with two columns of a kind.
    """
    for separator in _SEPARATORS:
        columns, cells = _begin(text, separator)
        if columns and (columns.tags or (columns.others and not _unflagged(cells, columns))):
            return separator, columns
    return None


def _begin(text: str, separator: str) -> tuple[_Columns | None, dict[str, str]]:
    """The columns that the first line names, None without one of photos, and the cells of the second by their names.

    Raises ValueError for a header with two columns of a kind.
    """
    header, first = (_cells(line, separator) for line in (*text.split("\n", 2), "")[:2])
    return _Columns.of(header), dict(zip(header, first, strict=False))


def _cells(line: str, separator: str) -> list[str]:
    """Cells of a line; none of one that is not CSV."""
    try:
        return [cell.strip() for cell in next(csv.reader([line], delimiter=separator), [])]
    except csv.Error:
        return []


def _unflagged(cells: Mapping[str, str], columns: _Columns) -> str | None:
    """The first column of a class in which there is neither 0 nor 1; None if there is none."""
    return next((name for name in columns.others if cells.get(name, "").lower() not in _FLAGS), None)


def _csv_rows(path: Path, listing: Listing) -> Iterator[Entry]:
    text = read_text(path)
    separator, columns = _demand_dialect(path, text)
    lines = csv.reader(io.StringIO(text), delimiter=separator, strict=True)
    begin = 1
    try:
        header = [cell.strip() for cell in next(lines)]
        begin = lines.line_num + 1
        for line in lines:
            where, begin = f"{path.name}:{begin}", lines.line_num + 1
            cells = dict(zip(header, (cell.strip() for cell in line), strict=False))
            if not any(cells.values()):
                listing.fault(where, "empty line; remove it")
            elif len(line) != len(header):
                listing.fault(where, f"malformed line, {len(line)} cells; write {len(header)}, several tags in quotes")
            elif not columns.tags and (name := _unflagged(cells, columns)):
                why = f"malformed line, {cells[name][:40]!r} in the column {name[:40]!r}; write 0 or 1 for each class"
                listing.fault(where, f"{why}, and remove columns of anything else")
            else:
                split = cells[columns.split] if columns.split else ""
                yield Entry(where, cells[columns.image], _row_tags(cells, columns), split)
    except csv.Error as fault:
        why = f"not CSV ({fault}); correct the line, and close its quotation marks"
        raise DataError(f"{path}:{begin}: {why}") from fault


def _demand_dialect(path: Path, text: str) -> tuple[str, _Columns]:
    """As `_dialect`. Raises DataError where it gives none, or two columns of classes have the same name."""
    try:
        dialect = _dialect(text)
    except ValueError as fault:
        raise DataError(f"{path}: {fault}") from fault
    if dialect is None:
        headers = "image,tags or file_name,label, or filename and a column of 0 and 1 for each class"
        found = repr(text.partition("\n")[0][:80])
        for columns, cells in (_begin(text, separator) for separator in _SEPARATORS):
            if columns and (name := _unflagged(cells, columns)):
                found += f" with {cells.get(name, '')[:40]!r} below {name[:40]!r}"
        raise DataError(f"{path}: the first line must be a header, {headers}, not {found}")
    _, columns = dialect
    if not columns.tags and (twice := [name for name, times in Counter(columns.others).items() if times > 1]):
        raise DataError(f"{path}: two columns are called {twice[0][:40]!r}; rename or remove one")
    return dialect


def _row_tags(cells: Mapping[str, str], columns: _Columns) -> tuple[str, ...]:
    if columns.tags:
        return columns.split_tags(cells[columns.tags])
    return tuple(name for name in columns.others if _FLAGS[cells[name].lower()])


def _is_json(path: Path) -> bool:
    return path.suffix.lower() in (".jsonl", ".json")


def _first(text: str) -> Any:
    """The first object of an array, or in the first line, of JSON; None without one."""
    text = text.lstrip()
    return _decoded(text.partition("\n")[0]) if text[:1] != "[" else _decoded(text[1:].lstrip(), begins=True)


def _has_tags(record: Any) -> bool:
    """Whether a JSON value has the keys of a photo and its tags; their values are checked when they are read."""
    try:
        columns = _Columns.of(list(record)) if isinstance(record, dict) else None
    except ValueError:
        return False
    return columns is not None and columns.tags != ""


def _decoded(text: str, *, begins: bool = False) -> Any:
    """The JSON value that `text` is, or with which it `begins`; None for anything else."""
    try:
        return json.JSONDecoder().raw_decode(text)[0] if begins else json.loads(text)
    except (ValueError, RecursionError):
        return None


def _json_rows(path: Path, listing: Listing) -> Iterator[Entry]:
    for where, record in _records(path, listing):
        if (parsed := _parse(record)) is None:
            listing.fault(where, 'malformed entry; write {"image": "a.jpg", "tags": ["cat"]}')
        else:
            yield Entry(where, *parsed)


def _records(path: Path, listing: Listing) -> Iterator[tuple[str, Any]]:
    """The place of each entry, and the JSON value there."""
    text = head(path).decode(errors="replace")
    if text.lstrip()[:1] == "[":
        yield from ((f"{path.name}: [{index}]", record) for index, record in enumerate(read_json(path)))
    elif _BY_PHOTO.match(text):
        for image, tags in read_json(path).items():
            yield f"{path.name}: {image}", {"image": image, "tags": tags}
    else:
        for where, line in read_lines(path, listing):
            yield where, _decoded(line)


def _parse(record: Any) -> tuple[str, tuple[str, ...], str, ListedMasks] | None:
    """The photo, tags, split and masks of a JSON object; None for anything else."""
    try:
        columns = _Columns.of(list(record)) if isinstance(record, dict) else None
        masks = listed_masks(record) if columns else (None, None)
    except ValueError:
        return None
    if columns is None:
        return None
    match [record.get(columns.image), record.get(columns.tags)]:
        case [str(image), str(text)]:
            tags = columns.split_tags(text)
        case [str(image), list(texts)] if all(isinstance(text, str) for text in texts):
            tags = tuple(texts)
        case _:
            return None
    return image.strip(), tags, str(record.get(columns.split) or ""), masks
