"""The time that a request may take, from its first byte on."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from tagmask.errors import BodyTimeout, TimedOut

Result = TypeVar("Result")


class Deadline:
    """`seconds` from now."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._at = asyncio.get_running_loop().time() + seconds

    async def body(self, reading: Awaitable[Result]) -> Result:
        """Await the body. Raises BodyTimeout when it is late."""
        try:
            async with asyncio.timeout_at(self._at):
                return await reading
        except TimeoutError:
            raise BodyTimeout(
                f"the body did not arrive within {self._seconds:g} seconds; send a smaller photo",
                limit=self._seconds,
                headers={"Connection": "close"},
            ) from None

    async def work(self, working: Awaitable[Result]) -> Result:
        """Await the work. Raises TimedOut when it is late."""
        try:
            async with asyncio.timeout_at(self._at):
                return await working
        except TimeoutError:
            raise TimedOut(
                f"not done within {self._seconds:g} seconds; try again later, or send a smaller photo",
                limit=self._seconds,
                headers={"Retry-After": "1"},
            ) from None
