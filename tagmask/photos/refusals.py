"""Why a photo is refused, and what to do about it: one way for requests, another for files."""

from pathlib import Path

from tagmask.errors import DataError, RequestError, TooLarge, Unprocessable, UnsupportedType

_SEND = "send the bytes of a photo"
_REQUESTS: dict[str, tuple[type[RequestError], str]] = {
    "empty_image": (Unprocessable, _SEND),
    "url_not_fetched": (Unprocessable, _SEND),
    "not_an_image": (Unprocessable, f"{_SEND}, not text or base64, as one of {{accepted}}"),
    "unsupported_image": (UnsupportedType, "convert it to one of {accepted}"),
    "too_many_pixels": (TooLarge, "scale it down"),
    "side_too_long": (TooLarge, "crop it or scale it down"),
    "truncated_image": (Unprocessable, "send the whole file"),
    "broken_image": (Unprocessable, "save the photo again and send that"),
}
_FILES = {
    "unsupported_image": "convert it to JPEG or PNG, or remove it",
    "too_many_pixels": "scale it down",
    "side_too_long": "crop it or scale it down",
}


class PhotoRefusedError(Exception):
    """A photo that is refused: the stable `code` of the reason, the reason in words, and the `limit` it exceeds."""

    def __init__(self, code: str, reason: str, limit: int | None = None) -> None:
        super().__init__(reason)
        self.code = code
        self.limit = limit

    def for_request(self, accepted: tuple[str, ...]) -> RequestError:
        """The error for the photo in a request; `accepted` are the media types that can be sent."""
        error, remedy = _REQUESTS[self.code]
        message = f"image {self}; {remedy.format(accepted=', '.join(accepted))}"
        return error(message, code=self.code, field="image", limit=self.limit)

    def for_file(self, path: Path) -> DataError:
        """The error for the photo at `path`."""
        return DataError(f"{path}: {self}; {_FILES.get(self.code, 'replace or remove it')}")
