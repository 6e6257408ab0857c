"""What the store writes down, as JSON, and the errors it raises."""

from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, Field

from tagmask.errors import BundleError

MAX_FORMER = 50
"""Maximum number of former champions kept."""


class UnknownVersion(BundleError):
    """No bundle of this version is in the store."""


class StoreUnwritable(BundleError):
    """The disk or its permissions do not let the store be changed."""


class StoreUnreachable(BundleError):
    """The object storage that holds the store does not answer, or denies the request."""


class Record(BaseModel, frozen=True):
    """What the store knows of a bundle: `sha256` (hex) and `bytes` of its file, and when it was `published`."""

    version: str
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    bytes: int = Field(ge=1)
    published: AwareDatetime


class Champion(BaseModel, frozen=True):
    """The `version` that is served, `since` when, and the champions `before` it, newest first, at most MAX_FORMER."""

    version: str
    since: AwareDatetime
    before: tuple[str, ...] = Field(max_length=MAX_FORMER)


class Event(BaseModel, frozen=True):
    """A line of the history: what happened to `version`, and when.

    A decision also states whether the version was `promoted` by it, the `reasons` in words, and the `figures`.
    """

    at: AwareDatetime
    event: Literal["published", "promoted", "rolled back", "decided", "retired"]
    version: str
    promoted: bool | None = None
    reasons: tuple[str, ...] = ()
    figures: dict[str, Any] = Field(default_factory=dict)
