"""The service for thousands of requests of every kind while its model is swapped, and its stop under load.

python -m benchmarks.soak MODEL [--requests 10000] [--swap-seconds 3] [--other MODEL]

Photos of many sizes and forms in all formats, one in twenty faulty, from four clients. The model alternates with
another one, by the store and by POST in turns of two. Exit code 1 if anything is not as it should be.
"""

import argparse
import base64
import hashlib
import json
import random
import struct
import sys
import tempfile
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import onnx
import psutil
from onnx import helper, numpy_helper
from PIL import Image

from benchmarks.load import Answer, Connection, Server, form, request
from tagmask.bundle import KEY, read_metadata
from tagmask.formats import FORMATS
from tagmask.store import Store

CLIENTS = 4
ADMIN_KEY = "soak-admin-key-of-enough-length"
_KEY_HEADER = f"X-API-Key: {ADMIN_KEY}\r\n"
_PHOTOS, _SIDES = 60, (64, 2000)
_WARM_UP = 0.2
"""Share of the requests before memory is judged."""
_BINS = 40
"""Means of memory that the line goes through; samples a second apart are not independent of each other."""
_MOST_TOLD = 20


@dataclass(frozen=True)
class Case:
    """A request as sent, the status that is due, and for a good one the format and the photo's (width, height)."""

    name: str
    sent: bytes
    status: int = 200
    format: str = ""
    size: tuple[int, int] = (0, 0)


def other_bundle(model: Path, target: Path) -> Path:
    """A copy of another version whose labels are rotated by one, so that its answers differ from the original's."""
    proto = onnx.load(model)
    metadata = json.loads(next(entry.value for entry in proto.metadata_props if entry.key == KEY))
    metadata["weights_digest"] = hashlib.sha256(metadata["weights_digest"].encode()).hexdigest()
    metadata["version"] = metadata["weights_digest"][:12] + (
        "" if metadata["precision"] == "fp32" else f"-{metadata['precision']}"
    )
    output, labels = proto.graph.output[0].name, len(metadata["classes"])
    for node in proto.graph.node:
        node.output[:] = [f"{name}_before" if name == output else name for name in node.output]
        node.input[:] = [f"{name}_before" if name == output else name for name in node.input]
    proto.graph.initializer.append(numpy_helper.from_array(np.roll(np.arange(labels), 1), "rotated"))
    proto.graph.node.append(helper.make_node("Gather", [f"{output}_before", "rotated"], [output], axis=1))
    for entry in proto.metadata_props:
        if entry.key == KEY:
            entry.value = json.dumps(metadata)
    onnx.save(proto, target)
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
            sent = form("/v1/segment", photo, fields, headers=_KEY_HEADER)
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
        return Case(name, form("/v1/segment", data, fields, headers=_KEY_HEADER), status)

    return [
        segment("truncated photo", 422, photo[: len(photo) // 2]),
        segment("text as a photo", 422, b"no photo at all"),
        segment("URL as a photo", 422, b"https://example.org/photo.jpg"),
        segment("PDF as a photo", 415, b"%PDF-1.7 no photo"),
        segment("bomb", 413, bomb),
        segment("unknown tag", 422, photo, tags="no-such-class"),
        segment("unknown format", 422, photo, format="gif"),
        Case("no file", request("/v1/segment", b"{}", "application/json", headers=_KEY_HEADER), 415),
        Case("no key", form("/v1/segment", photo), 401),
        Case("unknown path", request("/v1/nothing", method="GET", headers=_KEY_HEADER), 404),
        Case("wrong method", request("/v1/segment", method="GET", headers=_KEY_HEADER), 405),
    ]


class Judge:
    """Looks at every answer; `faults` are what is wrong, `versions` how many answers each model gave."""

    def __init__(self, versions: Sequence[str]) -> None:
        self.faults: list[str] = []
        self.statuses: Counter[int] = Counter()
        self.versions: Counter[str] = Counter(dict.fromkeys(versions, 0))
        self._seen: dict[tuple[str, str], bytes] = {}

    def look(self, case: Case, answer: Answer) -> None:
        """A good answer names its model in header and body, and the same model always gives the same bytes."""
        self.statuses[answer.status] += 1
        version = answer.headers.get("x-model-version", "")
        if answer.status != case.status:
            self.fail(f"{case.name}: {answer.status}, {case.status} was due: {answer.body[:300]!r}")
        elif case.status != 200:
            if "code" not in json.loads(answer.body)["error"]:
                self.fail(f"{case.name}: an error without a code: {answer.body[:300]!r}")
        elif version not in self.versions:
            self.fail(f"{case.name}: X-Model-Version is {version!r}")
        else:
            self.versions[version] += 1
            digest = hashlib.blake2b(answer.body).digest()
            if self._seen.setdefault((case.name, version), digest) != digest:
                self.fail(f"{case.name}: model {version} gave two different answers")
            if why := _wrong(case, answer.body, version):
                self.fail(f"{case.name}: {why}")

    def twins(self) -> int:
        """Requests to which both models gave the same bytes, which proves nothing of who answered."""
        one, other = self.versions
        return sum(self._seen.get((name, other)) == digest for (name, who), digest in self._seen.items() if who == one)

    def fail(self, why: str) -> None:
        self.faults.append(why)


def _wrong(case: Case, body: bytes, version: str) -> str:
    """What is wrong with an answer's size or model, where the format tells it."""
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


class Sampler:
    """Resident memory of the server, once a second: `samples` are (requests answered, worker's bytes, all bytes)."""

    def __init__(self, server: Server, answered: Callable[[], int]) -> None:
        self._server, self._answered = server, answered
        self._worker = max(server.process.children(recursive=True), key=lambda each: each.memory_info().rss)
        self.samples: list[tuple[int, int, int]] = []

    def sample(self) -> None:
        total = 0
        for process in self._server.tree:
            try:
                total += process.memory_info().rss
            except psutil.NoSuchProcess:
                continue
        self.samples.append((self._answered(), self._worker.memory_info().rss, total))

    def report(self, requests: int) -> None:
        """Peak, and the slope after warm-up by least squares through means of equally many samples."""
        answered, worker, total = np.array(self.samples, dtype=np.float64).T
        steady = answered >= _WARM_UP * requests
        x, y = answered[steady] / 1000, worker[steady] / 1024
        if len(x) < 3:
            print("memory: too few samples for a slope; send more requests")
            return
        groups = np.array_split(np.arange(len(x)), min(_BINS, len(x)))
        x, y = (np.array([values[group].mean() for group in groups]) for values in (x, y))
        (slope, _), covariance = np.polyfit(x, y, 1, cov="unscaled")
        residual = y - np.polyval(np.polyfit(x, y, 1), x)
        error = float(np.sqrt(covariance[0, 0] * (residual**2).sum() / (len(x) - 2)))
        print(
            f"worker's memory after {_WARM_UP:.0%} of the requests: slope {slope:+.0f} KB per 1000 requests, standard "
            f"error {error:.0f}; {y[0] / 1024:.0f} MiB at first, {y[-1] / 1024:.0f} at last, peak "
            f"{worker.max() / 2**20:.0f}; all processes: peak {total.max() / 2**20:.0f} MiB"
        )


def soak(server: Server, store: Store, requests: int, swap_seconds: float) -> tuple[Judge, Sampler]:
    """Send them all while the models alternate."""
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
                answer = connection.ask(case.sent)
            except OSError as fault:
                judge.fail(f"{case.name}: no answer ({fault})")
                connection = Connection(server.port)
                continue
            with turn:
                answered += 1
                judge.look(case, answer)

    sampler, swaps, begun = Sampler(server, lambda: answered), 0, time.monotonic()
    with ThreadPoolExecutor(CLIENTS) as pool:
        clients = [pool.submit(client) for _ in range(CLIENTS)]
        while not all(each.done() for each in clients):
            time.sleep(1)
            sampler.sample()
            if time.monotonic() - begun >= (swaps + 1) * swap_seconds:
                swaps += 1
                _swap(server, store, versions[swaps % 2], by_store=swaps // 2 % 2 == 0, judge=judge)
        for each in clients:
            each.result()
    seconds = time.monotonic() - begun
    statuses = ", ".join(f"{count} with {status}" for status, count in sorted(judge.statuses.items()))
    shares = ", ".join(f"{count} by {version}" for version, count in judge.versions.items())
    print(f"{answered} answers in {seconds:.0f} s ({answered / seconds:.1f}/s): {statuses}; {shares}; {swaps} swaps")
    print(f"{judge.twins()} requests had the same answer of both models; all other answers tell them apart")
    sampler.report(requests)
    return judge, sampler


def _swap(server: Server, store: Store, version: str, *, by_store: bool, judge: Judge) -> None:
    if by_store:
        store.promote(version)
        return
    answer = Connection(server.port).ask(request(f"/v1/models/{version}/activate", headers=_KEY_HEADER))
    if answer.status != 200:
        judge.fail(f"activate {version}: {answer.status} {answer.body[:300]!r}")
    now = store.champion()
    if now is None or now.version != version:
        judge.fail(f"activate {version}: the store's champion is {now and now.version}")


@dataclass(frozen=True)
class Try:
    """One request around the stop: when it was begun and had been sent, and what came of it."""

    begun: float
    outcome: str


def stop_under_load(server: Server, judge: Judge) -> None:
    """SIGTERM while clients send: requests in work are answered, connections afterwards are refused, exit code 0."""
    target = BytesIO()
    Image.effect_noise((2000, 1500), 60).convert("RGB").save(target, "JPEG")
    sent = form("/v1/segment", target.getvalue(), {"format": "json"}, headers=_KEY_HEADER)
    over = threading.Event()
    with ThreadPoolExecutor(2 * CLIENTS) as pool:
        clients = [pool.submit(_until_refused, server.port, sent, over, bool(n % 2)) for n in range(2 * CLIENTS)]
        time.sleep(2)
        stopped = time.monotonic()
        code = server.stop()
        seconds = time.monotonic() - stopped
        over.set()
        tries = [each for client in clients for each in client.result()]
    before = Counter(each.outcome for each in tries if each.begun < stopped)
    after = Counter(each.outcome for each in tries if each.begun >= stopped)
    print(
        f"SIGTERM: exit code {code} after {seconds:.1f} s; begun before it: {_told(before)}; after it: {_told(after)}"
    )
    if code:
        judge.fail(f"SIGTERM: exit code {code}")
    if lost := {outcome for outcome in before if outcome != "answered 200"}:
        judge.fail(f"SIGTERM: begun before it, but {', '.join(sorted(lost))}")
    if "refused" not in after:
        judge.fail("SIGTERM: no connection was refused after it")


def _until_refused(port: int, sent: bytes, over: threading.Event, keep: bool) -> list[Try]:
    """Send again and again, on one connection if `keep`, until the server is gone."""
    tries = []
    connection: Connection | None = None
    while True:
        begun = time.monotonic()
        reused = connection is not None
        try:
            connection = connection or Connection(port)
            outcome = f"answered {connection.ask(sent).status}"
        except ConnectionRefusedError:
            outcome = "refused"
        except OSError:
            outcome = "hung up on an open connection" if reused else "hung up on a new connection"
            connection = None
        tries.append(Try(begun, outcome))
        if connection is not None and not keep:
            connection.close()
            connection = None
        if outcome == "refused" and over.wait(0.2):
            return tries


def _told(outcomes: Counter[str]) -> str:
    return ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items())) or "none"


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--other", type=Path, help="second model; left out, a copy with its labels rotated")
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--swap-seconds", type=float, default=3)
    parser.add_argument("--out", type=Path, help="write the samples of memory to this file as CSV")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder, "store"))
        other = options.other or other_bundle(options.model, Path(folder, "other.onnx"))
        for bundle in (options.model, other):
            store.publish(bundle)
        store.promote(store.versions()[0])
        log = Path(folder, "log")
        settings = {"TAGMASK_MODEL": "", "TAGMASK_STORE": str(store.root), "TAGMASK_ADMIN_KEYS": ADMIN_KEY}
        with Server(["bentoml", "serve"], log, **settings) as server:
            judge, sampler = soak(server, store, options.requests, options.swap_seconds)
            stop_under_load(server, judge)
        text = log.read_text(encoding="utf-8", errors="replace")
    if "Traceback" in text:
        judge.fail("the service's log has a traceback: " + text[text.index("Traceback") :][:2000])
    if options.out:
        lines = ["answered,worker_bytes,all_bytes", *(",".join(map(str, each)) for each in sampler.samples)]
        options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    for fault in judge.faults[:_MOST_TOLD]:
        print(f"FAULT {fault}")
    print(f"{len(judge.faults)} faults")
    sys.exit(bool(judge.faults))


if __name__ == "__main__":
    main()
