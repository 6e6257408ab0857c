"""The service in a process of its own, and a light load on it in the background."""

import os
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from threading import Event, Thread
from types import TracebackType
from typing import Any, Self

import httpx

from service.settings import PREFIX
from tagmask.cache import FOLDER, LIMIT
from tagmask.errors import RunError
from tagmask.inputs import Location, absolute_location

START_S, STOP_S = 180.0, 60.0
"""Time limits in seconds for the service to start, and to stop."""


@dataclass(frozen=True)
class Result:
    """A response: the version of its model, and the share of the photo, 0..1, covered by each class."""

    version: str
    shares: dict[str, float]


class RunningService:
    """Context manager: the service of a store's champion, in one process throughout.

    Raises RunError when it does not start, and for every response with an error.
    """

    def __init__(self, store: Location, inbox: Location, log: Path) -> None:
        """`inbox` is the folder or URL for photos of POST /v1/samples, `log` the file for the output of the service."""
        self._folders = {"TAGMASK_STORE": str(absolute_location(store)), "TAGMASK_INBOX": str(absolute_location(inbox))}
        self._log = log
        self.url = f"http://127.0.0.1:{_free_port()}"

    def __enter__(self) -> Self:
        settings = {name for name in os.environ if name.startswith(PREFIX)} - {FOLDER, LIMIT}
        environment = {name: value for name, value in os.environ.items() if name not in settings}
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(
                [Path(sys.executable).with_name("tagmask"), "serve", "--port", self.url.rpartition(":")[2]],
                env={**environment, **self._folders, "BENTOML_DO_NOT_TRACK": "True"},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        # One connection per request: an idle one may be closed by either side.
        limits = httpx.Limits(max_keepalive_connections=0)
        self._client = httpx.Client(base_url=self.url, timeout=60, limits=limits, trust_env=False)
        try:
            self._wait_until_ready()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self._stop()

    def segment(self, photo: Path) -> Result:
        """The result for a photo, without its tags."""
        body: dict[str, Any] = self._checked(self._post("/v1/segment", photo, format="json")).json()
        return Result(body["model"]["version"], {each["name"]: each["share"] for each in body["classes"]})

    def overlay(self, photo: Path) -> bytes:
        """PNG of the photo with its mask as a colour overlay, and a legend."""
        return self._checked(self._post("/v1/segment", photo, format="overlay")).content

    def send(self, photo: Path, tags: Sequence[str]) -> None:
        """Send a photo with its tags, for the next retraining."""
        self._checked(self._post("/v1/samples", photo, tags=",".join(tags)))

    def _post(self, path: str, photo: Path, **fields: str) -> httpx.Response:
        try:
            return self._client.post(path, files={"image": photo.read_bytes()}, data=fields)
        except httpx.HTTPError as error:
            raise RunError(f"{self.url}{path}: no response ({error}); see {self._log}") from error

    def _checked(self, response: httpx.Response) -> httpx.Response:
        if not response.is_success:
            raise RunError(f"{response.url}: status {response.status_code}: {response.text[:500]}")
        return response

    def _wait_until_ready(self) -> None:
        end = time.monotonic() + START_S
        while self._process.poll() is None and time.monotonic() < end:
            try:
                if self._client.get("/readyz").is_success:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.1)
        last = self._log.read_text(encoding="utf-8", errors="replace")[-2000:]
        status = self._process.poll()
        slow = f"did not answer within {START_S:g} s; try again when this machine has less to do"
        what = slow if status is None else f"ended with status {status}"
        raise RunError(f"the service {what}; {self._log} ends with:\n{last}")

    def _stop(self) -> None:
        self._client.close()
        self._process.terminate()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class LightLoad:
    """Context manager: a client that posts photos to a service one by one, with pauses, in the background.

    `responses` counts successful responses by the version of their model, in order of first appearance; `changes`
    lists each change of the version, with the seconds since the start; `failures` are error messages.
    """

    def __init__(self, service: RunningService, photos: Sequence[Path], pause: float = 2.0) -> None:
        """`pause` is in seconds."""
        self._service, self._photos, self._pause = service, photos, pause
        self.responses: Counter[str] = Counter()
        self.changes: list[tuple[float, str]] = []
        self.failures: list[str] = []
        self._stop = Event()
        self._thread = Thread(target=self._send, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def requests(self) -> int:
        return self.responses.total() + len(self.failures)

    def wait_for(self, version: str, responses: int = 5, seconds: float = 60) -> None:
        """Wait for this many responses of `version`. Raises RunError after `seconds`."""
        end = time.monotonic() + seconds
        while self.responses[version] < responses:
            if time.monotonic() > end:
                raise RunError(f"{self._service.url}: fewer than {responses} responses of {version} in {seconds:g} s")
            time.sleep(0.1)

    def _send(self) -> None:
        start, previous = time.monotonic(), ""
        for photo in cycle(self._photos):
            try:
                version = self._service.segment(photo).version
            except RunError as error:
                self.failures.append(str(error))
            else:
                self.responses[version] += 1
                if version != previous:
                    self.changes.append((time.monotonic() - start, version))
                previous = version
            if self._stop.wait(self._pause):
                return


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
