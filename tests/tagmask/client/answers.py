"""A small real HTTP server that sends prepared answers, one after another."""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HANG_UP = 0
"""A status that is none: the connection is closed without an answer."""


@dataclass(frozen=True)
class Answer:
    """An answer."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0
    """How long it takes."""


@dataclass
class Server:
    """The server's URL, and the requests that came: monotonic time, path, headers and body of each."""

    url: str
    times: list[float] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    headers: list[Mapping[str, str]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)


@contextmanager
def answering(*answers: Answer, port: int = 0) -> Iterator[Server]:
    """Answer with each of `answers`, then with the last one for ever."""
    left = list(answers)

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            server.times.append(time.monotonic())
            server.paths.append(self.path)
            server.headers.append(dict(self.headers.items()))
            server.bodies.append(self.rfile.read(int(self.headers.get("Content-Length", 0))))
            answer = left.pop(0) if len(left) > 1 else left[0]
            time.sleep(answer.seconds)
            if answer.status == HANG_UP:
                self.close_connection = True
                return
            self.send_response(answer.status)
            for name, value in {"Content-Length": str(len(answer.body)), **answer.headers}.items():
                self.send_header(name, value)
            with suppress(BrokenPipeError):  # the client did not wait
                self.end_headers()
                self.wfile.write(answer.body)

        do_GET = do_POST = answer  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as http_server:
        server = Server(f"http://127.0.0.1:{http_server.server_address[1]}")
        thread = threading.Thread(target=http_server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            http_server.shutdown()
            thread.join()
