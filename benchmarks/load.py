"""A server process, the load on it, and what that costs.

Clients are threads with connections that stay open, and requests are built beforehand: clients should do as little work
as possible, because they share the machine with the server.
"""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from itertools import cycle, islice
from pathlib import Path
from socket import create_server
from typing import Self

import httpx
import psutil

ROOT = Path(__file__).parent.parent
_STOP_S = 60


def form(
    path: str, photo: bytes, fields: dict[str, str] | None = None, headers: dict[str, str] | None = None
) -> httpx.Request:
    """A multipart POST with `photo` as the file `image`, and text fields."""
    return httpx.Request("POST", f"http://localhost{path}", files={"image": photo}, data=fields, headers=headers)


@dataclass(frozen=True)
class Response:
    """A response; the names in `headers` are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


class Connection:
    """A connection that stays open from request to request, for one thread."""

    def __init__(self, port: int, seconds: float = 60) -> None:
        """Connect, waiting at most `seconds` for that and for each part of a response. Raises OSError."""
        self._http = HTTPConnection("127.0.0.1", port, timeout=seconds)
        self._http.connect()

    def send(self, request: httpx.Request) -> Response:
        """Send a request and read the response. Raises OSError, as when the server closes the connection."""
        try:
            self._http.request(request.method, request.url.path, request.read(), dict(request.headers))
            response = self._http.getresponse()
            body = response.read()
        except HTTPException as fault:
            self.close()  # the next request opens it again
            raise ConnectionError(f"no complete response: {fault!r}") from fault
        headers = {name.lower(): value for name, value in response.getheaders()}
        return Response(response.status, headers, body)

    def close(self) -> None:
        self._http.close()


class Watch:
    """Samples processes while its block runs. Then: `elapsed` seconds, `cpu` seconds they used, `peak` bytes of RSS."""

    def __init__(self, processes: Sequence[psutil.Process]) -> None:
        self._processes = processes
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self.peak = 0

    def __enter__(self) -> Self:
        self._cpu, self._begun = self._cpu_seconds(), time.perf_counter()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.elapsed = time.perf_counter() - self._begun
        self.cpu = self._cpu_seconds() - self._cpu
        self._done.set()
        self._thread.join()

    def _cpu_seconds(self) -> float:
        return sum(times.user + times.system for times in (process.cpu_times() for process in self._processes))

    def _sample(self) -> None:
        while True:
            self.peak = max(self.peak, resident_bytes(self._processes))
            if self._done.wait(0.1):
                return


def resident_bytes(processes: Sequence[psutil.Process]) -> int:
    """Sum of the resident memory of processes; shared pages count for each of them."""
    return sum(process.memory_info().rss for process in processes if process.is_running())


class Server:
    """Context manager: a server process with its children, which listens on `port`.

    It is started when GET `ready` succeeds, which may take `start_s` seconds.
    """

    ready, start_s = "/readyz", 60.0

    def __init__(
        self, command: Sequence[str], log: Path, python: Path = Path(sys.executable), /, **environment: str
    ) -> None:
        """Run `command`, a script beside `python`, with `--port`; its output goes to `log`.

        Raises RuntimeError with the end of the log unless it starts in time.
        """
        with create_server(("127.0.0.1", 0)) as probe:
            self.port: int = probe.getsockname()[1]
        script, *options = command
        switches = {"BENTOML_DO_NOT_TRACK": "True", "ORT_DISABLE_TELEMETRY": "1"}
        with log.open("wb") as file:
            self.process = psutil.Popen(
                [python.absolute().with_name(script), *options, "--port", str(self.port)],
                cwd=ROOT,
                stdout=file,
                stderr=subprocess.STDOUT,
                env={**os.environ, **switches, **environment},
            )
        try:
            self._wait_until_ready(log)
        except BaseException:
            self.stop()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def tree(self) -> list[psutil.Process]:
        """The process and its current descendants."""
        return [self.process, *self.process.children(recursive=True)]

    def stop(self) -> int:
        """Send SIGTERM, and SIGKILL after a minute or to what is left; returns the exit code."""
        tree = self.tree if self.process.poll() is None else []
        if tree:
            self.process.terminate()
        try:
            code: int = self.process.wait(_STOP_S)
        except psutil.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        for process in tree[1:]:  # LitServe leaves its own running
            with suppress(psutil.NoSuchProcess):
                process.kill()
        return code

    def _wait_until_ready(self, log: Path) -> None:
        deadline = time.monotonic() + self.start_s
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                if httpx.get(f"http://127.0.0.1:{self.port}{self.ready}", trust_env=False).is_success:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.1)
        tail = log.read_text(encoding="utf-8", errors="replace")[-2000:]
        status = self.process.poll()
        what = f"did not answer within {self.start_s:g} s" if status is None else f"ended with status {status}"
        raise RuntimeError(f"the server {what}: GET {self.ready} failed; {log} ends with:\n{tail}")


@dataclass(frozen=True)
class Round:
    """Some seconds of load: latencies of its responses in seconds, and what it cost.

    `cpu` and `own_cpu` are CPU seconds of the server and of this process with its clients; `peak` bytes of RSS.
    """

    latencies: list[float]
    elapsed: float
    cpu: float
    own_cpu: float
    peak: int

    @property
    def rate(self) -> float:
        """Responses per second."""
        return len(self.latencies) / self.elapsed


def drive(server: Server, requests: Sequence[httpx.Request], clients: int, seconds: float) -> Round:
    """Send `requests` in turn from `clients` connections. Raises RuntimeError for a response that is not 200."""
    latencies: list[float] = []
    own = time.process_time()
    with Watch(server.tree) as watch, ThreadPoolExecutor(clients) as pool:
        deadline = time.perf_counter() + seconds

        def work(number: int) -> None:
            turns = islice(cycle(requests), number * len(requests) // clients, None)
            with closing(Connection(server.port)) as connection:
                while (begun := time.perf_counter()) < deadline:
                    response = connection.send(next(turns))
                    latencies.append(time.perf_counter() - begun)
                    if response.status != 200:
                        raise RuntimeError(f"status {response.status}: {response.body[:500]!r}")

        list(pool.map(work, range(clients)))
    return Round(latencies, watch.elapsed, watch.cpu, time.process_time() - own, watch.peak)
