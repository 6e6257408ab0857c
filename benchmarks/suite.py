"""The method on kinds of photos other than animals: every stage, every round and the ceiling in one table.

    python -m benchmarks.suite PHOTOS --out OUT [--rows animals,tiles,…] [--photos 300] [--preset default] [--seed 0]
        [--empty 0] [--set NAME=VALUE …]

PHOTOS holds the data sets in the VOC layout; their masks are for measuring only. Each row trains with `tagmask train`
on an evenly spread part of its tagged photos, and of --empty photos that show nothing, then the ceiling of
`benchmarks.ceiling`, with --passes passes on true masks, and measures both on the row's validation photos. Three rows
are made here: `drawn` is the demo's data set, `land` that of `aerial`, with its background as a class, and `closeups`
are single animals that photos were cut to. Rows whose photos have no masks, or only half of them, have no ceiling. A
row's files are in OUT/<row>. A stopped benchmark resumes, and the table shows all rows of OUT that are finished.
"""

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from PIL import Image

from benchmarks.ceiling import train_ceiling
from benchmarks.command import Out, command_of, markdown
from benchmarks.cost import run_tagmask
from benchmarks.networks import Run, measure_ceiling, miou
from examples.demo.drawing import DEMO_CLASSES, make_demo_photos
from tagmask import files
from tagmask.masks import read_mask, write_mask
from tagmask.photos import read_photo
from training.choices import Preset
from training.datasets import load
from training.datasets.photos import TaggedPhotos, spread

ANIMALS = ("cat", "cow", "dog", "horse", "person", "sheep")
BEASTS = ("cat", "cow", "dog", "horse", "sheep")
INDOORS = ("cat", "chair", "dog", "person", "sofa")
GARMENTS = ("skin", "hair", "shoes", "bag", "pants", "sunglasses", "dress", "purse", "coat", "blouse", "belt", "shirt")
STAGES = ("class_maps", "evidence", "regions", "refinement", "labels", "masks")
DRAWN, LAND, CLOSEUPS = "drawn", "land", "closeups"
LEAST_LAND = 0.03
"""Share of a tile that the background covers at least, where it is a tag."""
LEAST_THING = 0.5
"""Share of a close-up that the animal covers at least."""
MARGIN = 0.04
"""Beside the animal, by its height and width."""


@dataclass(frozen=True)
class Part:
    """A data set: its split `train` (None: the whole) is learned from, its split "val", if it has one, measured on."""

    name: str
    train: str | None = "train"
    val: bool = True


@dataclass(frozen=True)
class Row:
    """Photos of one kind."""

    parts: tuple[Part, ...]
    classes: tuple[str, ...]


ROWS = {
    "animals": Row((Part("voc-animals", "train_small"),), ANIMALS),  # things that stand out
    "tiles": Row((Part("magnetic-tiles"),), ("blowhole", "break", "crack", "fray", "uneven")),  # defects
    "plants": Row((Part("crop-weed"),), ("crop", "weed")),  # thin, and both green
    "aerial": Row((Part("dubai-aerial"),), ("building", "road", "vegetation", "water")),  # nothing stands out
    LAND: Row((Part(LAND),), ("building", "road", "vegetation", "water", LAND)),  # the same, without background
    CLOSEUPS: Row((Part(CLOSEUPS),), BEASTS),  # things that fill most of the photo
    "clothes": Row((Part("clothing"),), GARMENTS),  # many tags per photo
    "people": Row((Part("voc-animals", "train_small"), Part("person-alone")), ANIMALS),  # beside animals, and alone
    "indoors": Row((Part("voc-animals"), Part("new-batch", None, val=False)), INDOORS),  # half of them without masks
    "web": Row((Part("new-batch", None, val=False),), BEASTS),  # without masks
    DRAWN: Row((Part(DRAWN),), DEMO_CLASSES),  # by the demo
}
MASKED = tuple(name for name, row in ROWS.items() if all(part.val for part in row.parts))
"""The rows whose photos all have masks."""


def main(
    photos: Path,
    out: Out,
    rows: Annotated[str, typer.Option(help="Comma-separated rows.")] = ",".join(ROWS),
    count: Annotated[int, typer.Option("--photos", help="Training photos of a row.")] = 300,
    empty: Annotated[int, typer.Option(help="Training photos that show nothing, if the row has any.")] = 0,
    passes: Annotated[int, typer.Option(help="Passes of the ceiling; 0 trains none.")] = 1,
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
            parts, learned, val = read_row(name, photos, count, empty, folder)
            settings = [f"--set={setting}" for setting in set_ or []]
            cpu = train(parts, row.classes, folder, f"--preset={preset}", f"--seed={seed}", *settings)
            if val and name in MASKED:
                train_ceiling(folder / "run", learned, val, folder / "ceiling", passes)
            figures = {"photos": len(learned.photos), "cpu": cpu, **measure(folder, learned, val)}
            files.write_text(folder / "figures.json", json.dumps(figures, indent=2) + "\n")
    print(table({path.parent.name: json.loads(path.read_text()) for path in sorted(out.glob("*/figures.json"))}))


def read_row(
    name: str, photos: Path, count: int, empty: int, folder: Path
) -> tuple[list[Path], TaggedPhotos, TaggedPhotos | None]:
    """The data sets of a row, made in `folder`, their photos to learn from, and those to measure on, if it has any."""
    row = ROWS[name]
    source = photos
    if name == DRAWN:
        source = draw(folder / "source", count)
    elif name == LAND:
        source = make_land(photos / "dubai-aerial", folder / "source")
    elif name == CLOSEUPS:
        source = make_closeups(photos / "voc-animals", folder / "source")
    parts = [
        select(source / part.name, part.train, row.classes, count // len(row.parts), empty, folder / part.name)
        for part in row.parts
    ]
    roots = [source / part.name for part in row.parts if part.val]
    val = load(roots, split="val", classes=row.classes) if roots else None
    return parts, load(parts, split="train", classes=row.classes), val


def draw(root: Path, count: int) -> Path:
    """Make `root` hold the demo's data set, with `count` photos to learn from, and a third of that to measure on."""
    make_demo_photos(root / DRAWN, photos=-(-count * 4 // 3))
    return root


def make_land(tiles: Path, root: Path) -> Path:
    """Make `root` hold the data set `tiles` with its background as a class of its own."""
    out = root / LAND
    for split in ("train", "val"):
        data, tags = load(tiles, split=split), {}
        for photo in data.photos:
            assert photo.mask is not None
            mask = read_mask(photo.mask)
            ground = mask == 0
            tags[photo.id] = {*photo.tags, LAND} if ground.mean() >= LEAST_LAND else set(photo.tags)
            _link(out / "JPEGImages" / photo.path.name, photo.path)
            write_mask(out / "SegmentationClass" / f"{photo.id}.png", np.where(ground, len(data.mask_classes), mask))
        _write_tags(out, split, (*data.classes, LAND), tags)
        files.write_text(out / "classes.txt", "".join(f"{name}\n" for name in (*data.mask_classes, LAND)))
    return root


def make_closeups(animals: Path, root: Path) -> Path:
    """Make `root` hold those photos of the data set `animals` that show one animal, cut to what it covers."""
    out = root / CLOSEUPS
    for split, name in (("train_small", "train"), ("val", "val")):
        data, tags = load(animals, split=split), {}
        for photo in data.photos:
            if len(photo.tags) != 1 or photo.tags[0] not in BEASTS or photo.mask is None:
                continue
            mask = read_mask(photo.mask)
            own = mask == data.mask_classes.index(photo.tags[0])
            box = _extent(own.any(axis=1)), _extent(own.any(axis=0))
            if own[box].size and own[box].mean() >= LEAST_THING:
                tags[photo.id] = photo.tags
                files.write_png(out / "JPEGImages" / f"{photo.id}.png", Image.fromarray(read_photo(photo.path)[box]))
                write_mask(out / "SegmentationClass" / f"{photo.id}.png", mask[box])
        _write_tags(out, name, BEASTS, tags)
        files.write_text(out / "classes.txt", "".join(f"{each}\n" for each in data.mask_classes))
    return root


def _extent(line: NDArray[np.bool_]) -> slice:
    """From the first to the last place that is true, and MARGIN of this length more."""
    places = np.flatnonzero(line)
    if not len(places):
        return slice(0, 0)
    more = int(MARGIN * (places[-1] + 1 - places[0]))
    return slice(max(0, int(places[0]) - more), int(places[-1]) + 1 + more)


def select(source: Path, split: str | None, classes: tuple[str, ...], count: int, empty: int, out: Path) -> Path:
    """Make `out` a data set of `count` tagged photos of a split of `source`, and of `empty` that show nothing.

    Both are evenly spread. Its own split is "train".
    """
    data = load(source, split=split)
    nothing = [photo for photo in data.photos if not photo.tags]
    chosen = {
        photo.id.replace("/", "-"): photo for photo in [*spread(data.tagged(classes), count), *spread(nothing, empty)]
    }
    for name, photo in chosen.items():
        _link(out / "JPEGImages" / f"{name}{photo.path.suffix}", photo.path)
        if photo.mask is not None:
            _link(out / "SegmentationClass" / f"{name}.png", photo.mask)
    if data.mask_classes:
        files.write_text(out / "classes.txt", "".join(f"{name}\n" for name in data.mask_classes))
    _write_tags(out, "train", classes, {name: photo.tags for name, photo in chosen.items()})
    return out


def _write_tags(out: Path, split: str, classes: Iterable[str], tags: Mapping[str, Collection[str]]) -> None:
    """Write which photos of a split of the data set `out` have each class; `tags` has theirs by name."""
    for tag in classes:
        lines = (f"{name} {1 if tag in each else -1}\n" for name, each in tags.items())
        files.write_text(out / "ImageSets" / "Main" / f"{tag}_{split}.txt", "".join(lines))


def _link(link: Path, target: Path) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    if not link.is_symlink():
        link.symlink_to(target.absolute())


def train(parts: list[Path], classes: tuple[str, ...], folder: Path, *options: str) -> float:
    """Run `tagmask train`; returns its CPU seconds, without those of an attempt that was stopped."""
    cost = folder / "cost.json"
    if not cost.is_file():
        data = [*map(str, parts), "--split=train", f"--classes={','.join(classes)}"]
        cpu = run_tagmask("train", *data, f"--out={folder / 'run'}", "--resume", *options).cpu
        files.write_text(cost, json.dumps(cpu))
    return float(json.loads(cost.read_text()))


def measure(folder: Path, learned: TaggedPhotos, val: TaggedPhotos | None) -> dict[str, Any]:
    """mIoU of each stage on the training photos that have masks, by round; of each round and of the ceiling on `val`.

    `kept` is the round that is exported; with its tags, `iou` is the IoU of each class.
    """
    run = Run.read(folder / "run", learned)
    decisions = [line for line in run.ledger if line["stage"] == "decision"]
    kept = max(number for number, kept in run.kept.items() if kept)
    rounds = {number: run.measure(number, val) for number in run.kept} if val else {}
    ceiling = max(measure_ceiling(folder / "ceiling", val), key=miou, default=None) if val else None
    return {
        "stages": {
            stage: [line["miou"] for line in run.ledger if line["stage"] == stage and "miou" in line]
            for stage in STAGES
        },
        "consistency": [line["consistency"] for line in decisions],
        "estimate": [line["estimate"]["miou"] for line in decisions],
        "kept": kept,
        "rounds": {number: [miou(each), each.with_tags.miou] for number, each in rounds.items()},
        "iou": dict(rounds[kept].with_tags.iou) if rounds else {},
        "ceiling": [miou(ceiling), ceiling.with_tags.miou] if ceiling else [],
    }


def table(figures: dict[str, dict[str, Any]]) -> str:
    """The rows in Markdown; a row without masks has empty cells."""
    stages = [stage.replace("_", " ") for stage in STAGES]
    rows = [["", "photos", *stages, "kept", "val", "ceiling", "weak/full", "estimate", "consistency", "CPU s"]]
    for name, row in figures.items():
        rounds, kept = row["rounds"].values(), row["rounds"].get(str(row["kept"]), [])
        ratios = [weak / full for weak, full in zip(kept, row["ceiling"], strict=False)]
        rows.append(
            [
                name,
                str(row["photos"]),
                *(numbers(row["stages"][stage], ", ") for stage in STAGES),
                str(row["kept"]),
                ", ".join(numbers(each, " / ") for each in rounds),
                numbers(row["ceiling"], " / "),
                numbers(ratios, " / ", 2),
                numbers(row["estimate"], ", "),
                numbers(row["consistency"], ", ", 3),
                f"{row['cpu']:.0f}",
            ]
        )
    return markdown(rows)


def numbers(values: list[float], separator: str, digits: int = 1) -> str:
    """The values in one cell of a table."""
    return separator.join(f"{value:.{digits}f}" for value in values)


if __name__ == "__main__":
    command_of(main)()
