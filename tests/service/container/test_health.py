import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from service.container import health


@contextmanager
def answering(status: int) -> Iterator[int]:
    """The port of a server that answers `status` to GET /readyz, and 404 to all else."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/readyz" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1), (404, 1)])
def test_exit_status_tells_whether_the_service_is_ready(status: int, code: int):
    with answering(status) as port:
        environment = {"BENTOML_PORT": str(port), "http_proxy": "http://127.0.0.1:9"}
        done = subprocess.run([sys.executable, "-IS", health.__file__], env=environment, capture_output=True, text=True)
    assert done.returncode == code
    assert (str(status) in done.stderr) == (code == 1)


def test_nobody_there():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert f"no answer on port {port}" in str(health.fault(port))


def test_something_else_there():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=lambda: listener.accept()[0].close())
        thread.start()
        assert "no answer" in str(health.fault(listener.getsockname()[1]))
        thread.join()
