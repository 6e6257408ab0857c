"""What can go wrong, as one tree below TagmaskError.

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
    """Base of all errors that a user can cause."""


class DataError(TagmaskError):
    """A photo, a tag list or a mask cannot be used."""


class ConfigError(TagmaskError):
    """A setting is unknown, mistyped or out of range."""


class StartError(ConfigError):
    """The service cannot start with these settings."""


class RunError(TagmaskError):
    """A run or workspace folder cannot be started, resumed or read."""


class BundleError(TagmaskError):
    """A model file is not a Tagmask bundle, is not what the store says it is, or cannot be run."""


class ObjectStorageError(TagmaskError):
    """Object storage does not answer, or denies the request."""


class RequestError(TagmaskError):
    """An error response to one request.

    Attributes: `status` (HTTP), `code` (stable, for programs), `message` (for people), `field` of the request that is
    at fault, `limit` that was exceeded, `headers` to send along.
    """

    status: int
    default_code: ClassVar[str]
    title: ClassVar[str]

    def __init_subclass__(cls, *, status: int, code: str, title: str) -> None:
        cls.status, cls.default_code, cls.title = status, code, title

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


class BadRequest(RequestError, status=400, code="bad_request", title="Bad request"):
    """The request is malformed, such as its multipart body."""


class KeyMissing(RequestError, status=401, code="key_missing", title="API key missing"):
    """No API key was sent."""


class KeyUnknown(RequestError, status=401, code="key_unknown", title="API key unknown"):
    """The API key is unknown."""


class Forbidden(RequestError, status=403, code="forbidden", title="Forbidden"):
    """The key, or the origin of the request, does not allow this."""


class NotFound(RequestError, status=404, code="not_found", title="Not found"):
    """No such path or model, or the feature is off."""


class WrongMethod(RequestError, status=405, code="wrong_method", title="Method not allowed"):
    """The path does not support the method."""


class NotAcceptable(RequestError, status=406, code="not_acceptable", title="Not acceptable"):
    """No format fits the Accept header."""


class BodyTimeout(RequestError, status=408, code="body_timeout", title="Request timeout"):
    """The body did not arrive in time."""


class Refused(RequestError, status=409, code="model_refused", title="Model refused"):
    """The requested model is refused; the current one is still served."""


class TooLarge(RequestError, status=413, code="too_large", title="Too large"):
    """More bytes, pixels or files than a limit allows."""


class UnsupportedType(RequestError, status=415, code="unsupported_type", title="Unsupported media type"):
    """The body or image is of an unsupported type."""


class Unprocessable(RequestError, status=422, code="unprocessable", title="Unprocessable content"):
    """A field whose content cannot be used."""


class Internal(RequestError, status=500, code="internal", title="Internal error"):
    """An error of the service."""


class Unavailable(RequestError, status=503, code="overloaded", title="Service unavailable"):
    """The service is too busy, or has nothing to serve yet."""


class TimedOut(RequestError, status=504, code="timed_out", title="Timed out"):
    """The request was not completed in time."""


class StorageFull(RequestError, status=507, code="inbox_full", title="Insufficient storage"):
    """There is no space left for another sample."""
