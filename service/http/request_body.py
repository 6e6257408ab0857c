"""Request bodies: multipart forms, raw photos and JSON; within limits, in memory, and never fetched from a URL.

Not Starlette's body limit, which responds in plain text.
"""

from collections.abc import AsyncGenerator, Collection
from dataclasses import dataclass, field
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import from_json
from starlette.requests import Request

from service.http.multipart import FILE, read_parts
from tagmask.errors import BadRequest, TooLarge, Unprocessable, UnsupportedType

_MAX_VALUES = 1_000_000  # of JSON, as a Python object each takes up to 240 bytes


@dataclass(frozen=True)
class Upload:
    """An uploaded photo: its bytes, and the client's name for it."""

    data: bytes
    name: str


@dataclass(frozen=True)
class Form:
    """The photos of a request in order, its text fields, those of the query string first, and other files by field."""

    uploads: list[Upload] = field(default_factory=list)
    fields: list[tuple[str, str]] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)


class RequestModel(BaseModel, strict=True, frozen=True):
    """A JSON object whose fields must have exactly the declared types; unknown fields are ignored."""


async def read_form(request: Request, *, max_bytes: int, max_files: int, others: Collection[str] = ()) -> Form:
    """Read a multipart form, or a raw photo with its options in the query string.

    A form has at most `max_files` photos, and one file in each of the fields `others`. Raises BadRequest for broken
    multipart, TooLarge, UnsupportedType for bodies of other types, and Unprocessable for files sent as text, or in
    other fields.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    fields = list(request.query_params.multi_items())
    if media_type == "multipart/form-data":
        return await _read_multipart(request, fields, max_bytes, max_files, others)
    if media_type.startswith("image/") or media_type == "application/octet-stream":
        data = await read_bytes(request, max_bytes)
        return Form([Upload(data, "")] if data else [], fields)
    raise UnsupportedType(
        f"a body of type {media_type[:100] or 'none'!r} is not supported; send multipart/form-data with the file field "
        f"{FILE!r}, or the bytes of the photo with its media type, such as Content-Type: image/jpeg",
        field="Content-Type",
    )


async def read_bytes(request: Request, max_bytes: int) -> bytes:
    """The body as it is. Raises TooLarge for more than `max_bytes`."""
    return b"".join([chunk async for chunk in _read_chunks(request, max_bytes)])


RequestType = TypeVar("RequestType", bound=RequestModel)


def read_json(model: type[RequestType], data: bytes) -> RequestType:
    """The JSON in `data`.

    Raises TooLarge, before parsing, for more than a million values, BadRequest if it is not JSON, and Unprocessable,
    naming the field, if it does not fit. Call this in a thread of ConcurrencyLimit.
    """
    if sum(map(data.count, (b",", b"[", b"{"))) > _MAX_VALUES:
        raise TooLarge(
            f"more than {_MAX_VALUES:,} commas and brackets in JSON; send less in a request, or photos in binary",
            code="too_many_values",
            limit=_MAX_VALUES,
        )
    try:
        return model.model_validate(from_json(data, allow_inf_nan=False))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = ".".join(map(str, first["loc"]))[:100]
        message = f"{name or 'the body'}: {first['msg']}; correct it"
        raise Unprocessable(message, code="bad_field", field=name or None) from error
    except ValueError as error:
        raise BadRequest(f"the body is not JSON ({error}); send a JSON object", code="bad_json") from error


async def _read_multipart(
    request: Request, fields: list[tuple[str, str]], max_bytes: int, max_files: int, others: Collection[str]
) -> Form:
    photos: list[Upload] = []
    files: dict[str, bytes] = {}
    chunks = _read_chunks(request, max_bytes)
    for part in await read_parts(request.headers["content-type"], chunks, max_files, len(others)):
        if part.file_name is None and part.name in (FILE, *others):
            raise _file_as_text(part.name, part.data)
        if part.file_name is None:
            fields.append((part.name, part.text()))
        elif part.name == FILE:
            photos.append(Upload(bytes(part.data), part.file_name))
        elif part.name in others and part.name not in files:
            files[part.name] = bytes(part.data)
        else:
            why = "two files in" if part.name in files else "unknown"
            remedy = f"send photos as {FILE!r}" + (f", and one file as {' or '.join(others)}" if others else "")
            message = f"{why} file field {part.name[:100]!r}; {remedy}"
            raise Unprocessable(message, code="unknown_field", field=part.name[:100])
    return Form(photos, fields, files)


async def _read_chunks(request: Request, max_bytes: int) -> AsyncGenerator[bytes, None]:
    """The chunks of the body.

    Raises TooLarge when they exceed `max_bytes`, or Content-Length says that they will, and UnsupportedType for a
    compressed body.
    """
    if (encoding := request.headers.get("content-encoding", "identity").strip().lower()) != "identity":
        message = f"bodies in Content-Encoding {encoding[:100]!r} are not supported; send the body uncompressed"
        raise UnsupportedType(message, field="Content-Encoding")
    content_length = request.headers.get("content-length", "")
    if content_length.isdigit() and int(content_length[:20]) > max_bytes:
        raise too_many_bytes(max_bytes)
    received = 0
    async for chunk in request.stream():
        received += len(chunk)
        if received > max_bytes:
            raise too_many_bytes(max_bytes)
        yield chunk


def uploads(form: Form) -> list[Upload]:
    """The photos of a form. Raises Unprocessable if it has none."""
    if not form.uploads:
        raise Unprocessable(
            f"no photo; send one as the file field {FILE!r}, such as `curl -F image=@photo.jpg`",
            code="missing_file",
            field=FILE,
        )
    return form.uploads


def too_many_bytes(max_bytes: int) -> TooLarge:
    """The error for more than `max_bytes`."""
    return TooLarge(
        f"more than {max_bytes:,} bytes; send a smaller photo", code="too_many_bytes", field=FILE, limit=max_bytes
    )


def _file_as_text(name: str, value: bytearray) -> Unprocessable:
    send = f"such as `curl -F {name}=@{'photo.jpg' if name == FILE else 'FILE'}`"
    if value.strip().lower().startswith((b"http://", b"https://", b"ftp://", b"file:", b"data:")):
        return Unprocessable(
            f"URLs are never fetched; send the file itself, {send}", code="url_not_fetched", field=name
        )
    return Unprocessable(
        f"{name!r} came as text, without a file name or a media type; send a file, {send}",
        code="missing_file",
        field=name,
    )
