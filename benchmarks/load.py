"""Load on an HTTP server, and what it costs there.

Clients are threads with blocking sockets that stay open, and send requests whose bytes were built beforehand: as little
work as can be, for they share the machine with the server.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

ROOT = Path(__file__).parent.parent
_BOUNDARY = "benchmark-boundary"
_START_SECONDS = 60
_STOP_SECONDS = 60


@dataclass(frozen=True)
class Answer:
    """An HTTP answer; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


def request(path: str, body: bytes = b"", media_type: str = "", *, method: str = "POST", headers: str = "") -> bytes:
    """The bytes of a request; `headers` are lines that end in \\r\\n."""
    typed = f"Content-Type: {media_type}\r\n" if media_type else ""
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{headers}{typed}Content-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def form(path: str, photo: bytes, fields: Mapping[str, str] | None = None, *, headers: str = "") -> bytes:
    """The bytes of a multipart POST with `photo` as the file `image`, and text fields."""
    parts = [f'name="{name}"\r\n\r\n{value}'.encode() for name, value in (fields or {}).items()]
    parts.append(b'name="image"; filename="photo"\r\nContent-Type: application/octet-stream\r\n\r\n' + photo)
    body = b"".join(f"--{_BOUNDARY}\r\nContent-Disposition: form-data; ".encode() + part + b"\r\n" for part in parts)
    body += f"--{_BOUNDARY}--\r\n".encode()
    return request(path, body, f"multipart/form-data; boundary={_BOUNDARY}", headers=headers)


class Connection:
    """A connection that stays open from request to request, for one thread."""

    def __init__(self, port: int, seconds: float = 60) -> None:
        """Connect, waiting at most `seconds` for that and for each piece of an answer. Raises OSError."""
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=seconds)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, sent: bytes) -> Answer:
        """Send a request and read its answer. Raises OSError, and ConnectionError when the server hangs up."""
        self._socket.sendall(sent)
        received = bytearray()
        while (end := received.find(b"\r\n\r\n")) < 0:
            received += self._receive()
        first, *lines = received[:end].decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in lines)
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        body = received[end + 4 :]
        while len(body) < int(headers["content-length"]):
            body += self._receive()
        return Answer(int(first.split(" ", 2)[1]), headers, bytes(body))

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def _receive(self) -> bytes:
        piece = self._socket.recv(1 << 18)
        if not piece:
            raise ConnectionError("the server hung up before its answer was complete")
        return piece


class Watch:
    """Samples processes while its block runs. Then: `elapsed` seconds, `cpu` seconds they used, `peak` bytes of RSS."""

    def __init__(self, processes: Sequence[psutil.Process]) -> None:
        self._processes = processes
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self.peak = 0

    def __enter__(self) -> Self:
        self._cpu, self._begun = cpu_seconds(self._processes), time.perf_counter()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.elapsed = time.perf_counter() - self._begun
        self.cpu = cpu_seconds(self._processes) - self._cpu
        self._done.set()
        self._thread.join()

    def _sample(self) -> None:
        while True:
            self.peak = max(self.peak, resident_bytes(self._processes))
            if self._done.wait(0.1):
                return


def resident_bytes(processes: Sequence[psutil.Process]) -> int:
    """Sum of their resident memory; pages that they share count for each."""
    return sum(process.memory_info().rss for process in processes)


def cpu_seconds(processes: Sequence[psutil.Process]) -> float:
    """CPU time that they have used."""
    return sum(times.user + times.system for times in (process.cpu_times() for process in processes))


class Server:
    """A server process with its children, from its start until its block ends. It listens on `port`."""

    def __init__(self, command: Sequence[str], log: Path, **environment: str) -> None:
        """Run `command`, a script beside this Python, with `--port`; what it prints goes to `log`.

        Raises RuntimeError, with the log's end, unless GET /readyz is answered within a minute.
        """
        self.port = _free_port()
        script, *options = command
        switches = {"BENTOML_DO_NOT_TRACK": "True", "ORT_DISABLE_TELEMETRY": "1"}
        with log.open("wb") as file:
            self.process = psutil.Popen(
                [str(Path(sys.executable).with_name(script)), *options, "--port", str(self.port)],
                cwd=ROOT, stdout=file, stderr=subprocess.STDOUT, env={**os.environ, **switches, **environment},
            )  # fmt: skip
        try:
            self._wait_until_ready(log)
        except BaseException:
            self.stop()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: object, trace: TracebackType | None) -> None:
        self.stop()

    @property
    def tree(self) -> list[psutil.Process]:
        """The process and all below it, as they are now."""
        return [self.process, *self.process.children(recursive=True)]

    def stop(self) -> int:
        """Send SIGTERM, and SIGKILL if that takes a minute; the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            code: int = self.process.wait(_STOP_SECONDS)
        except psutil.TimeoutExpired:
            for process in self.tree:
                process.kill()
            code = self.process.wait()
        return code

    def _wait_until_ready(self, log: Path) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                if Connection(self.port).ask(request("/readyz", method="GET")).status == 200:
                    return
            except OSError:
                pass
            time.sleep(0.1)
        tail = log.read_text(encoding="utf-8", errors="replace")[-2000:]
        raise RuntimeError(f"{' '.join(self.process.args)} does not answer /readyz; its output ends:\n{tail}")


@dataclass(frozen=True)
class Round:
    """Some seconds of load: latencies of its answers in seconds, and what it cost.

    `cpu` and `own_cpu` are CPU seconds of the server and of this process with its clients; `peak` bytes of RSS.
    """

    latencies: list[float]
    elapsed: float
    cpu: float
    own_cpu: float
    peak: int


def drive(server: Server, requests: Sequence[bytes], clients: int, seconds: float) -> Round:
    """Send `requests` in turns from `clients` connections. Raises RuntimeError for an answer that is not 200."""
    latencies: list[float] = []
    faults: list[str] = []
    connections = [Connection(server.port) for _ in range(clients)]

    def work(number: int) -> None:
        ask = connections[number].ask
        turns = islice(cycle(requests), number * len(requests) // clients, None)
        while (begun := time.perf_counter()) < deadline and not faults:
            answer = ask(next(turns))
            latencies.append(time.perf_counter() - begun)
            if answer.status != 200:
                faults.append(f"answered {answer.status}: {answer.body[:500]!r}")

    own = time.process_time()
    with Watch(server.tree) as watch:
        deadline = time.perf_counter() + seconds
        with ThreadPoolExecutor(clients) as pool:
            list(pool.map(work, range(clients)))
    for connection in connections:
        connection.close()
    if faults:
        raise RuntimeError(faults[0])
    return Round(latencies, watch.elapsed, watch.cpu, time.process_time() - own, watch.peak)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
