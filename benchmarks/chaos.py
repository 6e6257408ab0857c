"""`tagmask flow train`, killed at random points and started again until it ends.

    python -m benchmarks.chaos [--kills 20] [--photos 40] [--seed 0]

There are three kinds of kill, all by SIGKILL: the flow's process at a random time; the flow's process just before or
after any of its processes renames its n-th file; and the process that renames it, a worker or the one that trains.
After each kill no process of the flow may keep running, and no finished file may be written again when it resumes. Each
flow that ends must leave no half-written file, and a bundle with the weights digest of a flow that was never killed;
then a new one begins, until all kills are done. Exit code 1 if there is any fault.
"""

import os
import random
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import typer
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType
from prefect.client.schemas.objects import StateType
from prefect.settings import PREFECT_HOME, temporary_settings

from benchmarks.command import command_of
from benchmarks.cost import TAGMASK
from benchmarks.flows import SETTINGS, toml
from examples.demo.drawing import make_demo_photos
from flows.orchestration.server import prefect_server
from tagmask.bundle import read_metadata
from tagmask.store import Store

_SETTINGS = {
    "train": SETTINGS
    | {
        "rounds": 2,
        "long_side": 64,
        "superpixels": {"min_size": 20},
        "decision": {"consistency_loss": 1.0, "agreement": 0.0, "coverage_change": 100},
    },
    "tasks": {"workers": 2, "shard_size": 8},
    "data": {"min_photos": 4},
}

INSIDE = """
import os, signal, time

_root, _count, _at, _whom, _when = os.environ["CHAOS"].split("|")
_flow = int(os.environ.setdefault("CHAOS_FLOW", str(os.getpid())))
_replace = os.replace


def _kill():
    os.kill(_flow if _whom == "flow" else os.getpid(), signal.SIGKILL)
    time.sleep(60)


def _counted(source, target, **more):
    mine = False
    if os.path.abspath(target).startswith(_root):
        with open(_count, "ab") as file:
            file.write(b".")
            file.flush()
            mine = file.tell() == int(_at)
    if mine and _when == "before":
        _kill()
    _replace(source, target, **more)
    if mine:
        _kill()


os.replace = _counted
"""
"""sitecustomize.py of the flow's process and of all that it starts."""

PATIENCE_S = 15.0
"""Seconds after a kill in which everything has to end; torch's loaders check every 5 s whether their parent lives."""

ENDS_S = 600.0
"""Seconds that a flow may take."""


@dataclass(frozen=True)
class Kill:
    """How a flow is killed: `at` seconds after its start (`kind` "time"), or at its n-th rename ("write")."""

    kind: str
    at: float
    whom: str = "flow"
    when: str = "before"

    def __str__(self) -> str:
        if self.kind == "time":
            return f"flow at {self.at:.0f} s"
        return f"{'flow' if self.whom == 'flow' else 'writer'} {self.when} rename {self.at:.0f}"


@dataclass(frozen=True)
class Attempt:
    """The end of one start: exit code, seconds, last stage, and for how many seconds some process outlived it."""

    code: int
    seconds: float
    stage: str
    outlived: float
    survivors: tuple[str, ...]
    output: str


class Chaos:
    """Flows on `photos` with `settings`, TOML, that keep everything below the folder `root`."""

    def __init__(self, root: Path, photos: Path, settings: str) -> None:
        self.root, self.photos = root, photos
        self.settings = root / "settings.toml"
        self.settings.write_text(settings)
        (root / "inside").mkdir()
        (root / "inside" / "sitecustomize.py").write_text(INSIDE)

    def start(self, workspace: Path, kill: Kill | None = None) -> Attempt:
        """Run the flow in `workspace` until it ends or is killed."""
        options: list[str | Path] = [self.photos, "--workspace", workspace, "--config", self.settings]
        output = self.root / "output"
        with output.open("wb") as file:
            begun = time.monotonic()
            process = subprocess.Popen(
                [TAGMASK, "flow", "train", *options],
                stdout=file,
                stderr=subprocess.STDOUT,
                env=self._environment(workspace, kill),
            )
            family = set(_watched(process, begun + (kill.at if kill and kill.kind == "time" else ENDS_S)))
            if process.poll() is None:
                process.kill()
            process.wait()
        ended = time.monotonic()
        _, alive = psutil.wait_procs(family, timeout=PATIENCE_S)
        log = output.read_text(errors="replace")
        stages = re.findall(r"\d\d:\d\d:\d\d  ([^\n]*?), (?:[\d,]+ of )?[\d,]+ photos?\b", log)
        return Attempt(
            code=process.returncode,
            seconds=ended - begun,
            stage=stages[-1] if stages else "starting",
            outlived=time.monotonic() - ended,
            survivors=tuple(map(str, alive)),
            output=log,
        )

    def _environment(self, workspace: Path, kill: Kill | None) -> dict[str, str]:
        packages = [str(Path(__file__).parents[1])]
        environment = dict(os.environ)
        if kill and kill.kind == "write":
            count = self.root / "count"
            count.unlink(missing_ok=True)
            packages.insert(0, str(self.root / "inside"))
            environment["CHAOS"] = f"{workspace}|{count}|{kill.at:.0f}|{kill.whom}|{kill.when}"
        return {**environment, "PYTHONPATH": os.pathsep.join(packages)}


def _watched(process: subprocess.Popen[bytes], until: float) -> Iterator[psutil.Process]:
    """All that `process` starts while it runs, until the time `until` of the monotonic clock."""
    flow = psutil.Process(process.pid)
    while process.poll() is None and time.monotonic() < until:
        try:
            yield from flow.children(recursive=True)
        except psutil.NoSuchProcess:
            return
        time.sleep(0.1)


def finished(workspace: Path) -> dict[str, int]:
    """Inode by path of every file that finished stages wrote, and of the photos taken in."""
    files = [path for path in workspace.glob("data/photos/*/*") if not path.name.startswith(".")]
    files += [path for path in workspace.glob("stages/**/*") if path.suffix in {".npy", ".png", ".pt"} and _done(path)]
    return {str(path.relative_to(workspace)): path.stat().st_ino for path in files}


def _done(path: Path) -> bool:
    """Whether the photo of `path` is; a network's stage writes several files per photo, the maps last."""
    for folder in path.parents:
        if folder.name in {"features", "seen"}:
            return (folder.parent / "maps" / path.relative_to(folder)).is_file()
    return True


def half_written(workspace: Path) -> list[str]:
    return sorted(str(path.relative_to(workspace)) for path in workspace.rglob("*.part"))


def digest(workspace: Path) -> str:
    """Weights digest of the champion."""
    store = Store(workspace / "store")
    champion = store.champion()
    return read_metadata(store.path(champion.version)).weights_digest if champion else "none"


def _drawn(rng: random.Random, duration: float, writes: int) -> Kill:
    if rng.random() < 0.4:
        return Kill("time", rng.uniform(0, duration))
    whom = rng.choice(("flow", "flow", "writer"))
    return Kill("write", rng.randint(1, writes), whom, rng.choice(("before", "after")))


def chaos(root: Path, kills: int, photos: int, seed: int) -> list[str]:
    """Kill flows `kills` times and print a line for each; returns the faults."""
    make_demo_photos(root / "photos", photos=photos)
    test, rng, faults = Chaos(root, root / "photos", toml(_SETTINGS)), random.Random(seed), list[str]()
    first = test.start(root / "undisturbed", Kill("write", 1e9))  # which only counts the renames
    if first.code:
        return [f"the undisturbed flow failed: {first.output[-2000:]}"]
    expected, writes = digest(root / "undisturbed"), (root / "count").stat().st_size
    print(f"undisturbed: {first.seconds:.0f} s, {writes} files, weights digest {expected[:12]}", flush=True)
    print("| kill | stage | flow | ran, s | outlived it, s | files kept | then |\n" + "| --- " * 7 + "|", flush=True)
    done = number = 0
    before: dict[str, int] = {}
    while done < kills or before:
        kill = _drawn(rng, first.seconds, writes) if done < kills else None
        workspace = root / f"flow-{number}"
        attempt = test.start(workspace, kill)
        ended = attempt.code == 0
        done += not ended
        now = finished(workspace)
        touched = [path for path, inode in before.items() if now.get(path) != inode]
        print(
            f"| {'-' if ended else done} | {attempt.stage} | {number}: {kill or 'not killed'} | "
            f"{attempt.seconds:.0f} | {attempt.outlived:.1f} | {len(before) - len(touched)} of {len(before)} | "
            f"{_outcome(attempt, kill, workspace)} |",
            flush=True,
        )
        found = _faults(attempt, kill, touched)
        if ended:
            if digest(workspace) != expected:
                found.append(f"weights digest {digest(workspace)}, expected {expected}")
            found += [f"half-written {path}" for path in half_written(workspace)]
        faults += [f"flow {number}: {fault}" for fault in found]
        number, before = (number + 1, {}) if ended else (number, now)
    running = FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.RUNNING]))
    with get_client(sync_client=True) as client:
        if runs := client.read_flow_runs(flow_run_filter=FlowRunFilter(state=running)):
            faults.append(f"{len(runs)} runs still count as running")
    return faults


def _outcome(attempt: Attempt, kill: Kill | None, workspace: Path) -> str:
    if attempt.code == 0:
        return f"ended, digest {digest(workspace)[:12]}"
    if kill and kill.whom != "flow":
        return next((line for line in attempt.output.splitlines() if line.startswith("error: ")), "no error")[:60]
    return "killed"


def _faults(attempt: Attempt, kill: Kill | None, touched: list[str]) -> list[str]:
    """What is wrong after any attempt; `touched` are finished files that it wrote again."""
    faults = []
    if kill and kill.whom != "flow" and attempt.code not in (0, 2):
        faults.append(f"exit code {attempt.code}: {attempt.output[-2000:]}")
    if touched:
        faults.append(f"{len(touched)} finished files were written again, first {touched[0]}")
    if attempt.survivors:
        faults.append(f"still running after {PATIENCE_S:.0f} s: {attempt.survivors}")
    return faults


def main(kills: int = 20, photos: int = 40, seed: int = 0) -> None:
    """Kill flows, and print the faults."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "prefect"
        os.environ["PREFECT_HOME"] = str(home)
        with temporary_settings({PREFECT_HOME: home}), prefect_server():
            faults = chaos(Path(folder), kills, photos, seed)
    for fault in faults:
        print(fault)
    print(f"{len(faults)} faults")
    raise typer.Exit(bool(faults))


if __name__ == "__main__":
    command_of(main)()
