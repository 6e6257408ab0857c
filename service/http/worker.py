"""What a worker needs, from start to stop."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import cv2
from starlette.types import ASGIApp

from service.http.access import Access
from service.http.app import create_app
from service.http.concurrency import ConcurrencyLimit
from service.http.state import State
from service.http.tracing import traced
from service.models import Models
from service.settings import Settings
from tagmask.crf import Refiner
from tagmask.inbox import Inbox
from tagmask.memory import return_large_blocks


@asynccontextmanager
async def worker(settings: Settings, docs_assets: Path) -> AsyncIterator[ASGIApp]:
    """The application with everything it needs; `docs_assets` is that of `create_app`.

    Raises StartError and BundleError.
    """
    return_large_blocks()
    cv2.setNumThreads(1)  # photos are processed in parallel, one per thread
    refiner = Refiner(settings.max_concurrent)
    concurrency = ConcurrencyLimit(settings.max_concurrent, settings.max_queued, settings.max_bytes)
    state = State(
        settings=settings,
        access=Access(settings),
        concurrency=concurrency,
        models=await asyncio.to_thread(Models, settings, refiner),
        inbox=open_inbox(settings),
    )
    tasks = [asyncio.create_task(each) for each in (state.models.watch(), state.models.return_idle_memory())]
    try:
        async with traced(create_app(state, docs_assets)) as app:
            yield app
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.to_thread(concurrency.close)
        refiner.close()


def open_inbox(settings: Settings) -> Inbox | None:
    """The inbox, if there is one. Raises StartError if it cannot be used."""
    return Inbox(settings.inbox, settings.min_free_bytes) if settings.inbox else None
