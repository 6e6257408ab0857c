"""What is asked of Google Cloud Storage: conditions on the number of a content, which it calls generation."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from tagmask.documents import Changed
from tagmask.objects import Objects


class Bucket(BaseHTTPRequestHandler):
    """Objects by path, whose generations are counted. As with Google, an ETag is no condition for writing."""

    protocol_version = "HTTP/1.1"
    objects: dict[str, tuple[int, bytes]]

    def do_PUT(self) -> None:  # named by the base class
        data = self.rfile.read(int(self.headers["Content-Length"]))
        generation = self.objects.get(self.path, (0, b""))[0]
        condition = self.headers["x-goog-if-generation-match"]
        if condition is not None and int(condition) != generation:
            self._answer(412)
        else:
            self.objects[self.path] = (generation + 1, data)
            self._answer(200, generation + 1)

    def do_GET(self) -> None:  # named by the base class
        if self.path in self.objects:
            self._answer(200, *self.objects[self.path])
        else:
            self._answer(404)

    def _answer(self, status: int, generation: int = 0, data: bytes = b"") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Last-Modified", "Sun, 29 Nov 2026 12:00:00 GMT")
        self.send_header("ETag", '"the same"')
        self.send_header("x-goog-generation", str(generation))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *arguments: object) -> None:
        """Not on the terminal."""


@pytest.fixture
def objects(monkeypatch: pytest.MonkeyPatch) -> Iterator[Objects]:
    handler = type("Handler", (Bucket,), {"objects": {}})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        account = {"gcs_base_url": f"http://127.0.0.1:{server.server_port}", "disable_oauth": True}
        key = json.dumps({**account, "client_email": "", "private_key": "", "private_key_id": ""})
        monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT_KEY", key)
        yield Objects("gs://bucket/prefix")
        server.shutdown()


def test_a_document_is_replaced_if_it_is_the_one_that_was_read(objects: Objects):
    objects.replace("a.json", b"1", None)
    with pytest.raises(Changed):
        objects.replace("a.json", b"other", None)
    first = objects.read("a.json")
    objects.replace("a.json", b"2", first)
    with pytest.raises(Changed):
        objects.replace("a.json", b"other", first)
    second = objects.read("a.json")
    assert second is not None
    assert (second.data, second.version) == (b"2", "2")
