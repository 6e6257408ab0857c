"""What a service does with a folder of odd files, such as the test images of image libraries.

    python -m benchmarks.corpus FOLDER [--url http://HOST:PORT]

Sends every file in FOLDER to each operation that takes a photo: to the service at the URL, or to one that the benchmark
starts, whose memory and processes it watches. The exit status is 1 if an answer is 5xx, missing, or takes more than 10
seconds; if a process of the service has died; or if memory is 100 MB above the start when the service is idle again.
"""

import json
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, NamedTuple

import httpx
import psutil
import typer
from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table

from benchmarks.command import command_of
from benchmarks.load import Server, Watch, form, resident_bytes
from tagmask.segmenter import PRETRAINED

_CLIENTS = 2
_MAX_SECONDS = 10
_MAX_GROWTH = 100_000_000  # bytes of memory from start to end
_IDLE_SECONDS = 5  # after which the service is idle again


def infer(data: bytes) -> httpx.Request:
    """A request of KServe's protocol."""
    framed = len(data).to_bytes(4, "little") + data
    tensor = {"name": "image", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": len(framed)}}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    return httpx.Request("POST", "http://localhost/v2/models/tagmask/infer", content=head + framed, headers=headers)


OPERATIONS: dict[str, Callable[[bytes], httpx.Request]] = {
    "segment, png": lambda data: form("/v1/segment", data),
    "segment, json": lambda data: form("/v1/segment", data, {"format": "json"}),
    "batch": lambda data: form("/v1/segment/batch", data),
    "KServe": infer,
    "samples": lambda data: form("/v1/samples", data, {"tags": "dog"}),
}


class Answer(NamedTuple):
    """`outcome` is the status, or the name of the exception without an answer; the worst one of a batch."""

    operation: str
    path: Path
    outcome: int | str
    seconds: float

    @property
    def failed(self) -> bool:
        return isinstance(self.outcome, str) or self.outcome >= 500 or self.seconds > _MAX_SECONDS


@dataclass
class Memory:
    """Bytes of resident memory of the service."""

    start: int
    peak: int
    idle: int


def send(client: httpx.Client, path: Path) -> Iterator[Answer]:
    data = path.read_bytes()
    for operation, request_of in OPERATIONS.items():
        request = request_of(data)
        begun = time.perf_counter()
        outcome: int | str
        try:
            answer = client.post(request.url.path, content=request.read(), headers=request.headers.multi_items()[1:])
            outcome = answer.status_code
            if operation == "batch" and answer.is_success:
                outcome = max(each["status"] for each in answer.json()["answers"])
        except httpx.HTTPError as fault:
            outcome = type(fault).__name__
        yield Answer(operation, path, outcome, time.perf_counter() - begun)


def send_all(url: str, paths: list[Path]) -> list[Answer]:
    with httpx.Client(base_url=url, timeout=60, trust_env=False) as client, ThreadPoolExecutor(_CLIENTS) as threads:
        return [answer for answers in threads.map(lambda path: list(send(client, path)), paths) for answer in answers]


def tabulate(answers: list[Answer], folder: Path) -> Table:
    table = Table("operation", "files", "answers by status", "slowest answer, s", "its file", box=MARKDOWN)
    for operation in OPERATIONS:
        mine = [answer for answer in answers if answer.operation == operation]
        counts = sorted(Counter(answer.outcome for answer in mine).items(), key=str)
        statuses = ", ".join(f"{count} x {outcome}" for outcome, count in counts)
        slowest = max(mine, key=lambda answer: answer.seconds)
        name = str(slowest.path.relative_to(folder))
        table.add_row(operation, str(len(mine)), statuses, f"{slowest.seconds:.2f}", name)
    return table


def watch_service(work: Callable[[str], list[Answer]], folder: Path) -> tuple[list[Answer], Memory, list[int]]:
    """The answers of a service that is started for `work`, its memory, and the ids of its dead processes."""
    settings = {"TAGMASK_MODEL": str(PRETRAINED), "TAGMASK_INBOX": str(folder / "inbox")}
    with Server(["bentoml", "serve", "service.main:Tagmask"], folder / "log", **settings) as server:
        processes = server.tree
        start = resident_bytes(processes)
        with Watch(processes) as watch:
            answers = work(f"http://127.0.0.1:{server.port}")
        time.sleep(_IDLE_SECONDS)
        dead = [each.pid for each in processes if not each.is_running() or each.status() == psutil.STATUS_ZOMBIE]
        return answers, Memory(start, watch.peak, resident_bytes(server.tree)), dead


def main(
    folder: Annotated[Path, typer.Argument(help="Folder of files.", exists=True, file_okay=False)],
    url: Annotated[str | None, typer.Option(help="Address of a running service.", metavar="URL")] = None,
) -> None:
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    work = partial(send_all, paths=paths)
    console = Console(width=150)
    failed = False
    with ExitStack() as stack:
        if url:
            answers = work(url)
        else:
            place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            answers, memory, dead = watch_service(work, place)
            figures = f"{memory.start / 1e6:.0f}, {memory.peak / 1e6:.0f} and {memory.idle / 1e6:.0f} MB"
            console.print(f"memory at the start, at its peak and idle again: {figures}; dead processes: {len(dead)}")
            failed = bool(dead) or memory.idle > memory.start + _MAX_GROWTH
    console.print(tabulate(answers, folder))
    failures = [answer for answer in answers if answer.failed]
    for answer in failures:
        console.print(f"{answer.outcome} after {answer.seconds:.1f} s: {answer.operation} of {answer.path}")
    raise typer.Exit(failed or bool(failures))


if __name__ == "__main__":
    command_of(main)()
