"""Multipart bodies (RFC 7578), read in memory part by part.

Not Starlette's parser: it decodes text with any codec that the client names, some of which take quadratic time, spools
files to disk, and counts a photo without a file name as text.
"""

import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import unquote

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from tagmask.errors import BadRequest, TooLarge, Unprocessable, UnsupportedType
from tagmask.masks import MAX_CLASSES

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

FILE = "image"
"""Name of the form field that holds a photo."""

_MAX_FIELDS = 4 * MAX_CLASSES  # tags, and what a correction says, may each name all classes in fields of their own
_MAX_FIELD_BYTES = 64_000
_MAX_HEADER_BYTES = 4096  # of a header line of a part
_ENCODED_NAME = re.compile(rb";\s*filename\*\s*=\s*\"?[^';]*'[^';]*'([^;\"]*)", re.IGNORECASE)  # RFC 8187
_IDENTITIES = (b"7bit", b"8bit", b"binary")


@dataclass
class Part:
    """A part of a multipart body. `file_name` is None for text: parts that have neither a file name nor a binary type.

    Of text, at most 64,000 bytes are kept in `data`; `truncated` is whether there were more.
    """

    name: str
    file_name: str | None
    data: bytearray = field(default_factory=bytearray)
    truncated: bool = False

    def text(self) -> str:
        """The text. Raises TooLarge for more than 64,000 bytes, and Unprocessable if it is not UTF-8."""
        name = self.name[:100]
        if self.truncated:
            limit = _MAX_FIELD_BYTES
            message = f"{name!r} has more than {limit:,} bytes of text; send less"
            raise TooLarge(message, code="too_many_bytes", field=name, limit=limit)
        try:
            return self.data.decode()
        except UnicodeDecodeError as error:
            message = f"{name!r} is not text in UTF-8; encode it in UTF-8"
            raise Unprocessable(message, code="bad_field", field=name) from error


async def read_parts(content_type: str, chunks: AsyncIterator[bytes], max_files: int, others: int = 0) -> list[Part]:
    """The parts of a body in order, without the file fields that a browser's user left empty.

    Names are decoded as UTF-8, whatever charset is declared. Raises BadRequest for a broken body, TooLarge for
    too many text fields, more than `max_files` photos, or two files more than these with `others` other ones, and
    UnsupportedType for a part in a transfer encoding.
    """
    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise _broken("Content-Type has no boundary")
    reader = _Reader(max_files, others)
    try:
        parser = MultipartParser(boundary, reader.callbacks(), max_header_size=_MAX_HEADER_BYTES)
        async for chunk in chunks:
            parser.write(chunk)
    except FormParserError as error:
        raise _broken(str(error)) from error
    if not reader.complete:
        raise _broken("it ends before its closing boundary")
    parts = [part for part in reader.parts if part.data or part.file_name != ""]
    if sum(part.file_name is not None and part.name == FILE for part in parts) > max_files:
        raise _too_many_files(max_files, others)
    return parts


class _Reader:
    """Collects parts from the parser's callbacks; `complete` is whether the closing boundary has been read."""

    def __init__(self, max_files: int, others: int) -> None:
        self.parts: list[Part] = []
        self.complete = False
        self._max_files, self._others = max_files, others
        self._files = 0
        self._headers: dict[bytes, bytes] = {}
        self._name, self._value = bytearray(), bytearray()

    def callbacks(self) -> "MultipartCallbacks":
        return {
            "on_header_field": _append_to(lambda: self._name),
            "on_header_value": _append_to(lambda: self._value),
            "on_header_end": self._end_header,
            "on_headers_finished": self._begin_part,
            "on_part_data": self._add_data,
            "on_end": self._end,
        }

    def _end_header(self) -> None:
        self._headers[bytes(self._name).lower()] = bytes(self._value).strip()
        self._name, self._value = bytearray(), bytearray()

    def _begin_part(self) -> None:
        headers, self._headers = self._headers, {}
        part = _part(headers)
        self._files += part.file_name is not None
        self.parts.append(part)
        if self._files > self._max_files + self._others + 1:  # one may be left empty
            raise _too_many_files(self._max_files, self._others)
        if len(self.parts) - self._files > _MAX_FIELDS:
            message = f"more than {_MAX_FIELDS:,} text fields; separate names by commas in one field"
            raise TooLarge(message, code="too_many_fields", limit=_MAX_FIELDS)

    def _add_data(self, data: bytes, start: int, end: int) -> None:
        part = self.parts[-1]
        if part.file_name is None and len(part.data) + end - start > _MAX_FIELD_BYTES:
            part.truncated = True
            end = start + _MAX_FIELD_BYTES - len(part.data)
        part.data += memoryview(data)[start:end]

    def _end(self) -> None:
        self.complete = True


def _append_to(target: Callable[[], bytearray]) -> Callable[[bytes, int, int], None]:
    def append(data: bytes, start: int, end: int) -> None:
        target().extend(data[start:end])

    return append


def _part(headers: dict[bytes, bytes]) -> Part:
    disposition = headers.get(b"content-disposition", b"")
    options = parse_options_header(disposition)[1]
    if b"name" not in options:
        raise _broken("a part has no name in its Content-Disposition")
    encoding = headers.get(b"content-transfer-encoding", b"binary").lower()
    if encoding not in _IDENTITIES:
        raise UnsupportedType(
            f"a part in Content-Transfer-Encoding {_text(encoding[:100])!r} is not supported; send it as it is",
            field="Content-Transfer-Encoding",
        )
    return Part(_text(options[b"name"]), _file_name(disposition, options, headers.get(b"content-type", b"")))


def _file_name(disposition: bytes, options: dict[bytes, bytes], media_type: bytes) -> str | None:
    if b"filename" in options:
        return _text(options[b"filename"])
    if encoded := _ENCODED_NAME.search(disposition):
        return unquote(_text(encoded[1]), errors="replace")
    binary = media_type.lower().startswith((b"image/", b"application/octet-stream"))
    return "" if binary else None


def _text(data: bytes) -> str:
    return data.decode(errors="replace")


def _too_many_files(max_files: int, others: int) -> TooLarge:
    """The error for more than `max_files` photos with `others` other files."""
    limit = f"{max_files} photos" if max_files > 1 else "one photo"
    limit += f" with {others} other {'file' if others == 1 else 'files'}" if others else ""
    remedy = "send several requests" if max_files > 1 or others else "POST several to /v1/segment/batch"
    return TooLarge(f"at most {limit} per request; {remedy}", code="too_many_files", field=FILE, limit=max_files)


def _broken(why: str) -> BadRequest:
    return BadRequest(
        f"broken multipart body: {why}; send all of it, as `curl -F image=@photo.jpg` does", code="bad_multipart"
    )
