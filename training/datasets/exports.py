"""JSON and XML files of other tools: read without trust, and written entry by entry."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from xml.parsers import expat

from tagmask.errors import DataError
from tagmask.files import open_file
from training.datasets.listing import Listing, read_text, unreadable

MAX_DEPTH = 50
"""Deepest nesting of elements in an XML file; lists of photos have five levels."""

_HEAD = 1 << 16
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Lists:
    """The files in which a tool lists photos: `patterns` of their paths in a folder, and how they begin, `head`.

    `remedy` ends the error for a folder without such files.
    """

    patterns: tuple[str, ...]
    head: re.Pattern[bytes]
    remedy: str

    def fit(self, root: Path) -> bool:
        """Whether a file, or a file in a folder, begins like those of the tool."""
        return any(self.head.match(head(path)) for path in self._matches(root))

    def open(self, root: Path) -> tuple[Listing, list[Path]]:
        """An empty listing of the data set at `root`, a file or a folder, and its files.

        If any file begins as expected, only such files. Raises DataError for a folder without files.
        """
        files = self._matches(root)
        if not files:
            raise DataError(f"{root}: {self.remedy}")
        folder = root if root.is_dir() else root.parent.parent if root.parent.name == "annotations" else root.parent
        return Listing(folder), [path for path in files if self.head.match(head(path))] or files

    def _matches(self, root: Path) -> list[Path]:
        if root.is_file():
            return [root]
        return sorted({path for each in self.patterns for path in root.glob(each) if path.is_file()})


def head(path: Path) -> bytes:
    """The beginning of a file without byte order mark; nothing of one that cannot be read."""
    try:
        with open_file(path) as file:
            return file.read(_HEAD).removeprefix(b"\xef\xbb\xbf")
    except OSError:
        return b""


def read_json(path: Path, unneeded: Iterable[str] = ()) -> Any:
    """The document without the `unneeded` keys at any depth, so that outlines use no memory.

    Raises DataError for a file that cannot be read, is larger than `tagmask.files.MAX_BYTES`, is not JSON, or has two
    equal keys in an object, of which one would be lost.
    """
    left_out = frozenset(unneeded)

    def needed(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        kept = [pair for pair in pairs if pair[0] not in left_out]
        if len(found := dict(kept)) < len(kept):
            twice = Counter(key for key, _ in kept).most_common(1)[0][0]
            raise DataError(f"{path}: an object has the key {twice[:200]!r} more than once; join or rename them")
        return found

    try:
        return json.loads(read_text(path), object_pairs_hook=needed)
    except RecursionError as fault:
        raise DataError(f"{path}: not readable JSON (nested too deeply); export it again") from fault
    except ValueError as fault:
        raise DataError(f"{path}: not readable JSON ({fault}); export it again") from fault


@dataclass(frozen=True)
class Element:
    """An element of an XML file: the names that lead to it ("annotation/object/name"), and the line where it begins."""

    path: str
    attributes: dict[str, str]
    text: str
    line: int


def read_elements(path: Path) -> Iterator[Element]:
    """The elements of an XML file in the order in which they end, read piece by piece.

    Raises DataError, after the elements before the fault, for a file that cannot be read, is larger than
    `tagmask.files.MAX_BYTES`, is not XML, nests deeper than MAX_DEPTH, or declares a document type, so entities are
    never expanded.
    """
    reader = _ElementReader()
    try:
        with open_file(path) as file:
            while block := file.read(_BLOCK):
                yield from reader.feed(block)
        yield from reader.feed(b"", last=True)
    except (expat.ExpatError, ValueError, LookupError) as fault:
        raise DataError(f"{path}: not readable XML ({fault}); replace it") from fault
    except OSError as fault:
        raise unreadable(path, fault) from fault


class _ElementReader:
    """A parser of our own, as defusedxml's give no line numbers, which faults name, and set no limit on nesting."""

    def __init__(self) -> None:
        self._open: list[tuple[str, dict[str, str], list[str], int]] = []
        self._ended: list[Element] = []
        self._parser = expat.ParserCreate()
        self._parser.buffer_text = True
        self._parser.StartDoctypeDeclHandler = self._refuse
        self._parser.StartElementHandler = self._begin
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._text

    def feed(self, block: bytes, last: bool = False) -> list[Element]:
        """The elements that end in `block`."""
        self._ended = []
        self._parser.Parse(block, last)
        return self._ended

    def _refuse(self, *declaration: object) -> None:
        raise ValueError("it declares a document type")

    def _begin(self, name: str, attributes: dict[str, str]) -> None:
        if len(self._open) == MAX_DEPTH:
            raise ValueError(f"elements nested more than {MAX_DEPTH} deep")
        self._open.append((name, attributes, [], self._parser.CurrentLineNumber))

    def _text(self, text: str) -> None:
        if self._open:
            self._open[-1][2].append(text)

    def _end(self, name: str) -> None:
        path = "/".join(each[0] for each in self._open)
        _, attributes, texts, line = self._open.pop()
        self._ended.append(Element(path, attributes, "".join(texts).strip(), line))


def plain_id(value: Any) -> Any:
    """An id as some tools write it, 1.0 or "1", as 1."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return int(value) if isinstance(value, str) and value.isdecimal() and str(int(value)) == value else value


def json_line(value: Any) -> bytes:
    """`value` as JSON on one line."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def write_json_array(file: IO[bytes], entries: Iterable[Any]) -> None:
    """Write a JSON array, one entry per line and at a time, so that no data set has to fit into memory."""
    file.write(b"[")
    for index, entry in enumerate(entries):
        file.write((b",\n" if index else b"\n") + json_line(entry))
    file.write(b"\n]")
