"""What corrected photos teach beyond tags: whole masks, strokes, and those of the photos that Tagmask suggests.

    python -m benchmarks.corrections PHOTOS --out OUT [--rows tiles,plants,animals] [--photos 100] [--preset fast]
        [--corrected 5,20,20-b,20-c,20-strokes,20-suggested,50] [--passes 1] [--seed 0]

PHOTOS and the rows are those of `benchmarks.suite`. Each row trains on tags alone, and then from the start with so many
of its photos corrected by their true masks: drawn at random (20, and two other draws as 20-b and 20-c), those of the
first draw by five strokes each (20-strokes), or those that `tagmask data suggest` names after training on tags alone
(20-suggested). No correction is held out. A row's files are in OUT/<row>. A stopped benchmark resumes, and the table
shows all that is finished.
"""

import json
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import typer

from benchmarks import suite
from benchmarks.ceiling import train_ceiling
from benchmarks.command import Out, command_of, markdown
from benchmarks.cost import TAGMASK
from benchmarks.networks import Mask, true_mask
from tagmask import files
from tagmask.corrections import Correction
from tagmask.masks import BACKGROUND, VOID
from training.choices import Preset
from training.datasets.photos import Photo, TaggedPhotos

STROKES = 5


def main(
    photos: Path,
    out: Out,
    rows: Annotated[str, typer.Option(help="Comma-separated rows that have masks.")] = "tiles,plants,animals",
    corrected: Annotated[
        str, typer.Option(help="Comma-separated numbers of corrected photos, and which.")
    ] = "5,20,20-b,20-c,20-strokes,20-suggested,50",
    count: Annotated[int, typer.Option("--photos", help="Training photos of a row.")] = 100,
    preset: Preset = "fast",
    passes: Annotated[int, typer.Option(help="Passes of the ceiling; 0 trains none.")] = 1,
    seed: int = 0,
) -> None:
    """Train and measure, and print the table."""
    for name in rows.split(","):
        parts, learned, val = suite.read_row(name, photos, count, 0, out / name)
        assert val is not None, f"{name} has no photos to measure on"
        tags_alone = out / name / "0"
        for variant in ("0", *corrected.split(",")):
            folder = out / name / variant
            if not (folder / "figures.json").is_file():
                options = [f"--preset={preset}", f"--seed={seed}"]
                if folder != tags_alone:
                    chosen = choose(variant, learned, tags_alone / "run")
                    write_corrections(folder / "corrections", chosen, learned, strokes="strokes" in variant)
                    options += [f"--corrections={folder / 'corrections'}", "--set=corrections.held_out=0"]
                suite.train(parts, learned.classes, folder, *options)
                if folder == tags_alone:
                    train_ceiling(folder / "run", learned, val, folder / "ceiling", passes)
                figures = suite.measure(folder, learned, val)
                files.write_text(folder / "figures.json", json.dumps(figures, indent=2) + "\n")
            print(table(out), flush=True)


def choose(variant: str, learned: TaggedPhotos, tags_alone: Path) -> list[Photo]:
    """The photos that a variant, such as "20-b", has corrected; `tags_alone` is the run on tags alone.

    The same photos begin each draw of another number: those of "5" are among those of "20".
    """
    number, _, choice = variant.partition("-")
    if choice == "suggested":
        command = [str(TAGMASK), "--quiet", "data", "suggest", str(tags_alone), f"--count={number}", "--json"]
        lines = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
        ids = {json.loads(line)["photo"] for line in lines}
        return [photo for photo in learned.photos if photo.id in ids]
    tagged = learned.tagged(learned.classes)
    order = np.random.default_rng({"b": 1, "c": 2}.get(choice, 0)).permutation(len(tagged))
    return [tagged[place] for place in order[: int(number)]]


def write_corrections(folder: Path, photos: Iterable[Photo], learned: TaggedPhotos, *, strokes: bool) -> None:
    """Make `folder` hold the true masks of photos as corrections, or some strokes of them."""
    random = np.random.default_rng(0)
    names = (BACKGROUND, *learned.classes)
    files.write_text(folder / "classes.txt", "".join(f"{name}\n" for name in names))
    for photo in photos:
        truth = true_mask(photo, learned)
        said = draw_strokes(truth, STROKES, random) if strokes else truth
        files.write_bytes(folder / f"{photo.id}.png", Correction.of(said, names).encode())


def draw_strokes(truth: Mask, count: int, random: np.random.Generator) -> Mask:
    """The labels of `truth` under so many strokes of a brush, and VOID elsewhere: (H, W) uint8.

    A stroke is a straight line from a pixel drawn at random, in any direction, for up to a third of the longer side. It
    is as wide as a fortieth of it, and stays within its label; labels take turns, background last.
    """
    said = np.full_like(truth, VOID)
    labels = [label for label in np.unique(truth) if label != VOID]
    longer = max(truth.shape)
    for number in range(count):
        label = labels[(number + 1) % len(labels)]
        y, x = random.choice(np.argwhere(truth == label))
        turn, length = random.uniform(0, 2 * np.pi), random.uniform(0.1, 1 / 3) * longer
        end = (round(x + length * np.cos(turn)), round(y + length * np.sin(turn)))
        stroke = cv2.line(np.zeros_like(truth), (int(x), int(y)), end, 1, max(2, longer // 40))
        said[(stroke == 1) & (truth == label)] = label
    return said


def table(out: Path) -> str:
    """What is finished in `out`, in Markdown."""
    finished = {tuple(path.parts[-3:-1]): json.loads(path.read_text()) for path in out.glob("*/*/figures.json")}
    rows = [["", "corrected", "labels", "`val`, without / with tags", "ceiling"]]
    for row, variant in sorted(finished, key=lambda name: (name[0], int(name[1].partition("-")[0]), name[1])):
        figures = finished[row, variant]
        kept = figures["rounds"][str(figures["kept"])]
        labels = figures["stages"]["labels"][-1:]
        rows.append([row, variant, *(suite.numbers(each, " / ") for each in (labels, kept, figures["ceiling"]))])
    return markdown(rows)


if __name__ == "__main__":
    command_of(main)()
