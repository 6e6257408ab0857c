"""What the cluster's benchmark counts as lost."""

import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import cycle
from threading import Thread

import httpx
import pytest

from benchmarks.cluster.load import SteadyLoad


class Unsteady(BaseHTTPRequestHandler):
    """Answers, refuses, and hangs up, in turn."""

    protocol_version = "HTTP/1.1"
    turns = cycle((200, 503, 0))

    def do_POST(self) -> None:  # named by the base class
        self.rfile.read(int(self.headers["Content-Length"]))
        status = next(self.turns)
        if status:
            self.send_response(status)
            self.send_header("X-Model-Version", "first")
            self.send_header("Content-Length", "0")
            self.end_headers()
        else:
            self.close_connection = True

    def log_message(self, format: str, *arguments: object) -> None:
        """Not on the terminal."""


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Unsteady) as server:
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        with httpx.Client(base_url=f"http://127.0.0.1:{server.server_port}", trust_env=False) as client:
            yield client
        server.shutdown()


def test_each_request_counts_once_and_those_without_an_answer_as_lost(client: httpx.Client):
    with SteadyLoad(client, [b"photo"], rate=100) as load:
        while len(load.answers) < 30:
            time.sleep(0.01)
    faults = [answer.fault.partition(":")[0] for answer in load.answers]
    thirds = {kind: faults.count(kind) for kind in ("", "503", "no answer")}
    assert sum(thirds.values()) == len(faults)
    assert all(abs(count - len(faults) / 3) < 1 for count in thirds.values())
    assert {answer.model for answer in load.answers if not answer.fault} == {"first"}
