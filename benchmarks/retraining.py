"""A class that arrives while its model is served: train without it, serve, send its photos, retrain, see it painted.

python -m benchmarks.retraining DATA --split train_small --val val --without sheep --batch NEW --out OUT
    [--classes cat,cow,dog,horse,person,sheep] [--config benchmarks/retraining-small.toml] [--limit N]

DATA has tags, splits and true masks; NEW has a folder a class, and is sent to POST /v1/samples of the running service,
photo after photo, under light load. OUT keeps copies of the photos; started again, it goes on where it stopped. Exit
code 1 unless no request failed and the service, never restarted, paints the class.
"""

import argparse
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from examples.demo.running import run_flow
from examples.demo.service import LightLoad, RunningService
from flows.collection.sources import Source
from flows.orchestration.console import log_to_console
from flows.orchestration.server import prefect_server
from flows.promotion.gate import decide
from flows.retrain import retrain
from flows.settings import FlowSettings, GateSettings, load_settings
from flows.train import train
from flows.workspace import Workspace
from tagmask import files
from tagmask.bundle import read_metadata
from tagmask.store import Store
from training.datasets import load
from training.datasets.photos import Photo
from training.evaluation.compare import Comparison, compare
from training.stages.masks import PRESENT

_PICTURES = 6
_LOAD = 40
"""Photos that the light load takes turns with."""


@dataclass(frozen=True)
class _Request:
    """What is measured, and where it is kept."""

    data: Path
    split: str
    val: str
    classes: tuple[str, ...]
    without: str
    batch: Path
    out: Path
    limit: int | None
    settings: FlowSettings
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def workspace(self) -> Workspace:
        return Workspace(self.out / "workspace")

    @property
    def store(self) -> Store:
        return Store(self.workspace.store)

    @property
    def first(self) -> Source:
        return Source(self.out.absolute() / "first.jsonl")

    @property
    def inbox(self) -> Source:
        return Source(self.out.absolute() / "inbox", classes=self.classes)

    @contextmanager
    def timed(self, part: str) -> Iterator[None]:
        begun = time.monotonic()
        yield
        self.seconds[part] = round(time.monotonic() - begun, 1)
        print(f"{part}: {self.seconds[part]} s", flush=True)


def write_first(asked: _Request) -> None:
    """List the photos without the class. They are read where they are, through a link, as lists name no path above."""
    tagged = load(asked.data, split=asked.split, classes=asked.classes).photos
    photos = _few([photo for photo in tagged if asked.without not in photo.tags], asked.limit)
    folder = Path(os.path.commonpath([photo.path.parent for photo in photos]))
    asked.out.mkdir(parents=True, exist_ok=True)
    link = asked.out / "photos"
    link.unlink(missing_ok=True)
    link.symlink_to(folder.absolute())
    rows = [{"image": f"photos/{photo.path.relative_to(folder)}", "tags": photo.tags} for photo in photos]
    files.write_text(asked.first.root, "".join(json.dumps(row) + "\n" for row in rows))


def _few(photos: Sequence[Photo], limit: int | None) -> list[Photo]:
    """Photos in order until each class has `limit`; None: all."""
    had: Counter[str] = Counter()
    chosen = []
    for photo in photos:
        if limit is None or any(had[tag] < limit for tag in photo.tags):
            had.update(photo.tags)
            chosen.append(photo)
    return chosen


def measure(asked: _Request) -> dict[str, Any]:
    """Do it all; what came of it, as JSON takes it."""
    held = load(asked.data, split=asked.val, classes=asked.classes)
    unseen = [photo.path for photo in held.photos if asked.without in photo.tags]
    if asked.store.champion() is None:
        write_first(asked)
        with asked.timed("training"):
            run_flow(train, asked.workspace, [asked.first], asked.settings)
    before = _champion(asked.store)
    if asked.without in _classes(asked.store, before):
        raise SystemExit(f"{asked.out}: version {before} knows {asked.without} already; measure in another folder")
    with (
        RunningService(asked.store.root, asked.inbox.root, asked.out / "service.log") as service,
        LightLoad(
            service, [photo.path for photo in held.photos[:: max(1, len(held.photos) // _LOAD)]], pause=0.5
        ) as light,
    ):
        seen = [_seen(asked, service, unseen, "before")]
        with asked.timed("sending"):
            sent = [photo for photo in load(asked.batch).photos if not set(photo.tags).isdisjoint(asked.classes)]
            batch = _few(sent, asked.limit)
            for photo in batch:
                service.send(photo.path, photo.tags)
        with asked.timed("retraining"):
            state = run_flow(retrain, asked.workspace, [asked.inbox], asked.settings)
        after = _champion(asked.store)
        with asked.timed("swapping"):
            light.wait_for(after)
        seen.append(_seen(asked, service, unseen, "after"))
    with asked.timed("measuring"):
        challenger = asked.store.versions()[-1]
        compared = compare(asked.store.path(challenger), asked.store.path(before), held)
    decided = [event for event in asked.store.history() if event.event == "decided" and event.version == challenger]
    return {
        "sent": len(batch),
        "versions": {"before": before, "challenger": challenger, "after": after},
        "requests": light.requests,
        "failures": light.failures,
        "answers": dict(light.responses),
        "changes": [[round(seconds, 1), version] for seconds, version in light.changes],
        f"photos painted {asked.without}": {"of": len(unseen), "before": seen[0], "after": seen[1]},
        "said": f"{state.name}: {state.message}",
        "gate": {"promoted": decided[-1].promoted, "reasons": decided[-1].reasons},
        "gate without masks": _without_masks(asked.settings.gate, compared),
        "figures": compared.model_dump(mode="json", exclude={"faults"}),
        "seconds": asked.seconds,
    }


def _without_masks(settings: GateSettings, compared: Comparison) -> dict[str, Any]:
    """What the gate would have said of the same photos, had nobody drawn a mask."""
    assert compared.champion is not None
    blind = compared.model_copy(
        update={
            "challenger": compared.challenger.model_copy(update={"iou": {}}),
            "champion": compared.champion.model_copy(update={"iou": {}}),
        }
    )
    decision = decide(settings, blind, "")
    return {"promoted": decision.promoted, "reasons": [rule.sentence for rule in decision.rules]}


def _seen(asked: _Request, service: RunningService, photos: Sequence[Path], when: str) -> int:
    """In how many photos the service sees the class untold; the first few are drawn."""
    for path in photos[:_PICTURES]:
        with files.atomic_write(asked.out / "pictures" / f"{path.stem}-{when}.png") as file:
            file.write(service.overlay(path))
    return sum(service.segment(path).shares.get(asked.without, 0) >= PRESENT for path in photos)


def _champion(store: Store) -> str:
    champion = store.champion()
    if champion is None:
        raise SystemExit(f"{store.root}: the first training has no champion")
    return champion.version


def _classes(store: Store, version: str) -> tuple[str, ...]:
    return read_metadata(store.path(version)).classes


def main() -> int:
    """Measure, and write OUT/figures.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--split", required=True)
    parser.add_argument("--val", required=True)
    parser.add_argument("--without", required=True, metavar="CLASS")
    parser.add_argument("--batch", type=Path, required=True, metavar="NEW")
    parser.add_argument("--classes", default="cat,cow,dog,horse,person,sheep")
    parser.add_argument("--config", type=Path)
    parser.add_argument("--limit", type=int, metavar="N", help="photos a class, of either; all unless given")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    settings = load_settings(given.config)
    masks = settings.data.model_copy(update={"masks": given.data.absolute(), "masks_split": given.val})
    log_to_console()
    with prefect_server():
        told = measure(
            _Request(given.data, given.split, given.val, tuple(given.classes.split(",")), given.without, given.batch,
                  given.out, given.limit, settings.model_copy(update={"data": masks}))
        )  # fmt: skip
    files.write_text(given.out / "figures.json", json.dumps(told, indent=2) + "\n")
    print(json.dumps(told, indent=2))
    return 0 if not told["failures"] and told[f"photos painted {given.without}"]["after"] else 1


if __name__ == "__main__":
    sys.exit(main())
