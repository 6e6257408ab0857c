"""What hints are worth: labels of the first round with true masks as hints, with spoiled ones, and without any.

    python -m benchmarks.hints DATA --split train_small --classes cat,cow,... --out OUT [--photos 100]

Of each kind of hints OUT has a run on the same photos, up to its labels; what comes before the rounds is computed once.
Prints how far the hints agree with the tags, the lowest and the greatest of the classes, and the mIoU of the evidence
and of the labels. A stopped benchmark resumes.
"""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.command import Classes, Out, Split, command_of, markdown
from benchmarks.networks import Mask, true_mask
from tagmask.corrections import Correction
from tagmask.masks import BACKGROUND, VOID
from tagmask.progress import Silent
from training.config import TrainConfig
from training.datasets import load
from training.datasets.parallel import processes
from training.datasets.photos import FOREGROUND, Photo, TaggedPhotos, spread
from training.run.executor import execute_stage
from training.run.layout import Layout
from training.run.ledger import Ledger
from training.run.local import LocalBackend, SharedLedger
from training.run.plan import run_stages
from training.stages.network import TrainingContext

Spoil = Callable[[Mask, tuple[int, ...], int], Mask]
"""A hint made of a true mask (H, W), the labels of the photo's tags, and the number of classes."""


def shifted(mask: Mask) -> Mask:
    """`mask` a fifth of the photo to the right."""
    moved = np.zeros_like(mask)
    moved[:, mask.shape[1] // 5 :] = mask[:, : -(mask.shape[1] // 5)]
    return moved


def exchanged(mask: Mask, tags: tuple[int, ...], classes: int) -> Mask:
    """`mask` with the classes of the photo exchanged, or with another class if it has one."""
    others = (*tags[1:], tags[0]) if len(tags) > 1 else (tags[0] % classes + 1,)
    labels = np.zeros(classes + 1, dtype=np.uint8)
    labels[list(tags)] = others
    return labels[mask]


KINDS: dict[str, Spoil] = {
    "true masks": lambda mask, tags, classes: mask,
    "shifted": lambda mask, tags, classes: shifted(mask),
    "of a wrong class": exchanged,
    "whole photos": lambda mask, tags, classes: np.full_like(mask, tags[0]),
    "true foreground": lambda mask, tags, classes: np.minimum(mask, 1),
}


def main(data: Path, split: Split, classes: Classes, out: Out, photos: int = 100) -> None:
    """Print the table."""
    learned = load(data, split=split, classes=classes.split(","))
    learned = replace(learned, photos=tuple(spread(learned.photos, photos)))
    rows = [("hints", "agreement", "evidence", "labels"), figures(learned, out / "none", "none")]
    for kind, spoil in KINDS.items():
        hinted = replace(learned, photos=tuple(with_hint(photo, learned, kind, spoil) for photo in learned.photos))
        run = out / kind.replace(" ", "-")
        if not run.is_dir():
            start(run, out / "none")
        rows.append(figures(hinted, run, kind))
    print(markdown(rows))


def with_hint(photo: Photo, data: TaggedPhotos, kind: str, spoil: Spoil) -> Photo:
    """The photo with its true mask, spoiled, as its hint; void pixels are background."""
    truth = true_mask(photo, data)
    mask = spoil(np.where(truth == VOID, 0, truth).astype(np.uint8), photo.labels(data.classes)[1:], len(data.classes))
    names = (FOREGROUND,) if "foreground" in kind else data.classes
    return replace(photo, hint=Correction.of(mask, (BACKGROUND, *names)))


def start(run: Path, plain: Path) -> None:
    """Begin a run with what the run `plain` computed before the rounds, which hints do not change."""
    shutil.copytree(plain, run, ignore=shutil.ignore_patterns("round-*", "ledger.jsonl"))
    ledger = Ledger(Layout(run).ledger)
    for line in Ledger(Layout(plain).ledger):
        if not line["round"]:
            ledger.add(0, **{name: value for name, value in line.items() if name != "round"})


def figures(data: TaggedPhotos, run: Path, kind: str) -> tuple[str, ...]:
    """A row of the table, by the stages up to the labels."""
    config, ledger = TrainConfig(rounds=1), SharedLedger(Layout(run).ledger)
    with processes(1) as pool:
        backend = LocalBackend(TrainingContext(data, run, "cpu"), ledger, pool, 1, Silent())
        for stage in run_stages(config):
            line = execute_stage(stage, ledger, backend)
            if stage.name == "labels":
                break
    evidence = ledger.find(1, "evidence")
    assert evidence is not None
    agreement = sorted(evidence["hint_agreement"].values())
    stated = " to ".join(dict.fromkeys(f"{each:.2f}" for each in agreement[:1] + agreement[-1:]))
    return kind, stated, f"{evidence['miou']:.1f}", f"{line['miou']:.1f}"


if __name__ == "__main__":
    command_of(main)()
