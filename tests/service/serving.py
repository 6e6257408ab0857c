"""A real server for tests: our application under uvicorn in a thread, on a real port."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import uvicorn
from starlette.applications import Starlette

from service.http.connection import Connection
from service.main import Application
from service.settings import Settings


@contextmanager
def serving(host: str = "127.0.0.1", **settings: Any) -> Iterator[httpx.Client]:
    """Serve with these settings, and give a client whose base URL is the server's."""
    app = Application(Starlette(), settings=Settings(**settings))
    # a socket that says it is TCP, as BentoML's does, or asyncio leaves Nagle's algorithm on: 40 ms an answer
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind((host, 0))
    port = listener.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(app, http=Connection, log_config=None, timeout_keep_alive=30))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        time.sleep(0.01)
    try:
        with httpx.Client(base_url=f"http://{host}:{port}", timeout=60) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join(timeout=30)
        assert not thread.is_alive(), "the server did not stop"
