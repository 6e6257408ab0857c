"""The time limit of a request, from its first byte."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from tagmask.errors import TimedOut

Result = TypeVar("Result")


class Deadline:
    """`seconds` from now; `time` is that of the event loop's clock."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.time = asyncio.get_running_loop().time() + seconds

    async def work(self, work: Awaitable[Result]) -> Result:
        """Await the work. Raises TimedOut after the deadline."""
        try:
            async with asyncio.timeout_at(self.time):
                return await work
        except TimeoutError:
            message = f"not done within {self.seconds:g} seconds; try again later, or send a smaller photo"
            raise TimedOut(message, limit=self.seconds, headers={"Retry-After": "1"}) from None
