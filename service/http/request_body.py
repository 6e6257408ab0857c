"""Reading what a client sends: multipart or a raw photo, within limits, never to disk, never from a URL."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.json_schema import models_json_schema
from pydantic_core import from_json
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from tagmask.errors import BadRequest, TooLarge, Unprocessable, UnsupportedType

FILE = "image"
"""Name of the field that holds a photo."""

_MOST_FIELDS = 200
_FIELD_BYTES = 64_000
_DISCARDED = 4
"""How many times the limit is read and thrown away, so that a client that writes all before it reads sees why."""


@dataclass(frozen=True)
class Upload:
    """One photo as sent: its bytes and the client's name for it."""

    data: bytes
    name: str


@dataclass(frozen=True)
class Form:
    """A request's photos in order, and its text fields, those of the query string first."""

    uploads: list[Upload] = field(default_factory=list)
    fields: list[tuple[str, str]] = field(default_factory=list)


class _InMemory(MultiPartParser):
    """Starlette's parser, except that files stay in memory: the limit on the body bounds them.

    `whole` tells whether the closing boundary has been read.
    """

    spool_max_size = 1 << 62
    whole = False

    def on_end(self) -> None:
        self.whole = True


async def read_form(request: Request, *, max_bytes: int, max_files: int) -> Form:
    """Read `request`, multipart or a raw photo, whose options may stand in the query string.

    Raises BadRequest for broken multipart, TooLarge, UnsupportedType for a body of another type, and Unprocessable
    for a photo sent as text.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    fields = list(request.query_params.multi_items())
    if kind == "multipart/form-data":
        return await _read_multipart(request, fields, max_bytes, max_files)
    if kind.startswith("image/") or kind == "application/octet-stream":
        data = await read_bytes(request, max_bytes)
        return Form([Upload(data, "")] if data else [], fields)
    raise UnsupportedType(
        f"a body of type {kind[:100] or 'none'!r} is not read; send multipart/form-data with the file field {FILE!r}, "
        "or the photo's bytes with its own type, such as Content-Type: image/jpeg",
        field="Content-Type",
    )


async def read_bytes(request: Request, max_bytes: int) -> bytes:
    """The body as it is. Raises TooLarge for more than `max_bytes`."""
    return b"".join([chunk async for chunk in _limited(request, max_bytes)])


async def _read_multipart(request: Request, fields: list[tuple[str, str]], max_bytes: int, max_files: int) -> Form:
    parser = _InMemory(
        request.headers,
        _limited(request, max_bytes),
        max_files=max_files + 1,
        max_fields=_MOST_FIELDS,
        max_part_size=_FIELD_BYTES,
    )
    try:
        parts = (await parser.parse()).multi_items()
    except (TooLarge, ClientDisconnect):
        raise
    except MultiPartException as fault:
        if "Too many files" in fault.message:
            raise _too_many(max_files) from fault
        raise BadRequest(f"broken multipart body: {fault.message}", code="bad_multipart") from fault
    except Exception as fault:  # the parser raises KeyError, ValueError and more at what it did not expect
        raise BadRequest(
            "broken multipart body; send it as `curl -F image=@photo.jpg` does", code="bad_multipart"
        ) from fault
    if not parser.whole:
        raise BadRequest(
            "broken multipart body: it ends before its closing boundary; send all of it", code="bad_multipart"
        )
    uploads = []
    for name, value in parts:
        if isinstance(value, UploadFile):
            uploads.append(await _upload(name, value))
        elif name == FILE:
            raise _photo_as_text(value)
        else:
            fields.append((name, value))
    uploads = [upload for upload in uploads if upload.data or upload.name]  # a form's file field left empty
    if len(uploads) > max_files:
        raise _too_many(max_files)
    return Form(uploads, fields)


async def _upload(name: str, value: UploadFile) -> Upload:
    if name != FILE:
        raise Unprocessable(
            f"unknown file field {name[:100]!r}; photos go into {FILE!r}", code="unknown_field", field=name[:100]
        )
    return Upload(await value.read(), value.filename or "")


async def _limited(request: Request, max_bytes: int) -> AsyncGenerator[bytes, None]:
    """The body's chunks. Raises TooLarge once they are more than `max_bytes`, or are announced to be."""
    announced = request.headers.get("content-length", "")
    too_large = announced.isdigit() and int(announced[:20]) > max_bytes
    if too_large and "100-continue" in request.headers.get("expect", "").lower():
        raise too_many_bytes(max_bytes)  # the client waits for our word before it sends
    received = 0
    async for chunk in request.stream():
        received += len(chunk)
        too_large = too_large or received > max_bytes
        if not too_large:
            yield chunk
        elif received > _DISCARDED * max_bytes:
            break
    if too_large:
        raise too_many_bytes(max_bytes)


def only(form: Form) -> Upload:
    """The one photo of a form. Raises Unprocessable when there is none."""
    return some(form)[0]


def some(form: Form) -> list[Upload]:
    """The photos of a form. Raises Unprocessable when there is none."""
    if not form.uploads:
        raise Unprocessable(
            f"no photo; send one as the file field {FILE!r}, such as `curl -F image=@photo.jpg`",
            code="missing_file",
            field=FILE,
        )
    return form.uploads


def too_many_bytes(most: int) -> TooLarge:
    """What is answered to more than `most` bytes."""
    return TooLarge(f"more than {most:,} bytes; send a smaller photo", code="too_many_bytes", field=FILE, limit=most)


def _too_many(max_files: int) -> TooLarge:
    many = f"{max_files} photos" if max_files > 1 else "one photo"
    remedy = "send several requests" if max_files > 1 else "POST several to /v1/segment/batch"
    return TooLarge(f"at most {many} a request; {remedy}", code="too_many_files", field=FILE, limit=max_files)


def _photo_as_text(value: str) -> Unprocessable:
    if value.strip().lower().startswith(("http://", "https://", "ftp://", "file:", "data:")):
        return Unprocessable(
            "a URL is never fetched; send the photo itself, such as `curl -F image=@photo.jpg`",
            code="url_not_fetched",
            field=FILE,
        )
    return Unprocessable(
        f"{FILE!r} came as text, without a file name; send a file, such as `curl -F image=@photo.jpg`",
        code="missing_file",
        field=FILE,
    )


class Document(BaseModel):
    """A JSON object whose fields have exactly the types that are declared; unknown ones are ignored."""

    model_config = ConfigDict(strict=True, frozen=True)


Read = TypeVar("Read", bound=Document)


def read_document(kind: type[Read], data: bytes) -> Read:
    """The JSON in `data`. Raises BadRequest for what is no JSON, and Unprocessable, naming the field at fault.

    Python objects take up to some thirty times the bytes of their JSON, so this is work for the gate's threads.
    """
    try:
        return kind.model_validate(from_json(data, allow_inf_nan=False))
    except ValidationError as fault:
        first = fault.errors(include_url=False, include_input=False)[0]
        field = ".".join(map(str, first["loc"]))[:100]
        message = f"{field or 'the body'}: {first['msg']}; correct it"
        raise Unprocessable(message, code="bad_field", field=field or None) from fault
    except ValueError as fault:
        raise BadRequest(f"the body is no JSON ({fault}); send a JSON object", code="bad_json") from fault


def described(*kinds: type[Document]) -> dict[str, dict[str, Any]]:
    """JSON Schemas of `kinds`, and of what they are made of, by name: components of the OpenAPI document."""
    read: list[tuple[type[BaseModel], Literal["validation"]]] = [(kind, "validation") for kind in kinds]
    return dict(models_json_schema(read, ref_template="#/components/schemas/{model}")[1]["$defs"])
