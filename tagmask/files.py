"""Files that are either complete or absent, reading that neither waits nor fills memory, and locks between processes.

A file is written beside its place under a temporary name and then renamed over it, so a process that is killed at any
point leaves the old file or the new one, never half of one.
"""

import errno
import os
import secrets
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BufferedReader, BytesIO
from pathlib import Path
from types import MappingProxyType
from typing import IO, TYPE_CHECKING, TypeVar

import numpy as np
from filelock import FileLock, Timeout
from PIL import Image
from PIL.PngImagePlugin import PngImageFile, PngInfo

from tagmask.errors import TagmaskError

if TYPE_CHECKING:
    from pydantic import BaseModel

MAX_BYTES = 2_000_000_000
"""Largest document that is read, in bytes; COCO's own list of 118,287 photos with all outlines has a quarter of it."""

MAX_PNG_PIXELS = 100_000_000
"""Most pixels of a mask or map that is read."""

_PART = ".part"
_Model = TypeVar("_Model", bound="BaseModel")


@contextmanager
def atomic_write(
    path: Path, *, durable: bool = False, mode: int | None = 0o644, temporary: Path | None = None
) -> Iterator[IO[bytes]]:
    """Open `path` for binary writing; it appears under its name when the block ends without an exception.

    Missing parent folders are made. On an exception the temporary file is removed and `path` is as it was. If
    `durable`, the new name too is on the disk at the end. `mode` None leaves the permissions to the umask. `temporary`
    is for a writer that holds a lock: it replaces what a killed writer left under that name. Raises IsADirectoryError
    for a folder, and for a link to one.
    """
    if not path.parent.is_dir():
        path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():  # a link to a folder would be replaced
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    part = temporary or path.with_name(f".{secrets.token_hex(8)}{_PART}")
    try:
        with part.open("wb" if temporary else "xb") as file:
            if mode is not None:
                os.fchmod(file.fileno(), mode)  # before there is anything to read
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    if durable:
        sync_folder(path.parent)


def unfinished(folder: Path) -> Iterator[Path]:
    """Temporary files that a killed process left in `folder`, or that another is writing."""
    return folder.glob(f".*{_PART}")


def remove_unfinished(folder: Path) -> None:
    """Remove the temporary files of killed processes below `folder`, in which no other process may be writing."""
    for path in folder.rglob(f".*{_PART}"):
        path.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes, *, durable: bool = False) -> None:
    """Write `data`."""
    with atomic_write(path, durable=durable) as file:
        file.write(data)


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8."""
    write_bytes(path, text.encode())


def encode_png(image: Image.Image, texts: Mapping[str, str] = MappingProxyType({})) -> bytes:
    """A Pillow image as PNG, with `texts` in it by their keywords."""
    chunks = PngInfo()
    for keyword, text in texts.items():
        chunks.add_text(keyword, text)
    target = BytesIO()
    image.save(target, format="PNG", compress_level=3, pnginfo=chunks)
    return target.getvalue()


def write_png(path: Path, image: Image.Image, texts: Mapping[str, str] = MappingProxyType({})) -> None:
    """Write what `encode_png` returns."""
    write_bytes(path, encode_png(image, texts))


def write_array(path: Path, array: np.ndarray) -> None:
    """Write one array as `.npy`."""
    with atomic_write(path) as file:
        np.save(file, array, allow_pickle=False)


class UnfitFileError(OSError):
    """A file that is not opened: what is wrong is its `strerror`, and what to do about it the `remedy`."""

    def __init__(self, code: int, why: str, path: Path, remedy: str) -> None:
        super().__init__(code, why, str(path))
        self.remedy = remedy


def open_file(path: Path, max_bytes: int = MAX_BYTES) -> BufferedReader:
    """Open a regular file for binary reading.

    Raises UnfitFileError for more than `max_bytes`, and for a pipe, socket, device or folder, of which reading could
    wait or never end; OSError for a file that cannot be read.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as fault:
        if fault.errno == errno.ENXIO:  # a socket
            raise _not_regular(path) from fault
        raise
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise _not_regular(path)
        if status.st_size > max_bytes:
            why = f"has {status.st_size:,} bytes, more than {max_bytes:,}"
            raise UnfitFileError(errno.EFBIG, why, path, "make it smaller or remove it")
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def read_bytes(path: Path, max_bytes: int = MAX_BYTES) -> bytes:
    """The bytes of a regular file. Raises as `open_file` does."""
    with open_file(path, max_bytes) as file:
        return file.read(os.fstat(file.fileno()).st_size)  # not to the end, which may move while it is read


def read_text(path: Path, max_bytes: int = MAX_BYTES, *, errors: str = "strict") -> str:
    """A UTF-8 text, with or without byte order mark, its lines ended by `\\n`.

    Raises as `open_file` does, and UnicodeDecodeError unless `errors`, as for `bytes.decode`, says otherwise.
    """
    text = read_bytes(path, max_bytes).decode("utf-8-sig", errors)
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_png(path: Path) -> PngImageFile:
    """A PNG, decoded as it is stored. Raises as `open_file` and `decode_png` do."""
    return decode_png(read_bytes(path))


def decode_png(data: bytes, size: tuple[int, int] | None = None) -> PngImageFile:
    """The PNG in `data`, decoded as it is stored; before that its `size`, (height, width), is compared, if given.

    Raises ValueError for another type, a damaged file, more than MAX_PNG_PIXELS, and another size.
    """
    try:
        image = PngImageFile(BytesIO(data))  # not `Image.open`, which starts other programs for some types
        width, height = image.size
        if width * height > MAX_PNG_PIXELS:
            raise ValueError(f"{width}x{height} pixels, more than {MAX_PNG_PIXELS:,}")
        fits = size in (None, (height, width))
        if fits:
            image.load()
    except Exception as fault:  # Pillow raises exceptions of all kinds
        raise ValueError(f"not a PNG that can be read: {fault}") from fault
    if size and not fits:
        raise ValueError(f"{width}x{height} pixels large, and the photo {size[1]}x{size[0]}")
    return image


def read_fault(fault: OSError, remedy: str | None = None) -> str:
    """Why a file could not be read, and what to do: the `remedy`, by default to repair or remove the file."""
    if isinstance(fault, UnfitFileError):
        return f"{fault.strerror}; {remedy or fault.remedy}"
    return f"cannot be read ({fault.strerror}); {remedy or 'make it readable or remove it'}"


def _not_regular(path: Path) -> UnfitFileError:
    return UnfitFileError(errno.EINVAL, "is not a regular file", path, "replace or remove it")


def read_model(path: Path, model: type[_Model], *, error: type[TagmaskError], remedy: str) -> _Model | None:
    """The JSON document at `path`, None if it does not exist.

    Raises `error`, with the `remedy` for a damaged one, when it cannot be read or is not a `model`.
    """
    try:
        data = read_bytes(path)
    except FileNotFoundError:
        return None
    except OSError as fault:
        raise error(f"{path}: {read_fault(fault, 'make it a file that this process can read')}") from fault
    return parse_model(data, model, place=path, error=error, remedy=remedy)


def parse_model(data: bytes, model: type[_Model], *, place: object, error: type[TagmaskError], remedy: str) -> _Model:
    """The JSON document `data`, read at `place`. Raises `error`, with the `remedy`, when it is not a `model`."""
    from pydantic import ValidationError  # the HTTP client does without

    try:
        return model.model_validate_json(data)
    except ValidationError as fault:
        first = fault.errors()[0]
        name = "".join(f" {part}" for part in first["loc"])
        raise error(f"{place}: damaged{name} ({first['msg']}); {remedy}") from fault


def real_path(path: Path) -> Path:
    """`path` without links and "..", as `Path.resolve`, which before Python 3.13 fails for a link to itself."""
    return Path(os.path.realpath(path))


def sync_folder(folder: Path) -> None:
    """Wait until the names in `folder` are on the disk, and survive a power cut. Raises OSError."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold the lock file `path`, made if absent, against all other processes and threads.

    The system releases it when this process ends, however it ends. Raises BlockingIOError when it is held and `wait`
    is false, and OSError when the file cannot be opened.
    """
    try:
        lock = FileLock(path).acquire(poll_interval=0.01, blocking=wait)
    except Timeout as fault:
        raise BlockingIOError(errno.EWOULDBLOCK, os.strerror(errno.EWOULDBLOCK), str(path)) from fault
    with lock:
        yield
