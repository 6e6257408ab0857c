"""The time limit of a request, from its first byte."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from tagmask.errors import BodyTimeout, RequestError, TimedOut

Result = TypeVar("Result")


class Deadline:
    """`seconds` from now."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._time = asyncio.get_running_loop().time() + seconds

    async def body(self, body: Awaitable[Result]) -> Result:
        """Await the body. Raises BodyTimeout after the deadline."""
        message = f"the body did not arrive within {self._seconds:g} seconds; send a smaller photo"
        return await self._finish(body, BodyTimeout(message, limit=self._seconds, headers={"Connection": "close"}))

    async def work(self, work: Awaitable[Result]) -> Result:
        """Await the work. Raises TimedOut after the deadline."""
        message = f"not done within {self._seconds:g} seconds; try again later, or send a smaller photo"
        return await self._finish(work, TimedOut(message, limit=self._seconds, headers={"Retry-After": "1"}))

    async def _finish(self, task: Awaitable[Result], error: RequestError) -> Result:
        try:
            async with asyncio.timeout_at(self._time):
                return await task
        except TimeoutError:
            raise error from None
