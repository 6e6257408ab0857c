"""Thousands of requests of every kind to the service while its model is swapped, and a stop under load.

python -m benchmarks.soak MODEL [--requests 10000] [--swap-seconds 3] [--other MODEL]

Four clients send photos of many sizes and formats and request all mask formats; one request in twenty is faulty. The
model alternates with another one, which becomes champion in the store and by POST, twice each in turn. Exit code 1 if
there is any fault.
"""

import hashlib
import random
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
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
from benchmarks.judge import ADMIN_KEY, KEY, URL, Judge, cases
from benchmarks.load import Connection, Server, form, resident_bytes
from tagmask.bundle import read_metadata, write_bundle
from tagmask.store import Store

CLIENTS = 4
_WARM_UP = 0.2
"""Share of the requests before memory is judged."""
_BINS = 40
"""Means of memory that the line goes through; samples a second apart are not independent of each other."""
_SHOWN_FAULTS = 20


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


Sample = tuple[int, int, int]
"""Requests answered so far, and resident bytes of the worker and of all processes."""


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


def report_answers(judge: Judge, answered: int, seconds: float, swaps: int) -> None:
    """Print how many requests were answered, by status and by model."""
    statuses = ", ".join(f"{count} with {status}" for status, count in sorted(judge.statuses.items()))
    shares = ", ".join(f"{count} by {version}" for version, count in judge.versions.items())
    print(f"{answered} answers in {seconds:.0f} s ({answered / seconds:.1f}/s): {statuses}; {shares}; {swaps} swaps")
    print(f"{judge.twins()} requests had the same response from both models; all other responses differ")


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
    report_answers(judge, answered, time.monotonic() - begun, swaps)
    report_memory(samples, requests)
    return judge, samples


def _swap(server: Server, store: Store, version: str, *, by_store: bool, judge: Judge) -> None:
    if by_store:
        store.promote(version)
        return
    activate = httpx.Request("POST", f"{URL}/v1/models/{version}/activate", headers=KEY)
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
    sent = form("/v1/segment", target.getvalue(), {"format": "json"}, headers=KEY)
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
