"""When a client tries again, against a real server that refuses first."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagmask.client import AsyncClient, Client, NoAnswerError, RequestError
from tagmask.client.exchange import pause_before_next
from tests.tagmask.client.answers import HANG_UP, Answer, answering

MODELS = Answer(200, b'{"models": [{"version": "0123456789ab", "serving": true}]}')
ERROR = {"code": "overloaded", "message": "2 requests are in work", "field": None, "limit": 2, "request_id": "x"}
BUSY = Answer(503, json.dumps({"error": ERROR}).encode())


def ask(url: str, **settings: Any) -> list[dict[str, Any]]:
    with Client(url, **settings) as client:
        return client.models()


def ask_async(url: str, **settings: Any) -> list[dict[str, Any]]:
    async def run() -> list[dict[str, Any]]:
        async with AsyncClient(url, **settings) as client:
            return await client.models()

    return asyncio.run(run())


@pytest.fixture(params=[ask, ask_async])
def models(request: pytest.FixtureRequest) -> Callable[..., list[dict[str, Any]]]:
    return request.param


@pytest.mark.parametrize(
    "refusal", [BUSY, Answer(503, b"<html>starting</html>"), Answer(502, b"<html>nginx</html>"), Answer(HANG_UP)]
)
def test_a_refusal_that_passes_is_not_seen(models: Callable[..., Any], refusal: Answer) -> None:
    with answering(refusal, refusal, MODELS) as server:
        assert models(server.url) == [{"version": "0123456789ab", "serving": True}]
    assert server.paths == ["/v1/models"] * 3


def test_the_whole_photo_is_sent_again() -> None:
    kept = Answer(201, b'{"id": "a", "tags": ["cat"], "created": true}')
    with answering(BUSY, BUSY, kept) as server, Client(server.url) as client:
        assert client.add_sample(b"a photo", ["cat"]) == {"id": "a", "tags": ["cat"], "created": True}
    assert [body.count(b"a photo") for body in server.bodies] == [1, 1, 1]


def test_retry_after_is_heeded(models: Callable[..., Any]) -> None:
    with answering(Answer(503, BUSY.body, {"Retry-After": "1"}), MODELS) as server:
        models(server.url)
    first, second = server.times
    assert second - first >= 1


def test_a_pause_beyond_the_deadline_is_not_begun(models: Callable[..., Any]) -> None:
    """Not even one of an hour: the refusal itself is raised."""
    answer = Answer(503, BUSY.body, {"Retry-After": "3600"})
    with answering(answer) as server, pytest.raises(RequestError, match="2 requests are in work") as refusal:
        models(server.url, timeout=1800)
    fault = refusal.value
    assert (fault.status, fault.code, fault.limit) == (503, "overloaded", 2)
    assert fault.headers["retry-after"] == "3600"
    assert len(server.paths) == 1


@pytest.mark.parametrize("retries", [0, 2])
def test_retries_have_an_end(models: Callable[..., Any], retries: int) -> None:
    with answering(BUSY) as server, pytest.raises(RequestError):
        models(server.url, retries=retries)
    assert len(server.paths) == 1 + retries


def test_the_deadline_ends_retries_too(models: Callable[..., Any]) -> None:
    with answering(BUSY) as server, pytest.raises(RequestError):
        models(server.url, timeout=1.5, retries=10**9)
    assert len(server.paths) > 1


@pytest.mark.parametrize("settings", [{"timeout": 0}, {"timeout": -1.0}, {"retries": -1}])
def test_settings_that_cannot_be(models: Callable[..., Any], settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="pass a timeout above 0"):
        models("http://localhost", **settings)


@pytest.mark.parametrize("status", [400, 422, 500, 501, 504, 307])
def test_what_does_not_pass_is_told_at_once(models: Callable[..., Any], status: int) -> None:
    answer = Answer(status, b"no problem document", {"Retry-After": "1"})
    refused = pytest.raises(RequestError, match=f"answered {status} .*: no problem document")
    with answering(answer) as server, refused as refusal:
        models(server.url)
    assert (refusal.value.status, refusal.value.code) == (status, f"http_{status}")
    assert len(server.paths) == 1


@pytest.mark.parametrize("body", [b"[]", b'{"error": "no"}', b'{"error": {"code": "x"}}', b"\xff", b"null"])
def test_any_body_of_a_bad_answer_is_borne(body: bytes) -> None:
    with answering(Answer(418, body)) as server, pytest.raises(RequestError) as refusal:
        ask(server.url)
    assert refusal.value.code == "http_418"


@pytest.mark.parametrize("body", [b"<html>", b"{}", b"[]", b"", b"\xff"])
def test_a_good_answer_of_something_else_is_none(body: bytes) -> None:
    with answering(Answer(200, body, {"X-Model-Version": "x"})) as server, Client(server.url) as client:
        for call in (client.models, lambda: client.segment(b"x"), lambda: client.segment_batch([b"x"])):
            with pytest.raises(NoAnswerError, match=r"not as Tagmask does .* the address of a Tagmask service"):
                call()


def test_a_service_that_starts_is_waited_for(models: Callable[..., Any]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    over = threading.Event()

    def serve() -> None:
        time.sleep(0.3)
        with answering(MODELS, port=port):
            over.wait(30)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        assert len(models(f"http://127.0.0.1:{port}")) == 1
    finally:
        over.set()
        thread.join()


def test_nobody_there_is_told_with_the_remedy(models: Callable[..., Any]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with pytest.raises(NoAnswerError, match=rf"{url}/v1/models: no response at attempt 2 .* the service runs at"):
        models(url, retries=1)


@pytest.mark.parametrize("url", ["localhost:3000", "127.0.0.1:9", "ftp://localhost"])
def test_an_address_without_http_is_told_at_once(url: str) -> None:
    with pytest.raises(NoAnswerError, match="at attempt 1 "):
        ask(url)


def test_an_answer_that_does_not_come_is_not_waited_for_beyond_the_deadline(models: Callable[..., Any]) -> None:
    answer = Answer(200, MODELS.body, seconds=2)
    with answering(answer) as server, pytest.raises(NoAnswerError, match="ReadTimeout"):
        models(server.url, timeout=0.5)
    assert len(server.paths) == 1


def test_the_key_is_sent_and_a_path_of_the_url_kept(models: Callable[..., Any]) -> None:
    with answering(MODELS) as server:
        models(f"{server.url}/masks/", api_key="a user's own key")
        models(server.url)
    assert server.paths == ["/masks/v1/models", "/v1/models"]
    assert [headers.get("Authorization") for headers in server.headers] == ["Bearer a user's own key", None]


@given(seconds=st.integers(0, 10**9), attempt=st.integers(0, 2000))
def test_a_pause_is_what_is_asked_for_and_a_little_more(seconds: int, attempt: int) -> None:
    pause = pause_before_next(httpx.Response(503, headers={"Retry-After": str(seconds)}), attempt)
    assert seconds <= pause <= seconds + 8
    assert pause <= seconds + 0.25 * 2 ** min(attempt, 10)


def test_an_endless_retry_after_is_beyond_every_deadline() -> None:
    with answering(Answer(503, BUSY.body, {"Retry-After": "9" * 5000})) as server, pytest.raises(RequestError):
        ask(server.url)


@given(header=st.sampled_from(["", "-1", "1.5", "nan", "soon", "Wed, 21 Oct 2026 07:28:00 GMT"]))
def test_another_retry_after_counts_as_none(header: str) -> None:
    assert 0 <= pause_before_next(httpx.Response(503, headers={"Retry-After": header}), 0) <= 0.25


def test_clients_that_were_refused_together_come_back_apart() -> None:
    assert len({pause_before_next(httpx.Response(503), 3) for _ in range(10)}) == 10
