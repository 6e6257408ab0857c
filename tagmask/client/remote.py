"""A service's client, synchronous and asynchronous."""

import asyncio
import time
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Self

import httpx

from tagmask.client.exchange import Attempt, Exchange, Exchanges, Outcome, Value, advance
from tagmask.client.photo import Format, Photo, Refine, Tags
from tagmask.client.result import Result
from tagmask.errors import RequestError

TIMEOUT = 60.0
"""Seconds that a call may take, its repetitions included."""

RETRIES = 6
"""Repetitions of a request at most: some eight seconds of pauses on average, more if the service asks for it."""


class Client:
    """A service at `url`. Any number of threads may use it at once; `with` or `close` ends its connections.

    Requests are repeated while the service is too busy (503), starts, stops or hangs up, at most `retries` times and as
    long as `timeout` seconds allow. All methods raise RequestError for what the service refuses, with its `status`,
    `code`, `message`, `field` and `limit`, and NoAnswerError; both are ServiceErrors.
    """

    def __init__(self, url: str, api_key: str | None = None, timeout: float = TIMEOUT, retries: int = RETRIES) -> None:
        self._exchanges = Exchanges(timeout, retries)
        self._http = httpx.Client(base_url=url, headers=_headers(api_key))

    def segment(self, image: Photo, tags: Tags = (), refine: Refine = "none", formats: Iterable[Format] = ()) -> Result:
        """The mask of `image`: a path, a file's bytes, or (H, W, 3) uint8 RGB.

        With `tags` only these and background can appear. Each of `formats` is one more request, of the same model.
        Raises OSError for a file that cannot be read, ValueError for an array that is no photo.
        """
        return self._carry_out(self._exchanges.segment(image, tags, refine, formats))

    def segment_batch(
        self, images: Iterable[Photo], tags: Tags = (), refine: Refine = "none"
    ) -> list[Result | RequestError]:
        """The masks of `images`, in order, by one request; in the place of one at fault is its RequestError."""
        return self._carry_out(self._exchanges.segment_batch(images, tags, refine))

    def add_sample(self, image: Photo, tags: Tags) -> dict[str, Any]:
        """Give the service a photo with its tags, for the next training: its `id`, all its `tags`, and `created`."""
        return self._carry_out(self._exchanges.add_sample(image, tags))

    def models(self) -> list[dict[str, Any]]:
        """What `GET /v1/models` tells of each model; `serving` marks the one that answers."""
        return self._carry_out(self._exchanges.models())

    def close(self) -> None:
        """End the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: object, trace: TracebackType | None) -> None:
        self.close()

    def _carry_out(self, exchange: Exchange[Value]) -> Value:
        step = advance(exchange)
        while isinstance(step, Attempt):
            time.sleep(step.pause)
            outcome: Outcome
            try:
                outcome = self._http.request(**step.request, timeout=step.timeout)
            except httpx.RequestError as fault:
                outcome = fault
            step = advance(exchange, outcome)
        return step.value


class AsyncClient:
    """Client for asyncio: the same methods, to be awaited. Photos are read, packed and decoded in threads."""

    def __init__(self, url: str, api_key: str | None = None, timeout: float = TIMEOUT, retries: int = RETRIES) -> None:
        self._exchanges = Exchanges(timeout, retries)
        self._http = httpx.AsyncClient(base_url=url, headers=_headers(api_key))

    async def segment(
        self, image: Photo, tags: Tags = (), refine: Refine = "none", formats: Iterable[Format] = ()
    ) -> Result:
        """As `Client.segment`."""
        return await self._carry_out(self._exchanges.segment(image, tags, refine, formats))

    async def segment_batch(
        self, images: Iterable[Photo], tags: Tags = (), refine: Refine = "none"
    ) -> list[Result | RequestError]:
        """As `Client.segment_batch`."""
        return await self._carry_out(self._exchanges.segment_batch(images, tags, refine))

    async def add_sample(self, image: Photo, tags: Tags) -> dict[str, Any]:
        """As `Client.add_sample`."""
        return await self._carry_out(self._exchanges.add_sample(image, tags))

    async def models(self) -> list[dict[str, Any]]:
        """As `Client.models`."""
        return await self._carry_out(self._exchanges.models())

    async def close(self) -> None:
        """End the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, fault: object, trace: TracebackType | None) -> None:
        await self.close()

    async def _carry_out(self, exchange: Exchange[Value]) -> Value:
        step = await asyncio.to_thread(advance, exchange)
        while isinstance(step, Attempt):
            await asyncio.sleep(step.pause)
            outcome: Outcome
            try:
                outcome = await self._http.request(**step.request, timeout=step.timeout)
            except httpx.RequestError as fault:
                outcome = fault
            step = await asyncio.to_thread(advance, exchange, outcome)
        return step.value


def _headers(api_key: str | None) -> dict[str, str]:
    return {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
