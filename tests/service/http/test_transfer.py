import json
import select
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image
from starlette.types import Message

from service.http import transfer
from tests.service.http.colour_photos import encoded
from tests.service.http.problems import assert_problem
from tests.service.http.sockets import connect, connect_from, post, receive
from tests.service.serving import serving

KEY = "a key of sixteen characters"
PHOTO = encoded()
HEAD = post("/v1/segment", Content_Type="image/png", Content_Length=str(len(PHOTO)))
LARGE = encoded(Image.new("RGB", (3000, 3000)))


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits that a test can wait for."""
    monkeypatch.setattr(transfer, "_GRACE", 0.3)
    monkeypatch.setattr(transfer, "_DRAIN_PAUSE", 0.2)


def infer(photo: bytes) -> bytes:
    """A request whose response, in JSON, is four bytes per pixel."""
    size = len(photo) + 4
    tensor = {"name": "image", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": size}}
    head = json.dumps({"inputs": [tensor]}).encode()
    body = head + len(photo).to_bytes(4, "little") + photo
    options = {"Inference_Header_Content_Length": str(len(head)), "Content_Length": str(len(body))}
    return post("/v2/models/tagmask/infer", **options) + body


def wait_for(client: httpx.Client, status: int) -> None:
    end = time.monotonic() + 20
    while client.post("/v1/segment", files={"image": PHOTO}).status_code != status:
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.usefixtures("short")
def test_a_response_that_nobody_reads_keeps_its_place_until_the_deadline(colour_bundle: Path) -> None:
    with serving(model=colour_bundle, max_concurrent=1, max_queued=0, max_seconds=3) as client, connect(client) as idle:
        idle.sendall(infer(LARGE))
        assert select.select([idle], [], [], 10)[0]
        assert_problem(client.post("/v1/segment", files={"image": PHOTO}), 503, "overloaded", limit=1)
        wait_for(client, 200)
        received = 0
        with pytest.raises((ConnectionError, StopIteration)):  # noqa: PT012
            while piece := idle.recv(1 << 20):
                received += len(piece)
            raise StopIteration
        assert received < 4 * 3000 * 3000


def test_no_response_is_made_for_a_client_that_has_gone(colour_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pieces = []
    real = transfer.Transfer.send

    async def send(self: transfer.Transfer, message: Message) -> None:
        if len(message.get("body", b"")) > 10_000:  # not the refusals while this response has the only place
            pieces.append(message)
        await real(self, message)

    monkeypatch.setattr(transfer.Transfer, "send", send)
    with serving(model=colour_bundle, max_concurrent=1, max_queued=0) as client:
        with connect(client) as leaves:
            leaves.sendall(infer(LARGE))
            assert select.select([leaves], [], [], 10)[0]
        wait_for(client, 200)
    assert len(pieces) < 3000 * 3000 / 65_536


def test_a_large_response_in_pieces_is_complete(colour_bundle: Path) -> None:
    with serving(model=colour_bundle) as client, connect(client) as connection:
        connection.sendall(infer(LARGE))
        (output,) = receive(connection).json()["outputs"]
    assert output["shape"] == [3000, 3000]
    assert set(np.unique(output["data"])) <= {0, 1, 2}
    assert len(output["data"]) == 3000 * 3000


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize(
    ("kind", "start"),
    [
        ("image/png", b""),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="image"; filename=""\r\n\r\n',
        ),
        ("multipart/form-data; boundary=b", b"broken: the rest is discarded"),
    ],
)
def test_a_body_slower_than_the_least_rate_is_refused(colour_bundle: Path, kind: str, start: bytes) -> None:
    with serving(model=colour_bundle) as client, connect(client) as connection:
        connection.sendall(post("/v1/segment", Content_Type=kind, Content_Length="100000") + start)
        while not select.select([connection], [], [], 0.02)[0]:
            connection.sendall(b"-")
        if start.startswith(b"broken"):
            assert_problem(receive(connection), 400, "bad_multipart")
            return
        error = assert_problem(receive(connection), 408, "body_timeout", limit=1000)
        assert "less than 1,000 bytes per second" in error["message"]


def test_a_client_with_all_places_gives_one_to_another(colour_bundle: Path) -> None:
    with serving(model=colour_bundle, max_concurrent=1, max_queued=3) as client:
        slow = [connect(client) for _ in range(4)]
        for connection in slow:
            connection.sendall(HEAD.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"))
            assert connection.recv(100).startswith(b"HTTP/1.1 100 ")
        assert client.post("/v1/segment", files={"image": PHOTO}).status_code == 503  # a fifth of the same client
        with connect_from(client, "127.0.0.2") as other:
            other.sendall(HEAD + PHOTO)
            assert receive(other).status_code == 200
        (displaced,) = select.select(slow, [], [], 10)[0]
        assert_problem(receive(displaced), 503, "overloaded", limit=4)
        for connection in slow:
            connection.close()


class TestRefusals:
    @pytest.fixture(scope="class")
    def client(self, colour_bundle: Path) -> Iterator[httpx.Client]:
        with serving(model=colour_bundle, api_keys=KEY, max_concurrent=1, max_queued=0) as client:
            yield client

    @pytest.mark.parametrize("close", [{"Connection": "close"}, {}])
    @pytest.mark.parametrize(
        ("path", "status"), [("/v1/segment", 401), ("/nothing", 404), ("/v1/models", 405), ("/predict", 401)]
    )
    def test_they_reach_clients_that_send_everything_first(
        self, client: httpx.Client, path: str, status: int, close: dict[str, str]
    ) -> None:
        for _ in range(5):
            with connect(client) as connection:
                connection.sendall(post(path, Content_Type="image/png", Content_Length="5000000", **close))
                for _ in range(50):
                    connection.sendall(bytes(100_000))
                assert receive(connection).status_code == status

    def test_a_busy_service_reads_what_it_refuses(self, client: httpx.Client) -> None:
        key = {"X_API_Key": KEY, "Content_Type": "image/png"}
        with connect(client) as first, connect(client) as second:
            first.sendall(post("/v1/segment", Content_Length="10", Expect="100-continue", **key))
            assert first.recv(100).startswith(b"HTTP/1.1 100 ")
            second.sendall(post("/v1/segment", Content_Length="5000000", Connection="close", **key) + bytes(5_000_000))
            assert_problem(receive(second), 503, "overloaded", limit=1)

    def test_they_come_before_a_body_that_waits_for_100_continue(self, client: httpx.Client) -> None:
        with connect(client) as connection:
            connection.sendall(post("/v1/segment", Content_Length="5000000", Expect="100-continue"))
            answer = receive(connection)
            assert_problem(answer, 401, "key_missing")
            assert answer.headers["Connection"] == "close"
            assert connection.recv(1) == b""

    @pytest.mark.usefixtures("short")
    def test_they_do_not_wait_for_a_body_that_stops(self, client: httpx.Client) -> None:
        with connect(client) as connection:
            connection.sendall(post("/v1/segment", Content_Length="5000000") + b"x")
            assert_problem(receive(connection), 401, "key_missing")
