"""What requests that no honest client sends cost the service, which must answer /livez within a second throughout.

    python -m benchmarks.attack [MODEL]

Each attack has a limit on its requests, bytes and time. Everything stays on the loopback interface, against a service
that the benchmark starts. The exit status is 1 if an answer of /livez took longer than a second.
"""

import json
import socket
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from functools import partial
from http.client import HTTPException, HTTPResponse
from io import BytesIO
from pathlib import Path
from typing import Annotated, Self

import typer
from PIL import Image
from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table

from benchmarks.command import command_of
from benchmarks.load import Server, Watch
from tagmask.segmenter import PRETRAINED

BYTES = 19_500_000  # of a body: just below the service's limit
_LIMIT_S = 60  # of an answer
_LIVE = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
_FORM = "multipart/form-data; boundary=b"

Outcome = int | str
Attack = Callable[[int], list[Outcome]]
"""Attacks the service on a port; returns the statuses of its requests, or what became of their connections."""


class Probe:
    """Asks for /livez while its block runs. Then: `worst`, seconds of the slowest answer."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._ask)
        self.worst = 0.0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _ask(self) -> None:
        while not self._done.wait(0.05):
            begun = time.perf_counter()
            answered = exchange(self._port, _LIVE) == 200
            self.worst = max(self.worst, time.perf_counter() - begun if answered else _LIMIT_S)


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=_LIMIT_S)


def exchange(port: int, request: bytes) -> Outcome:
    """The status of the answer to a request, all of which is sent before the answer is read."""
    try:
        with connect(port) as connection:
            connection.sendall(request)
            return status(connection)
    except OSError as fault:
        return type(fault).__name__


def status(connection: socket.socket) -> Outcome:
    try:
        with HTTPResponse(connection) as answer:
            answer.begin()
            return answer.status
    except (OSError, HTTPException) as fault:
        return type(fault).__name__


def post(path: str, body: bytes, length: int | None = None, **headers: str) -> bytes:
    """A request; `Content_Type` stands for Content-Type, `length` for that of a body of which `body` is the start."""
    lines = [f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items()]
    size = len(body) if length is None else length
    return f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {size}\r\n{''.join(lines)}\r\n".encode() + body


def together(requests: list[bytes], port: int) -> list[Outcome]:
    """All requests at the same time."""
    with ThreadPoolExecutor(len(requests)) as threads:
        return list(threads.map(partial(exchange, port), requests))


def charsets(port: int) -> list[Outcome]:
    """Fields whose text takes quadratic time in the declared codec, then codecs that nobody knows."""
    part = b'--b\r\nContent-Disposition: form-data; name="tags"\r\n\r\n' + b"a" * 60_000 + b"-\r\n"
    slow = post("/v1/segment", part * 190 + b"--b--\r\n", Content_Type=f"{_FORM}; charset=punycode")
    form = b'--b\r\nContent-Disposition: form-data; name="x"\r\n\r\nx\r\n--b--\r\n'
    unknown = [post("/v1/segment", form, Content_Type=f"{_FORM}; charset={'x' * 5000}{n}") for n in range(200)]
    return [exchange(port, request) for request in (slow, *unknown)]


def documents(port: int) -> list[Outcome]:
    """JSON of many values, and strings that are expensive to read."""
    config = '<View><Image name="p" value="$image"/><BrushLabels name="b" toName="p"/></View>'
    sources = ("data:a/b" + ";a=" * (BYTES // 3), "/data/upload/" + "%41" * (BYTES // 3))
    predict = [json.dumps({"tasks": [{"data": {"image": each}}], "label_config": config}).encode() for each in sources]
    values = [b'{"x": [' + unit * (BYTES // len(unit)) + b"0]}" for unit in (b"[[0]],", b'{"a":0},', b"0,")]
    return together([post("/predict", body, Content_Type="application/json") for body in (*predict, *values)], port)


def unread_answers(port: int, count: int = 9, seconds: float = 15) -> list[Outcome]:
    """Answers of 196 MB to small requests, which are not read."""
    photo = BytesIO()
    Image.new("RGB", (7000, 7000)).save(photo, "JPEG")
    data = len(photo.getvalue()).to_bytes(4, "little") + photo.getvalue()
    tensor = {"name": "image", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": len(data)}}
    head = json.dumps({"inputs": [tensor]}).encode()
    request = post("/v2/models/tagmask/infer", head + data, Inference_Header_Content_Length=str(len(head)))
    return held([request] * count, port, seconds)


def slow_bodies(port: int) -> list[Outcome]:
    """Forty bodies at 20 bytes per second."""
    return held([post("/v1/segment", b"", BYTES, Content_Type="image/jpeg")] * 40, port, 10, b"x")


def stalled_batches(port: int) -> list[Outcome]:
    """Thirty-four batches of 100 MB whose last bytes do not come."""
    part = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n' + bytes(99_000_000)
    return held([post("/v1/segment/batch", part, 99_500_000, Content_Type=_FORM)] * 34, port, 10)


def half_heads(port: int) -> list[Outcome]:
    """Three hundred connections that are silent or stop in the middle of a head."""
    return held([b"", b"GET /livez HTTP/1.1\r\n"] * 150, port, 12)


def held(requests: list[bytes], port: int, seconds: float, more: bytes = b"") -> list[Outcome]:
    """Requests on connections that stay open and send `more` every 50 ms; nothing is read until the end."""
    outcomes: list[Outcome] = []
    with ExitStack() as stack:
        connections = [stack.enter_context(connect(port)) for _ in requests]
        for connection, request in zip(connections, requests, strict=True):
            with suppress(OSError):
                connection.sendall(request)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(0.05)
            for connection in connections if more else ():
                try:
                    connection.sendall(more)
                except OSError:
                    continue
        for connection in connections:
            connection.settimeout(1)
            outcomes.append(status(connection))
    return outcomes


def refusals(port: int) -> list[Outcome]:
    """Bodies of 19.5 MB to paths that refuse them unread; each refusal must arrive."""
    return together([post("/nothing", bytes(BYTES), Connection="close")] * 10, port)


ATTACKS: dict[str, Attack] = {
    "codecs of multipart forms": charsets,
    "JSON of 19.5 MB": documents,
    "answers that nobody reads": unread_answers,
    "bodies at 20 bytes per second": slow_bodies,
    "batches of 100 MB that stall": stalled_batches,
    "connections without a request": half_heads,
    "refused bodies of 19.5 MB": refusals,
}


def main(model: Annotated[Path, typer.Argument(help="Bundle to serve.")] = PRETRAINED) -> None:
    table = Table("attack", "slowest /livez, s", "peak memory, MB", "outcomes", box=MARKDOWN)
    slowest = 0.0
    with tempfile.TemporaryDirectory() as folder:
        command = ["bentoml", "serve", "service.main:Tagmask"]
        with Server(command, Path(folder) / "log", TAGMASK_MODEL=str(model.absolute())) as server:
            for name, attack in ATTACKS.items():
                with Watch(server.tree) as watch, Probe(server.port) as probe:
                    counts = Counter(attack(server.port))
                outcomes = ", ".join(f"{count} x {outcome}" for outcome, count in counts.items())
                table.add_row(name, f"{probe.worst:.2f}", f"{watch.peak / 1e6:.0f}", outcomes)
                slowest = max(slowest, probe.worst)
    Console(width=150).print(table)
    raise typer.Exit(slowest > 1)


if __name__ == "__main__":
    command_of(main)()
