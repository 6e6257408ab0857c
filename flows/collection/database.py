"""What the SQLite files of a collection share: tags and masks as text, and errors for users."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path

from tagmask.corrections import Correction
from tagmask.errors import RunError


@lru_cache(maxsize=10_000)
def pack_tags(tags: tuple[str, ...]) -> str:
    """Tags as a JSON list."""
    return json.dumps(tags, ensure_ascii=False)


@lru_cache(maxsize=10_000)
def unpack_tags(text: str) -> tuple[str, ...]:
    """The tags of a JSON list."""
    return tuple(json.loads(text))


def pack_mask(mask: Correction | None) -> str | None:
    """A correction or a hint, if any, as JSON."""
    return json.dumps(asdict(mask), ensure_ascii=False) if mask else None


def unpack_mask(text: str | None) -> Correction | None:
    """The correction or hint, if any, of its JSON, whose run lengths were checked before it was packed."""
    if text is None:
        return None
    record = json.loads(text)
    height, width = record["size"]
    areas = tuple((name, counts) for name, counts in record["areas"])
    return Correction((height, width), areas, tuple(record["complete"]))


@contextmanager
def clear_errors(path: Path) -> Iterator[None]:
    """Turn errors of SQLite into a RunError that names the file and the remedy."""
    try:
        yield
    except sqlite3.Error as error:
        match getattr(error, "sqlite_errorcode", 0) & 0xFF:
            case sqlite3.SQLITE_FULL | sqlite3.SQLITE_IOERR:
                remedy = "free disk space and start again"
            case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
                remedy = (
                    "move it away and start again: the sources are read anew; to recover photos that they no "
                    "longer list, add the newest .jsonl beside it as a source"
                )
            case sqlite3.SQLITE_BUSY:
                remedy = "another process has been writing for a minute; wait for it to finish"
            case _:
                remedy = "grant this process read and write access"
        raise RunError(f"{path}: {error}; {remedy}") from error
