"""A file of JSON lines that many processes append to, under the store's lock, and read without one."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from pydantic import ValidationError

from tagmask.errors import BundleError
from tagmask.files import open_file, read_fault, sync_folder
from tagmask.store.records import Event


def append_event(path: Path, event: Event, mode: int) -> None:
    """Add a line to the file, made with the permissions `mode`, below any half line of a killed writer."""
    line = event.model_dump_json(exclude_defaults=True).encode() + b"\n"
    new = not path.exists()
    with path.open("a+b") as file:
        if file.tell() > 0:
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                line = b"\n" + line
        file.write(line)
        file.flush()
        os.fchmod(file.fileno(), mode)
        os.fsync(file.fileno())
    if new:
        sync_folder(path.parent)


def read_events(path: Path) -> Iterator[Event]:
    """The events, oldest first, one line in memory at a time; lines that are not events are skipped.

    Raises BundleError when the file cannot be read.
    """
    try:
        with open_file(path) as lines:
            for line in lines:
                with suppress(ValidationError):
                    yield Event.model_validate_json(line)
    except FileNotFoundError:
        return
    except OSError as fault:
        raise BundleError(f"{path}: {read_fault(fault, 'make it a file that this process can read')}") from fault
