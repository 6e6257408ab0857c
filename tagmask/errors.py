"""What can go wrong, as one tree.

TagmaskError
├── DataError           a photo, a tag list or a mask is not as it must be
├── ConfigError         a setting is unknown, mistyped or out of range
│   └── StartError      the service cannot start with these settings
├── RunError            a run or workspace folder cannot be started, resumed or read
├── BundleError         a model file is not a Tagmask bundle, or failed its own checks
└── RequestError        the answer to one request, with its HTTP status and a code that programs can rely on
    ├── BadRequest 400, KeyMissing and KeyUnknown 401, Forbidden 403, NotFound 404, WrongMethod 405, NotAcceptable 406
    ├── BodyTimeout 408, Refused 409, TooLarge 413, UnsupportedType 415, Unprocessable 422
    └── Internal 500, Unavailable 503, TimedOut 504, StorageFull 507

Each message names the field or file, the limit and the remedy. The command line prints the message alone and exits with
status 2. Any other exception is a defect in Tagmask.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class Fault:
    """One thing wrong with one photo, list line or mask that does not stop the work.

    `where` names the file or line, `why` says what is wrong and the remedy.
    """

    where: str
    why: str


class TagmaskError(Exception):
    """Base of everything that a user can cause."""


class DataError(TagmaskError):
    """A photo, a tag list or a mask is not as it must be."""


class ConfigError(TagmaskError):
    """A setting is unknown, mistyped or out of range."""


class StartError(ConfigError):
    """The service cannot start with these settings."""


class RunError(TagmaskError):
    """A run or workspace folder cannot be started, resumed or read."""


class BundleError(TagmaskError):
    """A model file is not a Tagmask bundle, is not what the store says it is, or cannot be run."""


class RequestError(TagmaskError):
    """An error response to one request.

    Attributes: `status` (HTTP), `code` (stable, for programs), `message` (for people), `field` of the request that is
    at fault, `limit` that was passed, `headers` to send along.
    """

    status: int
    default_code: ClassVar[str]
    title: ClassVar[str]

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        field: str | None = None,
        limit: float | str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.field = field
        self.limit = limit
        self.headers = dict(headers or {})


class BadRequest(RequestError):
    """The request is malformed, such as its multipart body."""

    status, default_code, title = 400, "bad_request", "Bad request"


class KeyMissing(RequestError):
    """No API key was sent."""

    status, default_code, title = 401, "key_missing", "API key missing"


class KeyUnknown(RequestError):
    """The API key is unknown."""

    status, default_code, title = 401, "key_unknown", "API key unknown"


class Forbidden(RequestError):
    """The key, or the origin of the request, does not allow this."""

    status, default_code, title = 403, "forbidden", "Forbidden"


class NotFound(RequestError):
    """No such path or model, or the feature is off."""

    status, default_code, title = 404, "not_found", "Not found"


class WrongMethod(RequestError):
    """The path does not support the method."""

    status, default_code, title = 405, "wrong_method", "Method not allowed"


class NotAcceptable(RequestError):
    """No format fits the Accept header."""

    status, default_code, title = 406, "not_acceptable", "Not acceptable"


class BodyTimeout(RequestError):
    """The body did not arrive in time."""

    status, default_code, title = 408, "body_timeout", "Request timeout"


class Refused(RequestError):
    """The requested model is refused; the current one is still served."""

    status, default_code, title = 409, "model_refused", "Model refused"


class TooLarge(RequestError):
    """More bytes, pixels or files than a limit allows."""

    status, default_code, title = 413, "too_large", "Too large"


class UnsupportedType(RequestError):
    """The body or image is of an unsupported type."""

    status, default_code, title = 415, "unsupported_type", "Unsupported media type"


class Unprocessable(RequestError):
    """A field whose content cannot be used."""

    status, default_code, title = 422, "unprocessable", "Unprocessable content"


class Internal(RequestError):
    """An error of the service."""

    status, default_code, title = 500, "internal", "Internal error"


class Unavailable(RequestError):
    """The service is too busy, or has nothing to serve yet."""

    status, default_code, title = 503, "overloaded", "Service unavailable"


class TimedOut(RequestError):
    """The request was not completed in time."""

    status, default_code, title = 504, "timed_out", "Timed out"


class StorageFull(RequestError):
    """There is no space left for another sample."""

    status, default_code, title = 507, "inbox_full", "Insufficient storage"
