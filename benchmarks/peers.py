"""The service against peers around the same networks: bare loops, stock BentoML, FastAPI and LitServe, in one run.

    python -m venv PEERS
    PEERS/bin/pip install -r benchmarks/contenders/requirements.txt -c constraints.txt
    tagmask quantize MODEL --calibration DATA --out INT8
    python -m benchmarks.peers MODEL INT8 PHOTOS --peers PEERS

MODEL is a float bundle, PHOTOS has at least 32 photos. Around a network all contenders return the same masks, which is
checked first. They take turns in short rounds, so that other work on the machine affects all of them; figures are
medians over the rounds, memory is the peak, in which shared pages count once per process. Peers have ONNX Runtime's own
threads or one thread; the service has its defaults.
"""

import json
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from io import BytesIO
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import numpy as np
import typer
from PIL import Image

from benchmarks.command import command_of
from benchmarks.contenders.bare import MODEL, THREADS, Bare
from benchmarks.load import Server
from benchmarks.turns import CORES, Contender, Loop, Results, Segment, Served, figures, measure, read_photos, show

OURS = "the service"
LOOP, LOOP_POOL = "bare loop", f"{CORES} bare loops side by side"
PEERS = {
    "stock BentoML": ["bentoml", "serve", "benchmarks.contenders.stock:Stock"],
    "FastAPI": ["uvicorn", "benchmarks.contenders.fast:app"],
    "LitServe": ["python", "-m", "benchmarks.contenders.lit"],
}
SUFFIXES = {"0": "", "1": ", one thread"}
"""By threads, of which 0 stands for ONNX Runtime's own."""
NETWORKS = ("float", "int8")
_COMPARED = 5
_AGREEMENT = 0.995
"""Share of a mask's pixels that must be equal to the bare loop's: float32 rounds in different orders at their edges."""


def bare(model: Path, threads: int) -> Segment:
    """The bare loop's function."""
    return Bare(model, threads).segment


class _Ring:
    """All contenders, which start one after the other and stay; `starts` has what a server took to its first mask."""

    def __init__(self, stack: ExitStack, photos: Sequence[bytes], clients: tuple[int, ...], peers: Path) -> None:
        self.contenders: dict[str, Contender] = {}
        self.starts: list[dict[str, Any]] = []
        self._logs = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        self._stack, self._photos, self._clients, self._peers = stack, photos, clients, peers

    def add(self, network: str, model: Path) -> None:
        """All contenders around `network`. Raises RuntimeError unless they return the same masks."""
        added: dict[str, Contender] = {}
        for name, threads, many in ((LOOP, 0, 1), (f"{LOOP}{SUFFIXES['1']}", 1, 1), (LOOP_POOL, 1, CORES)):
            added[name] = self._stack.enter_context(Loop(partial(bare, model, threads), self._photos, many))
        path = str(model.resolve())
        added[OURS] = self._serve(f"{OURS}, {network}", ["bentoml", "serve"], "/v1/segment", TAGMASK_MODEL=path)
        for name, command in PEERS.items():
            for number, suffix in SUFFIXES.items():
                label, settings = f"{name}{suffix}", {MODEL: path, THREADS: number}
                python = self._peers / "bin" / "python"
                added[label] = self._serve(f"{label}, {network}", command, "/segment", python, **settings)
        self._check_masks(added)
        self.contenders |= {f"{name}, {network}": each for name, each in added.items()}

    def _serve(
        self, name: str, command: Sequence[str], path: str, python: Path = Path(sys.executable), /, **settings: str
    ) -> Contender:
        begun = time.perf_counter()
        server = self._stack.enter_context(Server(command, self._logs / f"{name}.log", python, **settings))
        served = Served(server, path, self._photos, self._clients)
        served.answer(self._photos[0])
        cpu = sum(sum(process.cpu_times()[:4]) for process in server.tree)  # with those of children that have ended
        self.starts.append({"server": name, "start_s": time.perf_counter() - begun, "start_cpu_s": cpu})
        return served

    def _check_masks(self, contenders: dict[str, Contender]) -> None:
        for photo in self._photos[:_COMPARED]:
            masks = {name: np.asarray(Image.open(BytesIO(each.answer(photo)))) for name, each in contenders.items()}
            for name, mask in masks.items():
                if mask.shape != masks[LOOP].shape or np.mean(mask == masks[LOOP]) < _AGREEMENT:
                    raise RuntimeError(f"{name} returns another mask than the {LOOP}; nothing was measured")


def ratios(results: Results, clients: int) -> dict[str, tuple[float, float, float]]:
    """Photos per second of the service at `clients` over those of others, round by round: median, least and most."""
    values: dict[str, list[float]] = {}
    for network in NETWORKS:
        ours = results[f"{OURS}, {network}", clients]
        others = {f"{LOOP_POOL}, {each}": 0 for each in NETWORKS}
        others |= {f"{peer}{suffix}, {network}": clients for peer in PEERS for suffix in SUFFIXES.values()}
        for name, number in others.items():
            rounds = zip(ours, results[name, number], strict=True)
            values[f"{OURS}, {network}, at {clients} clients / {name}"] = [a.rate / b.rate for a, b in rounds]
    return {name: (median(each), min(each), max(each)) for name, each in values.items()}


def main(
    model: Path,
    int8: Path,
    photos: Path,
    peers: Annotated[Path, typer.Option(help="Environment with contenders/requirements.txt.")],
    seconds: Annotated[float, typer.Option(help="Length of a contender's turn.")] = 5,
    rounds: Annotated[int, typer.Option(help="Turns of each contender.")] = 7,
    clients: Annotated[str, typer.Option(help="Numbers of clients, separated by commas.")] = "1,8,32",
    out: Annotated[Path | None, typer.Option(help="JSON file to write all figures to.")] = None,
) -> None:
    numbers = tuple(map(int, clients.split(",")))
    with ExitStack() as stack:
        ring = _Ring(stack, read_photos(photos), numbers, peers)
        for network, path in zip(NETWORKS, (model, int8), strict=True):
            ring.add(network, path)
        results = measure(ring.contenders, seconds, rounds)
    rows = figures(results)
    compared = {name: each for number in numbers for name, each in ratios(results, number).items()}
    show(ring.starts)
    show(rows)
    for name, each in compared.items():
        print(f"photos/s, {name}: " + "{:.2f} ({:.2f} to {:.2f})".format(*each))
    if out:
        figures_of_all = {"starts": ring.starts, "rows": rows, "ratios": compared}
        out.write_text(json.dumps(figures_of_all, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    command_of(main)()
