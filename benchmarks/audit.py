"""How well `tagmask data audit` finds wrong tags: some are planted, and the photos are listed with and without them.

    python -m benchmarks.audit DATA --split val --classes cat,cow,... [--seed 0 --seed 1 ...]
    python -m benchmarks.audit DATA --split train --without train_small --classes cat,cow,... --half

In 5% of the photos one tag among --classes is replaced by another of them that the photo does not have. Prints, as the
mean of the seeds, recall (share of these photos) and precision (their share of the photos listed) in the first photos
of the list, and in all that are suspected. For precision only the planted tags are wrong, although others are, too. The
network runs once for all seeds; with --half on every second photo only.
"""

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Column, Table

from benchmarks.command import Classes, Split, command_of
from tagmask.cli.terminal import Bars
from tagmask.segmenter import PRETRAINED, Segmenter
from training.datasets import load
from training.evaluation.audit import Sight, look_at, rank

RATE = 0.05
SHARES = (0.02, 0.05, 0.1, 0.2)


def main(
    data: Path,
    split: Split,
    classes: Classes = "cat,cow,dog,horse,person,sheep",
    model: Annotated[Path, typer.Option(show_default="the pretrained one")] = PRETRAINED,
    without: Annotated[str | None, typer.Option(help="Split whose photos are left out.")] = None,
    seed: Annotated[list[int], typer.Option(help="Random seed; repeatable.")] = [0, 1, 2],  # noqa: B006 - typer copies
    half: Annotated[bool, typer.Option("--half")] = False,
) -> None:
    """Print the table."""
    names = classes.split(",")
    photos = load(data, split=split, classes=names).photos
    if without:
        other = {photo.id for photo in load(data, split=without).photos}
        photos = tuple(photo for photo in photos if photo.id not in other)
    photos = photos[1::2] if half else photos
    segmenter, sights = Segmenter.load(model), []
    with Bars().stage("examining photos", len(photos)) as advance:
        for photo in photos:
            sights.append(look_at(photo, segmenter))
            advance(1)
    columns = [figures(*plant(sights, names, each), segmenter.classes, names) for each in seed]
    table = Table("listed", *(Column(name, justify="right") for name in ("photos", "recall", "precision")))
    table.title = f"{len(photos)} photos, {round(RATE * len(photos))} of them with a wrong tag"
    for row in zip(*(column.items() for column in columns), strict=True):
        listed, recall, precision = (fmean(each[1][index] for each in row) for index in range(3))
        table.add_row(row[0][0], f"{listed:.0f}", f"{recall:.3f}", f"{precision:.3f}")
    Console(width=100).print(table)


def plant(sights: Sequence[Sight], classes: Sequence[str], seed: int) -> tuple[list[Sight], set[str]]:
    """The same sights, RATE of them with a tag replaced by another of `classes`, and the ids of these."""
    chance = random.Random(seed)
    planted = {}
    for sight in chance.sample(sights, round(RATE * len(sights))):
        tags = sight.photo.tags
        wrong = chance.choice([name for name in classes if name not in tags])
        changed = {*tags} - {chance.choice(tags)} | {wrong}
        planted[sight.photo.id] = replace(sight, photo=replace(sight.photo, tags=tuple(sorted(changed))))
    return [planted.get(sight.photo.id, sight) for sight in sights], set(planted)


def figures(
    sights: Sequence[Sight], planted: set[str], labels: Sequence[str], classes: Sequence[str]
) -> dict[str, tuple[int, float, float]]:
    """Photos listed, recall and precision by the part of the list."""
    findings = rank(sights, labels, classes)
    ranked = list(dict.fromkeys(each.photo.id for each in findings))
    parts = {f"first {share:.0%}": round(share * len(ranked)) for share in SHARES}
    parts["all suspected"] = len({each.photo.id for each in findings if each.kind != "found"})
    rows = {}
    for name, most in parts.items():
        listed = ranked[:most]
        hits = len(planted.intersection(listed))
        rows[name] = len(listed), hits / len(planted), hits / max(1, len(listed))
    return rows


if __name__ == "__main__":
    command_of(main)()
