"""The settings of the service: workers, threads and photos at a time, and the session alone.

    python -m benchmarks.serving MODEL PHOTOS

PHOTOS has at least 32 photos. The services take turns in short rounds, so that other work on the machine affects all of
them; figures are medians over the rounds, memory is the peak, in which shared pages count once per process.
"""

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from benchmarks import sessions
from benchmarks.command import command_of
from benchmarks.load import Server
from benchmarks.turns import CORES, Contender, Served, figures, measure, read_photos, show

CLIENTS = (1, 8)


def _combinations() -> list[tuple[int, int, int]]:
    """Workers, threads and photos at a time."""
    n = CORES
    return sorted({(1, 1, 1), (1, 1, n), (1, 1, 2 * n), (1, n, 1), (1, n, n), (n, 1, 1), (n, 1, n)})


def main(
    model: Path,
    photos: Path,
    seconds: Annotated[float, typer.Option(help="Length of a service's turn.")] = 5,
    rounds: Annotated[int, typer.Option(help="Turns of each service.")] = 7,
) -> None:
    read = read_photos(photos)
    with ExitStack() as stack:
        logs = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        contenders: dict[str, Contender] = {}
        for workers, threads, concurrent in _combinations():
            settings = {
                "TAGMASK_MODEL": str(model.resolve()),
                "TAGMASK_WORKERS": str(workers),
                "TAGMASK_THREADS": str(threads),
                "TAGMASK_MAX_CONCURRENT": str(concurrent),
            }
            name = f"{workers} workers, {threads} threads, {concurrent} photos at a time"
            server = stack.enter_context(Server(["bentoml", "serve"], logs / f"{name}.log", **settings))
            contenders[name] = Served(server, "/v1/segment", read, CLIENTS)
        show(figures(measure(contenders, seconds, rounds)))
    show(sessions.batches(model, rounds))
    show(sessions.memory(model, rounds))


if __name__ == "__main__":
    command_of(main)()
