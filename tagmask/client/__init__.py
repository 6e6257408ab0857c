"""Masks from a service over HTTP.

    Client("http://localhost:3000").segment("photo.jpg", tags=["dog"]).mask

Loads httpx, NumPy and Pillow, and neither BentoML nor ONNX Runtime.
"""

from tagmask.client.exchange import NoAnswerError
from tagmask.client.remote import AsyncClient, Client
from tagmask.errors import RequestError, TagmaskError
from tagmask.result import Result

__all__ = ["AsyncClient", "Client", "NoAnswerError", "RequestError", "Result", "TagmaskError"]
