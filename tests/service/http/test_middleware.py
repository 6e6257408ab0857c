import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from starlette.types import Message

from service.http.transfer import Transfer
from tagmask.segmenter import Segmenter
from tests.service.http.colour_photos import MASK, decoded, encoded
from tests.service.http.problems import assert_problem
from tests.service.serving import serving

PHOTO = encoded()


@pytest.fixture(scope="module")
def client(colour_bundle: Path) -> Iterator[httpx.Client]:
    with serving(model=colour_bundle) as client:
        yield client


@pytest.mark.parametrize("path", ["/livez", "/v1/segment", "/nowhere", "/docs"])
@pytest.mark.parametrize("request_id", ["a", "0f-A_b.9", "x" * 64])
def test_a_well_formed_request_id_is_kept(client: httpx.Client, path: str, request_id: str) -> None:
    assert client.get(path, headers={"X-Request-ID": request_id}).headers["X-Request-ID"] == request_id


@pytest.mark.parametrize(
    "request_id", [b"", b"x" * 65, b"a b", b"a\tb", b"a,b", b"\xe4", b'"x"', b"a/b", b"${jndi:ldap}"]
)
def test_other_request_ids_are_replaced(client: httpx.Client, request_id: bytes) -> None:
    found = [client.get("/livez", headers={b"X-Request-ID": request_id}).headers["X-Request-ID"] for _ in range(2)]
    assert all(re.fullmatch("[0-9a-f]{32}", each) for each in found)
    assert found[0] != found[1]


def test_an_error_names_its_request(client: httpx.Client) -> None:
    answer = client.post("/v1/segment", headers={"X-Request-ID": "mine-1"})
    assert assert_problem(answer, 415, "unsupported_type", "Content-Type")["request_id"] == "mine-1"


@contextmanager
def failing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> Iterator[None]:
    def fail(*_: object) -> bytes:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(Segmenter, "run", fail)
        yield


@pytest.mark.parametrize("error", [RuntimeError("secret /path"), MemoryError(), KeyError("x"), UnicodeError("\ud800")])
def test_unexpected_errors_are_500_without_details(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    with failing(monkeypatch, error):
        answer = client.post("/v1/segment", files={"image": PHOTO})
        batch = client.post("/v1/segment/batch", files=[("image", ("a", PHOTO))] * 2)
    error = assert_problem(answer, 500, "internal")
    assert "secret" not in answer.text + batch.text
    assert [each["error"]["code"] for each in batch.json()["answers"]] == ["internal"] * 2
    assert "report it" in error["message"]
    again = client.post("/v1/segment", files={"image": PHOTO})
    np.testing.assert_array_equal(decoded(again.content), MASK)


def logged(output: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in output.splitlines()]
    for line in lines:
        assert {"time", "level", "logger", "event"} <= set(line)
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", line["time"])
    return lines


def test_each_request_is_logged_as_a_line_of_json(
    colour_bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(model=colour_bundle) as client:
        client.post("/v1/segment", files={"image": PHOTO}, headers={"X-Request-ID": "first"})
        client.post("/v1/segment", files={"image": b"x"}, headers={"X-Request-ID": "second"})
        client.get("/%0a{%22event%22:1}", headers={"X-Request-ID": "third"})
        client.get("/livez", headers={"X-Request-ID": "a-probe"})
        with failing(monkeypatch, RuntimeError("of our own")):
            client.post("/v1/segment", files={"image": PHOTO}, headers={"X-Request-ID": "fourth"})
    lines = logged(capsys.readouterr().out)
    assert lines[0] | {"event": "serving", "classes": ["cat", "dog"], "model": "0123456789ab"} == lines[0]

    requests = {line["request_id"]: line for line in lines if line["event"] == "request"}
    assert list(requests) == ["first", "second", "third", "fourth"]  # probes are logged at debug level
    assert [line["status"] for line in requests.values()] == [200, 422, 404, 500]
    assert [line["level"] for line in requests.values()] == ["info"] * 4
    first = requests["first"]
    assert first | {"method": "POST", "path": "/v1/segment", "client": "127.0.0.1", "logger": "tagmask.http"} == first
    assert 0 < first["ms"] < 10_000
    assert first["bytes"] > 100
    assert requests["third"]["path"] == '/\n{"event":1}'

    (error,) = [line for line in lines if line["level"] == "error"]
    assert (error["request_id"], error["event"]) == ("fourth", "unexpected error")
    assert "Traceback" in error["exc_info"]
    assert "RuntimeError: of our own" in error["exc_info"]


def test_lines_of_the_server_about_a_request_name_it(
    colour_bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = Transfer.send

    async def send(self: Transfer, message: Message) -> None:
        await real(self, message)
        raise RuntimeError("after the head of the response")

    with serving(model=colour_bundle) as client:
        monkeypatch.setattr(Transfer, "send", send)
        with pytest.raises(httpx.RemoteProtocolError):
            client.get("/livez", headers={"X-Request-ID": "mine", "Connection": "Upgrade", "Upgrade": "websocket"})
    errors = [line for line in logged(capsys.readouterr().out) if line["level"] != "info"]
    assert {line["logger"] for line in errors} == {"tagmask.http", "uvicorn.error"}
    assert {line.get("request_id") for line in errors} == {"mine"}


def test_the_level_decides_what_is_logged(colour_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for level, paths in (("debug", ["/livez", "/nowhere"]), ("info", ["/nowhere"]), ("warning", [])):
        with serving(model=colour_bundle, log_level=level) as client:
            client.get("/livez")
            client.get("/nowhere")
        lines = logged(capsys.readouterr().out)
        assert [line["path"] for line in lines if line["event"] == "request"] == paths
