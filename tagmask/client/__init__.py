"""Masks for Python programs: from a service over HTTP, or from a bundle in the same process.

Client("http://localhost:3000").segment("photo.jpg", tags=["dog"]).mask
Segmenter.load("model.onnx").segment("photo.jpg", tags=["dog"]).mask

A client of HTTP loads httpx, NumPy and Pillow, and neither BentoML nor ONNX Runtime.
"""

from typing import TYPE_CHECKING, Any

from tagmask.client.exchange import NoAnswerError
from tagmask.client.remote import AsyncClient, Client
from tagmask.client.result import Result
from tagmask.errors import RequestError, TagmaskError

if TYPE_CHECKING:
    from tagmask.client.local import Segmenter

__all__ = ["AsyncClient", "Client", "NoAnswerError", "RequestError", "Result", "Segmenter", "TagmaskError"]


def __getattr__(name: str) -> Any:
    """Import Segmenter, with the ONNX Runtime that it needs, when it is first asked for (PEP 562)."""
    if name != "Segmenter":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from tagmask.client.local import Segmenter

    return Segmenter
