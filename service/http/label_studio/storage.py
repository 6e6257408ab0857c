"""The photo of a task: a data URI, or a path in Label Studio's own storage. URLs are never fetched.

https://labelstud.io/guide/storage#Local-storage
"""

import base64
import re
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from service.http.request_body import too_many_bytes
from tagmask.errors import NotFound, Unprocessable

_INLINE = re.compile(r"data:[\w.+-]+/[\w.+-]+(;[\w-]+=[\w.+-]*)*;base64", re.IGNORECASE)
_MAX_ADDRESS = 4096  # characters of a path, or of a data URI before its data
_UPLOADS, _LOCAL_FILES = "/data/upload/", "/data/local-files"


def read_photo(source: object, files: Path | None, max_bytes: int) -> bytes:
    """The bytes of the photo `source` of a task's data, from the folder `files`.

    Raises Unprocessable for anything but a data URI or path, NotFound for a missing file, and TooLarge.
    """
    if not isinstance(source, str):
        raise _error("is not text", "make the labeling interface refer to the field that holds the photo", "bad_task")
    head, comma, _ = source[:_MAX_ADDRESS].partition(",")
    if comma and _INLINE.fullmatch(head):
        try:
            return base64.b64decode(source[len(head) + 1 :], validate=True)
        except ValueError as error:
            raise _error("is a data URI in broken base64", "encode it again", "bad_task") from error
    path = _stored_path(source) if len(source) <= _MAX_ADDRESS else None
    if path is None:
        raise _error(
            f"{source[:200]!r} cannot be read, as URLs are never fetched",
            "store photos in Label Studio's uploads or local files, or send them in tasks as data URIs",
            "url_not_fetched",
        )
    if files is None:
        raise _error(
            f"{source[:200]!r} is a file of Label Studio, which this service cannot access",
            "start the service with TAGMASK_LABEL_STUDIO_FILES=folder",
            "label_studio_files_off",
        )
    return _read(path, files, max_bytes)


def _stored_path(source: str) -> str | None:
    """The path below Label Studio's folder; the host in the address is ignored."""
    try:
        address = urlsplit(source)
        if address.path.rstrip("/").endswith(_LOCAL_FILES):
            return parse_qs(address.query)["d"][0]
    except (ValueError, KeyError):
        return None
    _, upload, rest = address.path.partition(_UPLOADS)
    return f"upload/{unquote(rest)}" if upload else None


def _read(path: str, files: Path, max_bytes: int) -> bytes:
    try:
        root = files.resolve(strict=True)
        file = (root / path).resolve(strict=True)
        if file.is_relative_to(root) and file.is_file():
            with file.open("rb") as content:
                data = content.read(max_bytes + 1)
            if len(data) > max_bytes:
                raise too_many_bytes(max_bytes)
            return data
    except (OSError, ValueError, RuntimeError):  # missing, unreadable, not a file name, circular links
        pass
    raise NotFound(
        f"no file {path[:200]!r} in the folder of Label Studio's files; check that TAGMASK_LABEL_STUDIO_FILES is the "
        "folder from which Label Studio serves them",
        code="no_such_file",
        field="tasks",
    )


def _error(message: str, remedy: str, code: str) -> Unprocessable:
    return Unprocessable(f"the photo of a task {message}; {remedy}", code=code, field="tasks")
