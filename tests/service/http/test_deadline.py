import select
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.service.http.colour_photos import encoded
from tests.service.http.problems import assert_problem
from tests.service.http.sockets import connect, post, receive
from tests.service.serving import serving

PHOTO = encoded()
SECONDS = 0.06


@pytest.fixture(scope="module")
def client(colour_bundle: Path) -> Iterator[httpx.Client]:
    with serving(model=colour_bundle, max_seconds=SECONDS, max_concurrent=1) as client:
        yield client


@pytest.mark.parametrize("kind", ["image/png", "multipart/form-data; boundary=b"])
@pytest.mark.parametrize("length", [{"Content_Length": "500"}, {"Transfer_Encoding": "chunked"}])
def test_a_slow_body_is_408_and_the_connection_ends(client: httpx.Client, kind: str, length: dict[str, str]) -> None:
    with connect(client) as connection:
        started = time.perf_counter()
        connection.sendall(post("/v1/segment", Content_Type=kind, **length))
        answer = receive(connection)
        assert time.perf_counter() - started >= SECONDS
        assert_problem(answer, 408, "body_timeout", limit=SECONDS)
        assert answer.headers["Connection"] == "close"
        assert connection.recv(1) == b""


def test_a_body_that_trickles_is_408(client: httpx.Client) -> None:
    with connect(client) as connection:
        connection.sendall(post("/v1/segment", Content_Type="image/png", Content_Length=str(len(PHOTO))))
        trickle = iter(PHOTO)
        while not select.select([connection], [], [], SECONDS / 10)[0]:
            connection.sendall(bytes([next(trickle)]))
        assert_problem(receive(connection), 408, "body_timeout", limit=SECONDS)


def test_slow_work_is_504(client: httpx.Client) -> None:
    """DenseCRF's process alone takes longer to start."""
    answer = client.post("/v1/segment", files={"image": PHOTO}, data={"refine": "crf"})
    assert_problem(answer, 504, "timed_out", limit=SECONDS)
    assert answer.headers["Retry-After"] == "1"
    end = time.monotonic() + 10
    while client.post("/v1/segment", files={"image": PHOTO}).status_code != 200:  # the thread is still at work
        assert time.monotonic() < end


def test_slow_work_in_a_batch_is_reported_per_photo(client: httpx.Client) -> None:
    files = [("image", ("a.png", PHOTO))] * 2
    answer = client.post("/v1/segment/batch", files=files, data={"refine": "crf"})
    assert [each["error"]["code"] for each in answer.json()["answers"]] == ["timed_out"] * 2
