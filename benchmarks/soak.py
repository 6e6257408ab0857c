"""Thousands of requests of every kind to the service while its model is swapped, and a stop under load.

python -m benchmarks.soak MODEL [--requests 10000] [--swap-seconds 3] [--other MODEL]

Four clients send photos of many sizes and formats and request all mask formats; one request in twenty is faulty. The
model alternates with another one, which becomes champion in the store and by POST, twice each in turn. Exit code 1 if
there is any fault.
"""

import base64
import hashlib
import json
import random
import struct
import tempfile
import threading
import time
import zlib
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Annotated

import httpx
import numpy as np
import onnx
import typer
from onnx import helper, numpy_helper
from PIL import Image

from benchmarks.command import command_of
from benchmarks.load import Connection, Response, Server, form, resident_bytes
from tagmask.bundle import read_metadata, write_bundle
from tagmask.formats import FORMATS
from tagmask.store import Store

CLIENTS = 4
ADMIN_KEY = "soak-admin-key-of-enough-length"
_KEY = {"X-API-Key": ADMIN_KEY}
_URL = "http://localhost"
_PHOTOS, _SIDES = 60, (64, 2000)
_WARM_UP = 0.2
"""Share of the requests before memory is judged."""
_BINS = 40
"""Means of memory that the line goes through; samples a second apart are not independent of each other."""
_SHOWN_FAULTS = 20


@dataclass(frozen=True)
class Case:
    """A request, the expected status, and for a good one the format and the photo's (width, height)."""

    name: str
    sent: httpx.Request
    status: int = 200
    format: str = ""
    size: tuple[int, int] = (0, 0)


def other_bundle(model: Path, target: Path) -> Path:
    """A copy with another version and all labels rotated by one, so that its masks differ from the original's."""
    proto = onnx.load(model)
    metadata = read_metadata(model)
    digest = hashlib.sha256(metadata.weights_digest.encode()).hexdigest()
    output, labels = proto.graph.output[0].name, len(metadata.classes)
    for node in proto.graph.node:
        node.output[:] = [f"{name}_before" if name == output else name for name in node.output]
        node.input[:] = [f"{name}_before" if name == output else name for name in node.input]
    proto.graph.initializer.append(numpy_helper.from_array(np.roll(np.arange(labels), 1), "rotated"))
    proto.graph.node.append(helper.make_node("Gather", [f"{output}_before", "rotated"], [output], axis=1))
    write_bundle(target, proto, metadata.model_copy(update={"weights_digest": digest}))
    return target


def cases(tags: Sequence[str]) -> tuple[list[Case], list[Case]]:
    """Good and faulty requests; `tags` are classes that both models know."""
    draw = random.Random(0)
    photos = [_photo(draw) for _ in range(_PHOTOS)]
    good = []
    for index, (photo, size) in enumerate(photos):
        for name in FORMATS:
            fields = {"format": name} | ({"tags": draw.choice(tags)} if tags and draw.random() < 0.5 else {})
            if draw.random() < 0.05:
                fields["refine"] = "crf"
            sent = form("/v1/segment", photo, fields, headers=_KEY)
            good.append(Case(f"photo {index} as {name}", sent, 200, name, size))
    return good, _faulty(photos[0][0])


def _photo(draw: random.Random) -> tuple[bytes, tuple[int, int]]:
    """A picture of soft blobs as JPEG, PNG or WebP, and its (width, height)."""
    low, high = np.log(_SIDES)
    width, height = (round(float(np.exp(draw.uniform(low, high)))) for _ in range(2))
    blobs = np.random.default_rng(draw.randrange(1 << 30)).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    picture = Image.fromarray(blobs).resize((width, height), Image.Resampling.BICUBIC)
    target = BytesIO()
    picture.save(target, draw.choice(["JPEG", "JPEG", "PNG", "WEBP"]))
    return target.getvalue(), (width, height)


def _faulty(photo: bytes) -> list[Case]:
    header = b"IHDR" + struct.pack(">II5B", 60_000, 60_000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n\0\0\0\r" + header + struct.pack(">I", zlib.crc32(header)) + b"\0\1\0\0IDAT"

    def segment(name: str, status: int, data: bytes, **fields: str) -> Case:
        return Case(name, form("/v1/segment", data, fields, headers=_KEY), status)

    return [
        segment("truncated photo", 422, photo[: len(photo) // 2]),
        segment("text as a photo", 422, b"no photo at all"),
        segment("URL as a photo", 422, b"https://example.org/photo.jpg"),
        segment("PDF as a photo", 415, b"%PDF-1.7 no photo"),
        segment("bomb", 413, bomb),
        segment("unknown tag", 422, photo, tags="no-such-class"),
        segment("unknown format", 422, photo, format="gif"),
        Case("no file", httpx.Request("POST", f"{_URL}/v1/segment", json={}, headers=_KEY), 415),
        Case("no key", form("/v1/segment", photo), 401),
        Case("unknown path", httpx.Request("GET", f"{_URL}/v1/nothing", headers=_KEY), 404),
        Case("wrong method", httpx.Request("GET", f"{_URL}/v1/segment", headers=_KEY), 405),
    ]


Sample = tuple[int, int, int]
"""Requests answered so far, and resident bytes of the worker and of all processes."""


class Judge:
    """Checks every response; `faults` are what is wrong, `versions` counts the responses of each model."""

    def __init__(self, versions: Sequence[str]) -> None:
        self.faults: list[str] = []
        self.statuses: Counter[int] = Counter()
        self.versions: Counter[str] = Counter(dict.fromkeys(versions, 0))
        self._seen: dict[tuple[str, str], bytes] = {}

    def check(self, case: Case, answer: Response) -> None:
        """A good response names its model in header and body, and the same model always returns the same bytes."""
        self.statuses[answer.status] += 1
        version = answer.headers.get("x-model-version", "")
        if answer.status != case.status:
            self.faults.append(f"{case.name}: {answer.status}, {case.status} was due: {answer.body[:300]!r}")
        elif case.status != 200:
            if "code" not in json.loads(answer.body)["error"]:
                self.faults.append(f"{case.name}: an error without a code: {answer.body[:300]!r}")
        elif version not in self.versions:
            self.faults.append(f"{case.name}: X-Model-Version is {version!r}")
        else:
            self.versions[version] += 1
            digest = hashlib.blake2b(answer.body).digest()
            if self._seen.setdefault((case.name, version), digest) != digest:
                self.faults.append(f"{case.name}: model {version} gave two different answers")
            if why := _wrong(case, answer.body, version):
                self.faults.append(f"{case.name}: {why}")

    def twins(self) -> int:
        """Number of requests for which both models returned the same bytes, which does not show who responded."""
        one, other = self.versions
        return sum(self._seen.get((name, other)) == digest for (name, who), digest in self._seen.items() if who == one)


def _wrong(case: Case, body: bytes, version: str) -> str:
    """What is wrong with the size or the model of a mask, if its format contains them; else ""."""
    if case.format == "json":
        document = json.loads(body)
        if document["model"]["version"] != version:
            return f"the document is of model {document['model']['version']}, the header says {version}"
        body = base64.b64decode(document["mask"]["base64"])
    if case.format in ("png", "json"):
        picture = Image.open(BytesIO(body))
        if picture.size != case.size:
            return f"a mask of {picture.size}, the photo has {case.size}"
        if picture.info.get("model") != version:
            return f"the mask is of model {picture.info.get('model')}, the header says {version}"
    return ""


def report_memory(samples: Sequence[Sample], requests: int) -> None:
    """Print the peak, and the slope after warm-up by least squares through means of equally many samples."""
    answered, worker, total = np.array(samples, dtype=np.float64).T
    steady = answered >= _WARM_UP * requests
    x, y = answered[steady] / 1000, worker[steady] / 1024
    if len(x) < 3:
        print("memory: too few samples for a slope; send more requests")
        return
    groups = np.array_split(np.arange(len(x)), min(_BINS, len(x)))
    x, y = (np.array([values[group].mean() for group in groups]) for values in (x, y))
    (slope, _), covariance = np.polyfit(x, y, 1, cov=True)
    print(
        f"worker's memory after {_WARM_UP:.0%} of the requests: slope {slope:+.0f} KB per 1000 requests, standard "
        f"error {np.sqrt(covariance[0, 0]):.0f}; {y[0] / 1024:.0f} MiB at first, {y[-1] / 1024:.0f} at last, peak "
        f"{worker.max() / 2**20:.0f}; all processes: peak {total.max() / 2**20:.0f} MiB"
    )


def soak(server: Server, store: Store, requests: int, swap_seconds: float) -> tuple[Judge, list[Sample]]:
    """Send all requests while the models alternate; returns the judge, and samples of memory once a second."""
    versions = store.versions()
    judge = Judge(versions)
    known = [set(read_metadata(store.path(version)).classes[1:]) for version in versions]
    good, faulty = cases(sorted(known[0] & known[1]))
    draw = random.Random(1)
    chosen = iter([draw.choice(faulty if draw.random() < 0.05 else good) for _ in range(requests)])
    turn = threading.Lock()
    answered = 0

    def client() -> None:
        nonlocal answered
        connection = Connection(server.port)
        while True:
            with turn:
                case = next(chosen, None)
            if case is None:
                return
            try:
                answer = connection.send(case.sent)
            except OSError as fault:
                judge.faults.append(f"{case.name}: no response ({fault})")
                continue
            with turn:
                answered += 1
                judge.check(case, answer)

    worker = max(server.process.children(recursive=True), key=lambda each: resident_bytes([each]))
    samples, swaps, begun = list[Sample](), 0, time.monotonic()
    with ThreadPoolExecutor(CLIENTS) as pool:
        clients = [pool.submit(client) for _ in range(CLIENTS)]
        while not all(each.done() for each in clients):
            time.sleep(1)
            samples.append((answered, resident_bytes([worker]), resident_bytes(server.tree)))
            if time.monotonic() - begun >= (swaps + 1) * swap_seconds:
                swaps += 1
                _swap(server, store, versions[swaps % 2], by_store=swaps // 2 % 2 == 0, judge=judge)
        for each in clients:
            each.result()
    seconds = time.monotonic() - begun
    statuses = ", ".join(f"{count} with {status}" for status, count in sorted(judge.statuses.items()))
    shares = ", ".join(f"{count} by {version}" for version, count in judge.versions.items())
    print(f"{answered} answers in {seconds:.0f} s ({answered / seconds:.1f}/s): {statuses}; {shares}; {swaps} swaps")
    print(f"{judge.twins()} requests had the same response from both models; all other responses differ")
    report_memory(samples, requests)
    return judge, samples


def _swap(server: Server, store: Store, version: str, *, by_store: bool, judge: Judge) -> None:
    if by_store:
        store.promote(version)
        return
    activate = httpx.Request("POST", f"{_URL}/v1/models/{version}/activate", headers=_KEY)
    answer = Connection(server.port).send(activate)
    if answer.status != 200:
        judge.faults.append(f"activate {version}: {answer.status} {answer.body[:300]!r}")
    now = store.champion()
    if now is None or now.version != version:
        judge.faults.append(f"activate {version}: the store's champion is {now and now.version}")


Attempt = tuple[float, str]
"""When a request around the stop was begun, and its outcome."""


def stop_under_load(server: Server, judge: Judge) -> None:
    """SIGTERM under load: requests in progress get a response, later connections are refused, exit code 0."""
    target = BytesIO()
    Image.effect_noise((2000, 1500), 60).convert("RGB").save(target, "JPEG")
    sent = form("/v1/segment", target.getvalue(), {"format": "json"}, headers=_KEY)
    over = threading.Event()
    with ThreadPoolExecutor(2 * CLIENTS) as pool:
        clients = [pool.submit(_until_refused, server.port, sent, over, bool(n % 2)) for n in range(2 * CLIENTS)]
        time.sleep(2)
        stopped = time.monotonic()
        code = server.stop()
        seconds = time.monotonic() - stopped
        over.set()
        attempts = [attempt for client in clients for attempt in client.result()]
    before = Counter(outcome for begun, outcome in attempts if begun < stopped)
    after = Counter(outcome for begun, outcome in attempts if begun >= stopped)
    print(
        f"SIGTERM: exit code {code} after {seconds:.1f} s; "
        f"begun before it: {_counts(before)}; after it: {_counts(after)}"
    )
    if code:
        judge.faults.append(f"SIGTERM: exit code {code}")
    if lost := {outcome for outcome in before if outcome != "answered 200"}:
        judge.faults.append(f"SIGTERM: begun before it, but {', '.join(sorted(lost))}")
    if "refused" not in after:
        judge.faults.append("SIGTERM: no connection was refused after it")


def _until_refused(port: int, sent: httpx.Request, over: threading.Event, keep: bool) -> list[Attempt]:
    """Send again and again, on one connection if `keep`, until the server is gone."""
    attempts = []
    connection: Connection | None = None
    while True:
        begun = time.monotonic()
        reused = connection is not None
        try:
            connection = connection or Connection(port)
            outcome = f"answered {connection.send(sent).status}"
        except ConnectionRefusedError:
            outcome = "refused"
        except OSError:
            outcome = "hung up on an open connection" if reused else "hung up on a new connection"
            connection = None
        attempts.append((begun, outcome))
        if connection is not None and not keep:
            connection.close()
            connection = None
        if outcome == "refused" and over.wait(0.2):
            return attempts


def _counts(outcomes: Counter[str]) -> str:
    return ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items())) or "none"


def main(
    model: Path,
    other: Annotated[Path | None, typer.Option(help="Second model.", show_default="a copy, labels rotated")] = None,
    requests: int = 10_000,
    swap_seconds: float = 3,
    out: Annotated[Path | None, typer.Option(help="CSV file to write the samples of memory to.")] = None,
) -> None:
    """Send the requests, stop the service, and print the faults."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder, "store"))
        store.publish(model)
        store.publish(other or other_bundle(model, Path(folder, "other.onnx")))
        store.promote(store.versions()[0])
        log = Path(folder, "log")
        settings = {"TAGMASK_MODEL": "", "TAGMASK_STORE": str(store.root), "TAGMASK_ADMIN_KEYS": ADMIN_KEY}
        with Server(["bentoml", "serve"], log, **settings) as server:
            judge, samples = soak(server, store, requests, swap_seconds)
            stop_under_load(server, judge)
        text = log.read_text(encoding="utf-8", errors="replace")
    if "Traceback" in text:
        judge.faults.append("the service's log has a traceback: " + text[text.index("Traceback") :][:2000])
    if out:
        lines = ["answered,worker_bytes,all_bytes", *(",".join(map(str, sample)) for sample in samples)]
        out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    for fault in judge.faults[:_SHOWN_FAULTS]:
        print(f"FAULT {fault}")
    print(f"{len(judge.faults)} faults")
    raise typer.Exit(bool(judge.faults))


if __name__ == "__main__":
    command_of(main)()
