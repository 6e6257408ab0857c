"""What Prefect costs, and how shards scale: the same photos and settings by `tagmask train` and by the flow.

python -m benchmarks.flows DATA --split train_small --classes cat,dog --out FOLDER

The stages of single photos have their default settings. The networks are tiny and learn for one epoch, so that they
hide nothing: with real ones the flow's share is smaller. Each runs as a command of its own, one after the other, with
the networks' threads limited to as many as there are processes. A flow takes copies of the photos and compares its
bundle on held-out ones too; both are counted.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from training.run.layout import Layout
from training.run.ledger import Ledger

SETTINGS: dict[str, Any] = {
    "backbone": "test_resnet",
    "weights": "random",
    "rounds": 1,
    "classifier": {"fit": {"epochs": 1, "batch": 16, "learning_rate": 2e-3}},
    "class_maps": {"scale": 0.5},
    "regionnet": {"width": 16, "fit": {"epochs": 1, "batch": 32, "learning_rate": 1e-3}},
    "pixelnet": {"width": 8, "fit": {"epochs": 1, "least_steps": 1, "batch": 16, "learning_rate": 1e-3}},
}

STAGES = ("superpixels", "saliency", "labels")
"""Stages whose scaling is shown; labels are DenseCRF's."""


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--split")
    parser.add_argument("--classes")
    parser.add_argument("--out", type=Path, required=True, help="an empty folder")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    chosen = [str(options.data), *(["--split", options.split] if options.split else [])]
    chosen += ["--classes", options.classes] if options.classes else []
    many = str(options.workers)
    runs = {
        "direct": (options.out / "direct", _direct(options.out, chosen, many)),
        f"flow, {many} processes": (options.out / "many", _flow(options.out / "many", chosen, options.workers)),
        "flow, 1 process": (options.out / "one", _flow(options.out / "one", chosen, 1)),
    }
    table = Table("", "wall s", "CPU s", "wall / direct", "CPU / direct", *(f"{stage} s" for stage in STAGES))
    first: tuple[float, float] | None = None
    with tempfile.TemporaryDirectory() as home:
        for name, (folder, command) in runs.items():
            wall, cpu = _timed(command, Path(home))
            first = first or (wall, cpu)
            seconds = _stage_seconds(folder)
            ratios = (f"{wall / first[0]:.3f}", f"{cpu / first[1]:.3f}")
            table.add_row(name, f"{wall:.0f}", f"{cpu:.0f}", *ratios, *(f"{seconds[stage]:.0f}" for stage in STAGES))
            print(
                name, round(wall), round(cpu), {stage: round(value, 1) for stage, value in seconds.items()}, flush=True
            )
    Console(width=120).print(table)


def _direct(out: Path, chosen: list[str], workers: str) -> list[str]:
    config = out / "train.toml"
    config.write_text(toml(SETTINGS))
    return ["train", *chosen, "--out", str(out / "direct"), "--config", str(config), "--workers", workers]


def _flow(workspace: Path, chosen: list[str], workers: int) -> list[str]:
    config = workspace.with_suffix(".toml")
    settings = {"train": SETTINGS, "tasks": {"workers": workers}, "data": {"held_out": 0.02}}
    config.write_text(toml(settings))
    return ["flow", "train", *chosen, "--workspace", str(workspace), "--config", str(config)]


def toml(values: dict[str, Any]) -> str:
    """Nested settings as lines of TOML with dotted names; None is not known to TOML."""
    lines = []
    for name, value in values.items():
        if isinstance(value, dict):
            lines += [f"{name}.{line}" for line in toml(value).splitlines()]
        else:
            lines.append(f"{name} = {json.dumps(value)}")
    return "\n".join(lines) + "\n"


def _timed(arguments: list[str], home: Path) -> tuple[float, float]:
    """Wall and CPU seconds of a command with all its processes."""
    environment = {**os.environ, "PREFECT_HOME": str(home)}
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    code = "from tagmask.cli.main import main; main()"
    command = [sys.executable, "-c", code, *arguments]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if ended.returncode:
        sys.exit(f"{' '.join(arguments)}: failed\n{ended.stderr[-1000:]}")
    wall, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _stage_seconds(folder: Path) -> dict[str, float]:
    """Seconds of each stage, by the ledger of the run in `folder`, or of the only run of a workspace."""
    root = next((folder / "runs").iterdir()) if (folder / "runs").is_dir() else folder
    return {line["stage"]: line["seconds"] for line in Ledger(Layout(root).ledger) if "seconds" in line}


if __name__ == "__main__":
    main()
