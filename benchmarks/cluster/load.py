"""Requests at a steady rate, whatever becomes of the earlier ones."""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import cycle
from threading import Event, Thread
from types import TracebackType
from typing import Self

import httpx

_CLIENTS = 64
"""Requests that may wait for their answers at once."""


@dataclass(frozen=True)
class Answer:
    """What became of a request: seconds from its due time on, the version of the model, and what went wrong, if so."""

    begun: float
    seconds: float
    model: str = ""
    fault: str = ""


class SteadyLoad:
    """Context manager: sends `photos` in turn to POST /v1/segment, `rate` a second, without trying again."""

    def __init__(self, client: httpx.Client, photos: Sequence[bytes], rate: float) -> None:
        self._client, self._photos, self._rate = client, photos, rate
        self.answers: list[Answer] = []
        self._stop = Event()
        self._thread = Thread(target=self._send_all, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()

    def _send_all(self) -> None:
        due = time.monotonic()
        with ThreadPoolExecutor(_CLIENTS) as pool:
            for photo in cycle(self._photos):
                pool.submit(self._send, photo, due)
                due += 1 / self._rate
                if self._stop.wait(max(0, due - time.monotonic())):
                    return

    def _send(self, photo: bytes, due: float) -> None:
        model = fault = ""
        try:
            response = self._client.post("/v1/segment", files={"image": photo})
        except httpx.TransportError as error:
            fault = f"no answer: {error!r}"
        else:
            model = response.headers.get("X-Model-Version", "")
            if response.status_code != 200:
                fault = f"{response.status_code}: {response.text[:200]}"
        self.answers.append(Answer(due, time.monotonic() - due, model, fault))
