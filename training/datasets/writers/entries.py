"""JSON that is written an entry at a time, so that no data set need fit into memory."""

import json
from collections.abc import Iterable
from typing import IO, Any


def dumped(value: Any) -> bytes:
    """`value` as JSON on one line."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def write_entries(file: IO[bytes], entries: Iterable[Any]) -> None:
    """Write a JSON array, an entry a line."""
    file.write(b"[")
    for index, entry in enumerate(entries):
        file.write((b",\n" if index else b"\n") + dumped(entry))
    file.write(b"\n]")
