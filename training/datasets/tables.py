"""A list of photos: a CSV with the header image,tags, or JSON Lines {"image": "a.jpg", "tags": ["cat", "dog"]}.

Several tags in one text are separated by spaces, or by `;` or `,`. Photos are listed by their path from the list's
folder, or from images/ or JPEGImages/ in it. A column or key `split`, or splits/<split>.txt with one id per line,
names each photo's split. Masks are masks/<id>.png, with their values named in classes.txt.
"""

import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

from tagmask.errors import DataError
from training.datasets.listing import Entry, Listing, read_lines, read_text, unknown_split

SUFFIXES = (".csv", ".jsonl")


def find(root: Path) -> Path | None:
    """The list `root`, or the list in a folder, tags.csv or tags.jsonl first, or None. Raises DataError for several."""
    if root.is_file():
        return root if root.suffix.lower() in SUFFIXES else None
    tables = sorted(path for path in root.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file())
    chosen = [path for path in tables if path.stem == "tags"] or tables
    if len(chosen) > 1:
        names = ", ".join(path.name for path in chosen[:5])
        raise DataError(f"{root}: {len(chosen)} lists ({names}); name the one to read, or rename it to tags.csv")
    return chosen[0] if chosen else None


def read(root: Path, split: str | None) -> Listing:
    """Read the list `root`, or that of a folder, or one split of it.

    Raises DataError for a folder without a list, a list without the columns, or an unknown split.
    """
    path = find(root)
    if path is None:
        raise DataError(f"{root}: no .csv or .jsonl in it; add the list, or name it")
    listing = Listing(path.parent)
    rows = list(_csv_rows(path, listing) if path.suffix.lower() == ".csv" else _json_rows(path, listing))
    splits = {row.split for row in rows if row.split}
    if split is not None and splits:
        if split not in splits:
            raise unknown_split(path, split, splits)
        rows = [row for row in rows if row.split == split]
    for row in rows:
        listing.add_listed(row.image, listing.tags(row.tags, row.where), row.where)
    if split is not None and not splits:
        listing.keep_split(split)
    listing.attach_masks()
    return listing


def _csv_rows(path: Path, listing: Listing) -> Iterator[Entry]:
    lines = csv.reader(io.StringIO(read_text(path)))
    header: list[str] = []
    try:
        for line in lines:
            where = f"{path.name}:{lines.line_num}"
            if not header:
                header = [cell.strip() for cell in line]
                if header.count("image") != 1 or header.count("tags") != 1:
                    raise DataError(f"{path}: the first line must be the header image,tags (and split), not {header}")
            elif not any(cell.strip() for cell in line):
                listing.fault(where, "empty line; remove it")
            elif len(line) != len(header):
                listing.fault(where, f"malformed line, {len(line)} cells; write {len(header)}, several tags in quotes")
            else:
                cells = dict(zip(header, (cell.strip() for cell in line), strict=True))
                yield Entry(where, cells["image"], _tags(cells["tags"]), cells.get("split", ""))
    except csv.Error as fault:
        raise DataError(f"{path}:{lines.line_num}: not CSV ({fault}); correct the line") from fault
    if not header:
        raise DataError(f"{path}: empty; write the header image,tags and one line per photo")


def _json_rows(path: Path, listing: Listing) -> Iterator[Entry]:
    for where, line in read_lines(path, listing):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            record = None
        match record:
            case {"image": str(image), "tags": str(tags)}:
                named = _tags(tags)
            case {"image": str(image), "tags": list(tags)} if all(isinstance(tag, str) for tag in tags):
                named = tuple(tags)
            case _:
                listing.fault(where, 'malformed line; write {"image": "a.jpg", "tags": ["cat"]}')
                continue
        yield Entry(where, image.strip(), named, str(record.get("split") or ""))


def _tags(text: str) -> tuple[str, ...]:
    parts = re.split("[;,]", text) if re.search("[;,]", text) else text.split()
    return tuple(parts)
