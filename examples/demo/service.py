"""The service as `make serve` starts it, and a light load on it while something else goes on."""

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

from tagmask.errors import RunError

ROOT = Path(__file__).parents[2]
"""Where bentofile.yaml is, by which `bentoml serve` finds the service."""

START_S, STOP_S = 90.0, 60.0
"""Seconds that the service may take to start, and to stop."""


@dataclass(frozen=True)
class Painted:
    """An answer: the version of its model, and the share of the photo, 0..1, that each class of it covers."""

    version: str
    shares: dict[str, float]


class RunningService:
    """A context in which the service serves the champion of a store; on one process from beginning to end.

    Raises RunError when it does not start, and for every answer that is not good.
    """

    def __init__(self, store: Path, inbox: Path, log: Path) -> None:
        """`inbox` is where POST /v1/samples puts photos; what the service prints goes to the file `log`."""
        self._folders = {"TAGMASK_STORE": str(store.absolute()), "TAGMASK_INBOX": str(inbox.absolute())}
        self._log = log
        self.url = f"http://127.0.0.1:{_free_port()}"

    def __enter__(self) -> Self:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TAGMASK_")}
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(
                [Path(sys.executable).with_name("bentoml"), "serve", "--port", self.url.rpartition(":")[2]],
                cwd=ROOT,
                env={**environment, **self._folders, "BENTOML_DO_NOT_TRACK": "True"},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        # A connection a request: one that is kept may be closed by either side while nobody asks for anything.
        limits = httpx.Limits(max_keepalive_connections=0)
        self._client = httpx.Client(base_url=self.url, timeout=60, limits=limits, trust_env=False)
        try:
            self._wait_until_ready()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: object, trace: TracebackType | None) -> None:
        self._stop()

    def version(self) -> str:
        """Version of the model that is served."""
        return str(self._good(self._client.get("/readyz")).json()["model"])

    def segment(self, photo: Path) -> Painted:
        """What the service paints in a photo whose tags it is not told."""
        told: dict[str, Any] = self._good(self._post("/v1/segment", photo, format="json")).json()
        return Painted(told["model"]["version"], {each["name"]: each["share"] for each in told["classes"]})

    def overlay(self, photo: Path) -> bytes:
        """A PNG to look at: the photo, tinted by what the service paints in it, with a legend."""
        return self._good(self._post("/v1/segment", photo, format="overlay")).content

    def send(self, photo: Path, tags: Sequence[str]) -> None:
        """Give the service a photo with its tags, for the next retraining."""
        self._good(self._post("/v1/samples", photo, tags=",".join(tags)))

    def wait_for(self, version: str, seconds: float = 60) -> None:
        """Wait until the service answers with `version`. Raises RunError if it does not within so many seconds."""
        end = time.monotonic() + seconds
        while (now := self.version()) != version:
            if time.monotonic() > end:
                raise RunError(f"{self.url}: still serves {now}, not {version}; {self._log} says why")
            time.sleep(0.1)

    def _post(self, path: str, photo: Path, **fields: str) -> httpx.Response:
        try:
            return self._client.post(path, files={"image": photo.read_bytes()}, data=fields)
        except httpx.HTTPError as fault:
            raise RunError(f"{self.url}{path}: no answer ({fault}); {self._log} may say why") from fault

    def _good(self, answer: httpx.Response) -> httpx.Response:
        if not answer.is_success:
            raise RunError(f"{answer.url}: answered {answer.status_code}: {answer.text[:500]}")
        return answer

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
        raise RunError(f"the service did not start; {self._log} ends with:\n{last}")

    def _stop(self) -> None:
        self._client.close()
        self._process.terminate()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class LightLoad:
    """A context in which one client posts photos to a service, one after another with pauses.

    `answers` counts the good ones by the version of their model, in the order in which versions first answered;
    `changes` tells after how many seconds another version answered than before; `failures` are in words.
    """

    def __init__(self, service: RunningService, photos: Sequence[Path], pause: float = 2.0) -> None:
        """`pause` is in seconds."""
        self._service, self._photos, self._pause = service, photos, pause
        self.answers: Counter[str] = Counter()
        self.changes: list[tuple[float, str]] = []
        self.failures: list[str] = []
        self._over = Event()
        self._thread = Thread(target=self._send, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: object, trace: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()

    @property
    def requests(self) -> int:
        return self.answers.total() + len(self.failures)

    def wait_for(self, version: str, answers: int = 5, seconds: float = 60) -> None:
        """Wait until so many answers are of `version`. Raises RunError if they are not within so many seconds."""
        end = time.monotonic() + seconds
        while self.answers[version] < answers:
            if time.monotonic() > end:
                raise RunError(f"{self._service.url}: fewer than {answers} answers of {version} in {seconds:g} s")
            time.sleep(0.1)

    def _send(self) -> None:
        begun, last = time.monotonic(), ""
        for photo in cycle(self._photos):
            try:
                version = self._service.segment(photo).version
            except RunError as fault:
                self.failures.append(str(fault))
            else:
                self.answers[version] += 1
                if version != last:
                    self.changes.append((time.monotonic() - begun, version))
                last = version
            if self._over.wait(self._pause):
                return


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
