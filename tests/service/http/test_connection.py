import resource
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from service.http import connection
from tests.service.http.colour_photos import encoded
from tests.service.http.sockets import connect, post, receive
from tests.service.serving import serving

SECONDS = 0.3
LIVE = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture
def client(colour_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[httpx.Client]:
    monkeypatch.setattr(connection, "IDLE_SECONDS", SECONDS)
    with serving(model=colour_bundle) as client:
        yield client


def ended(client: socket.socket) -> bool:
    try:
        return client.recv(1) == b""
    except ConnectionError:
        return True


@pytest.mark.parametrize("sent", [b"", b"GET", LIVE[:-2], LIVE[:-1]])
@pytest.mark.parametrize("before", [b"", LIVE])
def test_a_connection_without_a_request_is_closed(client: httpx.Client, before: bytes, sent: bytes) -> None:
    with connect(client) as idle:
        if before:
            idle.sendall(before)
            assert receive(idle).status_code == 200
        idle.sendall(sent)
        assert ended(idle)


@pytest.mark.parametrize(
    "sent", [b"\x16\x03\x01\x02\0\x01\0", b"GET\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"]
)
def test_what_is_no_http_is_a_problem_too(client: httpx.Client, sent: bytes) -> None:
    with connect(client) as connection:
        connection.sendall(sent + b"\r\n\r\n")
        answer = receive(connection)
        assert (answer.status_code, answer.headers["Content-Type"]) == (400, "application/problem+json")
        assert answer.json()["error"]["code"] == "bad_http"
        assert ended(connection)


def test_broken_chunks_end_their_request(client: httpx.Client, capsys: pytest.CaptureFixture[str]) -> None:
    with connect(client) as connection:
        connection.sendall(
            post("/v1/segment", Content_Type="image/png", Transfer_Encoding="chunked") + b"5\r\nhello\r\n"
        )
        time.sleep(0.1)
        connection.sendall(b"no number\r\n")
        assert receive(connection).json()["error"]["code"] == "bad_http"
    assert "Traceback" not in capsys.readouterr().out


def test_a_head_that_trickles_does_not_keep_its_connection(client: httpx.Client) -> None:
    started = time.monotonic()
    with connect(client) as slow, pytest.raises(ConnectionError):  # noqa: PT012
        while time.monotonic() < started + 10:
            slow.sendall(b"x")
            time.sleep(SECONDS / 10)


def test_a_body_that_goes_on_after_its_response_does_not_keep_its_connection(client: httpx.Client) -> None:
    with connect(client) as slow:
        slow.sendall(post("/nothing", Content_Length="1000000", Content_Type="text/plain"))
        assert receive(slow).status_code == 404
        with pytest.raises(ConnectionError):  # noqa: PT012
            for _ in range(100):
                slow.sendall(b"x")
                time.sleep(SECONDS / 10)


def test_a_request_may_take_longer(client: httpx.Client) -> None:
    photo = encoded()
    with connect(client) as slow:
        for _ in range(2):
            slow.sendall(post("/v1/segment", Content_Type="image/png", Content_Length=str(len(photo))))
            time.sleep(SECONDS * 1.5)
            slow.sendall(photo)
            assert receive(slow).status_code == 200


def test_silent_connections_give_way_to_new_ones(colour_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_MAX_CONNECTIONS", 3)
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 6
    with serving(model=colour_bundle) as client:
        silent = [connect(client) for _ in range(5)]
        for _ in range(3):
            with connect(client) as speaking:
                speaking.sendall(LIVE)
                assert receive(speaking).status_code == 200
        assert ended(silent[0])
        for each in silent:
            each.close()
