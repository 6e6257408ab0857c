"""A service's client, synchronous and asynchronous."""

import asyncio
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Self

import httpx

from tagmask.client.exchange import Attempt, Exchange, Exchanges, Outcome, Value, advance
from tagmask.errors import RequestError
from tagmask.inputs import Photo, Refine, Tags
from tagmask.result import FormatName, Result

if TYPE_CHECKING:
    from tagmask.corrections import Correction

_TIMEOUT = 60.0  # seconds of a call, retries included
_RETRIES = 6  # about eight seconds of pauses on average, more if the service demands it


class Client:
    """A service at `url`. Any number of threads may use it at once; `with` or `close` ends its connections.

    Requests are retried while the service is too busy (503, or 502 of a proxy), starts, stops or closes the
    connection, at most `retries` times and as long as `timeout` seconds allow. All methods raise RequestError for
    what the service refuses, with its `status`, `code`, `message`, `field` and `limit`, and NoAnswerError; both are
    TagmaskErrors.
    """

    def __init__(
        self, url: str, api_key: str | None = None, timeout: float = _TIMEOUT, retries: int = _RETRIES
    ) -> None:
        self._exchanges = Exchanges(timeout, retries)
        self._http = httpx.Client(base_url=url, headers=_headers(api_key))

    def segment(
        self,
        image: Photo,
        tags: Tags = (),
        refine: Refine = "smooth",
        formats: Iterable[FormatName] = (),
        tile: int | None = None,
    ) -> Result:
        """The mask of `image`: a path, a file's bytes, or (H, W, 3) uint8 RGB.

        With `tags` only these and background can appear. Each of `formats` is one more request, of the same model. A
        photo with a side above `tile` pixels is segmented in overlapping tiles of that size, 32 to 65,535; 0 means the
        whole photo at once, None what the model says.
        Raises OSError for a file that cannot be read, ValueError for an array that is no photo.
        """
        return self._carry_out(self._exchanges.segment(image, tags, refine, formats, tile))

    def segment_batch(
        self, images: Iterable[Photo], tags: Tags = (), refine: Refine = "smooth", tile: int | None = None
    ) -> list[Result | RequestError]:
        """The masks of `images`, in order, by one request; a photo that is refused has its RequestError instead."""
        return self._carry_out(self._exchanges.segment_batch(images, tags, refine, tile))

    def add_sample(self, image: Photo, tags: Tags, correction: "Correction | None" = None) -> dict[str, Any]:
        """Send a photo with its tags, and what a person says about its pixels, for the next training.

        Without a `correction`, the service keeps the one that it has of the photo. Returns the `id` of the sample, all
        its `tags`, whether it was `created`, and whether it is `corrected`.
        """
        return self._carry_out(self._exchanges.add_sample(image, tags, correction))

    def models(self) -> list[dict[str, Any]]:
        """The models of `GET /v1/models`; `serving` marks the one in use."""
        return self._carry_out(self._exchanges.models())

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
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
    """Client for asyncio, with the same methods as coroutines. Photos are read, packed and decoded in threads."""

    def __init__(
        self, url: str, api_key: str | None = None, timeout: float = _TIMEOUT, retries: int = _RETRIES
    ) -> None:
        self._exchanges = Exchanges(timeout, retries)
        self._http = httpx.AsyncClient(base_url=url, headers=_headers(api_key))

    async def segment(
        self,
        image: Photo,
        tags: Tags = (),
        refine: Refine = "smooth",
        formats: Iterable[FormatName] = (),
        tile: int | None = None,
    ) -> Result:
        """As `Client.segment`."""
        return await self._carry_out(self._exchanges.segment(image, tags, refine, formats, tile))

    async def segment_batch(
        self, images: Iterable[Photo], tags: Tags = (), refine: Refine = "smooth", tile: int | None = None
    ) -> list[Result | RequestError]:
        """As `Client.segment_batch`."""
        return await self._carry_out(self._exchanges.segment_batch(images, tags, refine, tile))

    async def add_sample(self, image: Photo, tags: Tags, correction: "Correction | None" = None) -> dict[str, Any]:
        """As `Client.add_sample`."""
        return await self._carry_out(self._exchanges.add_sample(image, tags, correction))

    async def models(self) -> list[dict[str, Any]]:
        """As `Client.models`."""
        return await self._carry_out(self._exchanges.models())

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
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
