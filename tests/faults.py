"""A proxy before an HTTP server that fails on request."""

import http.client
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Literal
from urllib.parse import urlsplit

Fault = Literal["503", "cut", "cut after", "slow"]
"""503 without asking the server; the connection cut before the server is asked, or after it has answered; a second of
waiting."""


class Proxy(ThreadingHTTPServer):
    """Passes requests on to `target`, http://HOST:PORT. `faults` are those of the next requests of a method."""

    daemon_threads = True

    def __init__(self, target: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.target = urlsplit(target).netloc
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.faults: list[tuple[str, Fault]] = []
        self.seen: list[tuple[str, int]] = []
        """Method and status of each request that the server has answered."""
        self.before: Callable[[str, str], None] = lambda method, path: None
        """Called with method and path before a request is passed on."""
        self._lock = Lock()

    def fault(self, method: str) -> Fault | None:
        """The fault of a request of this method."""
        with self._lock:
            for index, (of, fault) in enumerate(self.faults):
                if of == method:
                    del self.faults[index]
                    return fault
        return None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Proxy

    def do_GET(self) -> None:  # named by the base class
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        fault = self.server.fault(self.command)
        if fault == "cut":
            return self._cut()
        if fault == "503":
            return self._answer(503, {}, b"")
        if fault == "slow":
            time.sleep(1)
        self.server.before(self.command, self.path)
        connection = http.client.HTTPConnection(self.server.target, timeout=60)
        connection.request(self.command, self.path, body, dict(self.headers))
        response = connection.getresponse()
        content = response.read()
        connection.close()
        self.server.seen.append((self.command, response.status))
        if fault == "cut after":
            return self._cut()
        self._answer(response.status, dict(response.getheaders()), content)

    do_PUT = do_POST = do_DELETE = do_HEAD = do_GET  # noqa: N815

    def _answer(self, status: int, headers: dict[str, str], content: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() not in ("transfer-encoding", "content-length", "connection"):
                self.send_header(name, value)
        length = headers.get("Content-Length") if self.command == "HEAD" else str(len(content))
        if status != 304 and length is not None:
            self.send_header("Content-Length", length)
        self.end_headers()
        self.wfile.write(b"" if self.command == "HEAD" else content)

    def _cut(self) -> None:
        self.close_connection = True
        self.connection.close()

    def log_message(self, format: str, *arguments: object) -> None:
        """Not on the terminal."""


@contextmanager
def faulty(target: str) -> Iterator[Proxy]:
    """A proxy before `target` for the time of the context."""
    with Proxy(target) as proxy:
        thread = Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield proxy
        finally:
            proxy.shutdown()
            thread.join()
