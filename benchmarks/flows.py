"""What Prefect costs, and how shards scale: the same photos and settings by `tagmask train` and by the flow.

    python -m benchmarks.flows DATA --split train_small --classes cat,dog --out FOLDER

The stages of single photos have their default settings. The networks are tiny and are trained for one epoch, so that
they hide nothing: with real ones the flow's share is smaller. The commands run one after the other, with as many
threads for the networks as there are processes. The flow's time includes copying the photos and comparing its bundle on
held-out ones. FOLDER must be empty.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.command import Out, command_of
from benchmarks.cost import run_tagmask
from training.run.layout import Layout
from training.run.ledger import Ledger

SETTINGS: dict[str, Any] = {
    "backbone": "test_resnet",
    "weights": "random",
    "rounds": 1,
    "classifier": {"fit": {"epochs": 1, "batch": 16, "learning_rate": 2e-3}},
    "class_maps": {"scale": 0.5},
    "regiontagger": {"width": 16, "fit": {"epochs": 1, "least_steps": 1, "batch": 16}},
    "regionnet": {"width": 16, "fit": {"epochs": 1, "batch": 32, "learning_rate": 1e-3}},
    "pixelnet": {"width": 8, "fit": {"epochs": 1, "least_steps": 1, "batch": 16, "learning_rate": 1e-3}},
}

STAGES = ("superpixels", "saliency", "labels")
"""Stages whose scaling is shown; labels are DenseCRF's."""


def main(data: Path, out: Out, split: str | None = None, classes: str | None = None, workers: int = 2) -> None:
    """Print the table."""
    out.mkdir(parents=True, exist_ok=True)
    options = [f"--{name}={value}" for name, value in (("split", split), ("classes", classes)) if value]
    photos = [str(data), *options]
    many = f"flow, {workers} processes"
    runs = {
        "direct": (out / "direct", _direct(out / "direct", photos, workers)),
        many: (out / "many", _flow(out / "many", photos, workers)),
        "flow, 1 process": (out / "one", _flow(out / "one", photos, 1)),
    }
    table = Table("", "wall s", "CPU s", "wall / direct", "CPU / direct", *(f"{stage} s" for stage in STAGES))
    with tempfile.TemporaryDirectory() as home:
        costs = {name: run_tagmask(*command, PREFECT_HOME=home) for name, (_, command) in runs.items()}
    direct = costs["direct"]
    for name, cost in costs.items():
        seconds = _stage_seconds(runs[name][0])
        ratios = (f"{cost.wall / direct.wall:.3f}", f"{cost.cpu / direct.cpu:.3f}")
        stages = (f"{seconds[stage]:.0f}" for stage in STAGES)
        table.add_row(name, f"{cost.wall:.0f}", f"{cost.cpu:.0f}", *ratios, *stages)
    Console(width=120).print(table)


def _direct(run: Path, photos: list[str], workers: int) -> list[str]:
    config = run.with_suffix(".toml")
    config.write_text(toml(SETTINGS))
    return ["train", *photos, "--out", str(run), "--config", str(config), "--workers", str(workers)]


def _flow(workspace: Path, photos: list[str], workers: int) -> list[str]:
    config = workspace.with_suffix(".toml")
    config.write_text(toml({"train": SETTINGS, "tasks": {"workers": workers}, "data": {"held_out": 0.02}}))
    return ["flow", "train", *photos, "--workspace", str(workspace), "--config", str(config)]


def toml(values: dict[str, Any]) -> str:
    """Nested settings as lines of TOML with dotted names. Values must not be None, which TOML does not have."""
    lines = []
    for name, value in values.items():
        if isinstance(value, dict):
            lines += [f"{name}.{line}" for line in toml(value).splitlines()]
        else:
            lines.append(f"{name} = {json.dumps(value)}")
    return "\n".join(lines) + "\n"


def _stage_seconds(folder: Path) -> dict[str, float]:
    """Seconds of each stage, by the ledger of the run in `folder`, or of the only run of a workspace."""
    root = next((folder / "runs").iterdir()) if (folder / "runs").is_dir() else folder
    return {line["stage"]: line["seconds"] for line in Ledger(Layout(root).ledger) if "seconds" in line}


if __name__ == "__main__":
    command_of(main)()
