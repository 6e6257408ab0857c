"""The method on kinds of photos other than animals: every stage, every round and the ceiling in one table.

    python -m benchmarks.suite PHOTOS --out OUT [--rows animals,tiles,…] [--photos 300] [--preset default] [--seed 0]
        [--empty 0] [--set NAME=VALUE …]

PHOTOS holds the data sets in the VOC layout; their masks are for measuring only. Each row trains with `tagmask train`
on an evenly spread part of its tagged photos, and of --empty photos that show nothing, then the ceiling of
`benchmarks.ceiling`, with --passes passes on true masks, and measures both on the row's validation photos. A row's
files are in OUT/<row>. A stopped benchmark resumes, and the table shows all rows of OUT that are finished.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks.ceiling import train_ceiling
from benchmarks.command import Out, command_of
from benchmarks.cost import run_tagmask
from benchmarks.networks import Run, measure_ceiling, miou
from tagmask import files
from training.config import Preset
from training.datasets import load
from training.datasets.photos import Photo, TaggedPhotos

ANIMALS = ("cat", "cow", "dog", "horse", "person", "sheep")
GARMENTS = ("skin", "hair", "shoes", "bag", "pants", "sunglasses", "dress", "purse", "coat", "blouse", "belt", "shirt")
STAGES = ("class_maps", "evidence", "regions", "refinement", "labels", "masks")


@dataclass(frozen=True)
class Row:
    """Photos of one kind: `parts` are the data sets and the split of each that is learned from."""

    parts: tuple[tuple[str, str], ...]
    classes: tuple[str, ...]


ROWS = {
    "animals": Row((("voc-animals", "train_small"),), ANIMALS),  # things that stand out
    "tiles": Row((("magnetic-tiles", "train"),), ("blowhole", "break", "crack", "fray", "uneven")),  # defects
    "plants": Row((("crop-weed", "train"),), ("crop", "weed")),  # thin, and both green
    "aerial": Row((("dubai-aerial", "train"),), ("building", "road", "vegetation", "water")),  # nothing stands out
    "clothes": Row((("clothing", "train"),), GARMENTS),  # many tags per photo
    "people": Row((("voc-animals", "train_small"), ("person-alone", "train")), ANIMALS),  # beside animals, and alone
}


def main(
    photos: Path,
    out: Out,
    rows: Annotated[str, typer.Option(help="Comma-separated rows.")] = ",".join(ROWS),
    count: Annotated[int, typer.Option("--photos", help="Training photos of a row.")] = 300,
    empty: Annotated[int, typer.Option(help="Training photos that show nothing, if the row has any.")] = 0,
    passes: Annotated[int, typer.Option(help="Passes of the ceiling.")] = 1,
    preset: Preset = "default",
    seed: int = 0,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="A setting of `tagmask train`; repeatable.", metavar="NAME=VALUE")
    ] = None,
) -> None:
    """Train and measure the rows, and print the table."""
    for name in rows.split(","):
        row, folder = ROWS[name], out / name
        if not (folder / "figures.json").is_file():
            parts = [
                select(photos / data, split, row.classes, count // len(row.parts), empty, folder / data)
                for data, split in row.parts
            ]
            settings = [f"--set={setting}" for setting in set_ or []]
            cpu = train(parts, row.classes, folder, f"--preset={preset}", f"--seed={seed}", *settings)
            learned = load(parts, split="train", classes=row.classes)
            val = load([photos / data for data, _ in row.parts], split="val", classes=row.classes)
            train_ceiling(folder / "run", learned, val, folder / "ceiling", passes)
            figures = {"photos": len(learned.photos), "cpu": cpu, **measure(folder, learned, val)}
            files.write_text(folder / "figures.json", json.dumps(figures, indent=2) + "\n")
    print(table({path.parent.name: json.loads(path.read_text()) for path in sorted(out.glob("*/figures.json"))}))


def select(source: Path, split: str, classes: tuple[str, ...], count: int, empty: int, out: Path) -> Path:
    """Make `out` a data set of `count` tagged photos of a split of `source`, and of `empty` that show nothing.

    Both are evenly spread. Its own split is "train".
    """
    data = load(source, split=split)
    nothing = [photo for photo in data.photos if not photo.tags]
    chosen = [*_spread(data.tagged(classes), count), *_spread(nothing, empty)]
    for name in ("JPEGImages", "SegmentationClass", "classes.txt"):
        link = out / name
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.is_symlink():
            link.symlink_to((source / name).absolute())
    for name in classes:
        lines = (f"{photo.id} {1 if name in photo.tags else -1}\n" for photo in chosen)
        files.write_text(out / "ImageSets" / "Main" / f"{name}_train.txt", "".join(lines))
    return out


def _spread(photos: list[Photo], count: int) -> list[Photo]:
    """At most `count` of `photos`, evenly spread."""
    return [photos[place] for place in np.linspace(0, len(photos) - 1, min(count, len(photos)), dtype=int)]


def train(parts: list[Path], classes: tuple[str, ...], folder: Path, *options: str) -> float:
    """Run `tagmask train`; returns its CPU seconds, without those of an attempt that was stopped."""
    cost = folder / "cost.json"
    if not cost.is_file():
        data = [*map(str, parts), "--split=train", f"--classes={','.join(classes)}"]
        cpu = run_tagmask("train", *data, f"--out={folder / 'run'}", "--resume", *options).cpu
        files.write_text(cost, json.dumps(cpu))
    return float(json.loads(cost.read_text()))


def measure(folder: Path, learned: TaggedPhotos, val: TaggedPhotos) -> dict[str, Any]:
    """mIoU of each stage on the training photos, by round; of the kept round and of the ceiling on `val`."""
    run = Run.read(folder / "run", learned)
    kept = max(number for number, kept in run.kept.items() if kept)
    served = run.measure(kept, val)
    best = max(measure_ceiling(folder / "ceiling", val), key=miou)
    stages = {
        stage: [line["miou"] for line in run.ledger if line["stage"] == stage and "miou" in line] for stage in STAGES
    }
    return {
        "stages": stages,
        "consistency": [line["consistency"] for line in run.ledger if line["stage"] == "decision"],
        "kept": kept,
        "val": [miou(served), served.with_tags.miou],
        "iou": dict(served.with_tags.iou),
        "ceiling": [miou(best), best.with_tags.miou],
    }


def table(figures: dict[str, dict[str, Any]]) -> str:
    """The rows in Markdown."""
    titles = (
        "",
        "photos",
        *(stage.replace("_", " ") for stage in STAGES),
        "val",
        "ceiling",
        "weak/full",
        "consistency",
        "CPU s",
    )
    lines = [titles, ("---",) * len(titles)]
    for name, row in figures.items():
        ratios = [weak / full for weak, full in zip(row["val"], row["ceiling"], strict=True)]
        lines.append(
            (
                name,
                str(row["photos"]),
                *(_numbers(row["stages"][stage], ", ") for stage in STAGES),
                _numbers(row["val"], " / "),
                _numbers(row["ceiling"], " / "),
                _numbers(ratios, " / ", 2),
                _numbers(row["consistency"], ", ", 3),
                f"{row['cpu']:.0f}",
            )
        )
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _numbers(values: list[float], separator: str, digits: int = 1) -> str:
    return separator.join(f"{value:.{digits}f}" for value in values)


if __name__ == "__main__":
    command_of(main)()
