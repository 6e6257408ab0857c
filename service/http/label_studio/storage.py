"""The photo of a task, which names it by a data URI or a path of Label Studio's own storage. No URL is ever fetched.

https://labelstud.io/guide/storage#Local-storage
"""

import base64
import re
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from service.http.request_body import too_many_bytes
from tagmask.errors import NotFound, Unprocessable

_INLINE = re.compile(r"data:[\w.+-]+/[\w.+-]+(;[\w-]+=[\w.+-]*)*;base64,", re.IGNORECASE)
_UPLOADS, _LOCAL_FILES = "/data/upload/", "/data/local-files"


def read_photo(source: object, files: Path | None, max_bytes: int) -> bytes:
    """The bytes of the photo that a task's data names `source`, below the folder `files`.

    Raises Unprocessable for what is no such name, NotFound for a file that is not there, and TooLarge.
    """
    if not isinstance(source, str):
        raise _unfit("is no text", "have the labelling interface name the field that holds the photo", "bad_task")
    if inline := _INLINE.match(source):
        try:
            return base64.b64decode(source[inline.end() :], validate=True)
        except ValueError as fault:
            raise _unfit("is a data URI in broken base64", "make it anew", "bad_task") from fault
    path = _stored(source)
    if path is None:
        raise _unfit(
            f"{source[:200]!r} is not read, as no URL is ever fetched",
            "let Label Studio keep its photos in its uploads or in local files, or put them into tasks as data URIs",
            "url_not_fetched",
        )
    if files is None:
        raise _unfit(
            f"{source[:200]!r} is a file of Label Studio, which this service cannot see",
            "start it with TAGMASK_LABEL_STUDIO_FILES=folder",
            "label_studio_files_off",
        )
    return _read(path, files, max_bytes)


def _stored(source: str) -> str | None:
    """The path below Label Studio's folder; whatever host its address names, that is not asked."""
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
    except (OSError, ValueError, RuntimeError):  # not there, not to be read, no name of a file, links in a circle
        pass
    raise NotFound(
        f"no file {path[:200]!r} below the folder of Label Studio's files; see that TAGMASK_LABEL_STUDIO_FILES is the "
        "one from which Label Studio serves them",
        code="no_such_file",
        field="tasks",
    )


def _unfit(message: str, remedy: str, code: str) -> Unprocessable:
    return Unprocessable(f"the photo of a task {message}; {remedy}", code=code, field="tasks")
