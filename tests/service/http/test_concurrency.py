import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path

import httpx
import numpy as np
import pytest
from starlette.requests import Request
from starlette.types import Message

from service.http.concurrency import ConcurrencyLimit
from tagmask.segmenter import Segmenter
from tests.service.http.colour_photos import MASK, decoded, encoded
from tests.service.http.problems import assert_problem
from tests.service.http.sockets import connect, connect_from, post, receive
from tests.service.serving import serving

PHOTO = encoded()
HEAD = post("/v1/segment", Content_Type="image/png", Content_Length=str(len(PHOTO)), Expect="100-continue")


@pytest.fixture(scope="module")
def client(colour_bundle: Path) -> Iterator[httpx.Client]:
    with serving(model=colour_bundle, max_concurrent=1, max_queued=1) as client:
        yield client


def segment(client: httpx.Client) -> httpx.Response:
    return client.post("/v1/segment", files={"image": PHOTO})


@pytest.mark.parametrize("path", ["/v1/segment", "/v1/segment/batch"])
def test_requests_beyond_the_limit_are_refused_at_once_and_the_others_finish(client: httpx.Client, path: str) -> None:
    with connect(client) as first, connect(client) as second:
        for connection in (first, second):
            connection.sendall(HEAD)
            assert connection.recv(100).startswith(b"HTTP/1.1 100 ")  # it has its place, and its body is waited for
        started = time.perf_counter()
        answer = client.post(path, files={"image": PHOTO})
        assert time.perf_counter() - started < 2
        assert_problem(answer, 503, "overloaded", limit=2)
        assert answer.headers["Retry-After"] == "1"
        for probe in ("/livez", "/readyz", "/metrics", "/v1/models"):
            assert client.get(probe).status_code == 200
        for connection in (first, second):
            connection.sendall(PHOTO)
            np.testing.assert_array_equal(decoded(receive(connection).content), MASK)
    assert segment(client).status_code == 200


def test_bodies_have_a_limit_together(colour_bundle: Path) -> None:
    limits = {"max_concurrent": 1, "max_queued": 3, "max_body_bytes": 1_000_000, "max_batch_bytes": 3_500_000}
    head = post("/v1/segment/batch", Content_Type="multipart/form-data; boundary=b", Content_Length="3400000")
    start = head + b'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
    with serving(model=colour_bundle, **limits) as client, connect(client) as first, connect(client) as second:
        first.sendall(start + bytes(3_000_000))
        second.sendall(start + bytes(900_000))
        time.sleep(0.3)
        assert segment(client).status_code == 200
        second.sendall(bytes(500_000))  # the client would hold more than 4,000,000
        assert_problem(receive(second), 503, "overloaded", limit=4_000_000)
        with connect_from(client, "127.0.0.2") as other:
            other.sendall(start + bytes(1_100_000))
            assert_problem(receive(first), 503, "overloaded", limit=4_000_000)


def test_a_disconnected_client_frees_its_place(client: httpx.Client) -> None:
    for _ in range(5):
        with connect(client) as connection:
            connection.sendall(HEAD)
            assert connection.recv(100).startswith(b"HTTP/1.1 ")
    end = time.monotonic() + 5
    while segment(client).status_code != 200:
        assert time.monotonic() < end


def test_no_work_is_done_for_disconnected_clients(colour_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go = threading.Semaphore(0), threading.Event()
    real = Segmenter.run

    def slow(*arguments: object) -> bytes:
        begun.release()
        assert go.wait(10)
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Segmenter, "run", slow)
    request = post("/v1/segment", Content_Type="image/png", Content_Length=str(len(PHOTO))) + PHOTO
    with serving(model=colour_bundle, max_concurrent=1, max_queued=4) as client, connect(client) as stays:
        stays.sendall(request)
        assert begun.acquire(timeout=10)
        for _ in range(3):
            with connect(client) as leaves:
                leaves.sendall(request)
                time.sleep(0.1)
        go.set()
        assert receive(stays).status_code == 200
        assert segment(client).status_code == 200
        assert begun.acquire(timeout=10)
        assert not begun.acquire(timeout=0.2), "somebody worked for a client that has gone"


def test_a_deadline_at_the_moment_when_a_thread_is_free_does_not_keep_it() -> None:
    async def photos() -> list[object]:
        limit, go = ConcurrencyLimit(1, 9, 1), threading.Event()
        scope = {"type": "http", "method": "POST", "path": "/", "headers": [], "query_string": b"", "server": ("a", 1)}

        async def receive_late() -> Message:
            deadline.reschedule(0)
            return await asyncio.get_running_loop().create_future()

        first = asyncio.create_task(limit.run(partial(go.wait, 10), Request(scope)))
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_later(0.1, go.set)
        with suppress(TimeoutError):
            async with asyncio.timeout(10) as deadline:
                await limit.run(go.is_set, Request(scope, receive_late))
        async with asyncio.timeout(10):
            return [deadline.expired(), await first, await limit.run(go.is_set, Request(scope))]

    assert asyncio.run(photos()) == [True, True, True]


def test_concurrent_photos_are_limited(colour_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those of one batch; the others wait, and are counted."""
    working = threading.Semaphore(2)
    real = Segmenter.run

    def slow(*arguments: object) -> bytes:
        assert working.acquire(blocking=False), "more than two at a time"
        time.sleep(0.02)
        working.release()
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Segmenter, "run", slow)
    with serving(model=colour_bundle, max_concurrent=2, max_queued=8) as client, ThreadPoolExecutor(4) as threads:
        files = [("image", ("a.png", PHOTO))] * 5
        batches = [threads.submit(client.post, "/v1/segment/batch", files=files) for _ in range(4)]
        depths = [0.0]
        while not all(each.done() for each in batches):
            lines = client.get("/metrics").text.splitlines()
            depths += [float(line.split()[1]) for line in lines if line.startswith("tagmask_queue_depth ")]
        statuses = [photo["status"] for each in batches for photo in each.result().json()["answers"]]
    assert statuses == [200] * 20
    assert 10 < max(depths) <= 18
    assert depths[-1] < max(depths)
