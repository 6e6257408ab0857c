"""Small documents that several processes change: what was read, and the error when another process was faster."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Document:
    """The content of a document, and a `tag` that differs for each content where others may write at the same time.

    `version` is a number of the content where the storage keeps one.
    """

    data: bytes
    tag: str = ""
    version: str | None = None


class Changed(Exception):  # noqa: N818  # caught by the writer, who begins again
    """Another writer was faster."""
