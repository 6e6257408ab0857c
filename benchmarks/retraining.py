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


def write_first(request: _Request) -> None:
    """List the photos without the class. They are read where they are, through a link, as lists name no path above."""
    tagged = load(request.data, split=request.split, classes=request.classes).photos
    photos = _few([photo for photo in tagged if request.without not in photo.tags], request.limit)
    folder = Path(os.path.commonpath([photo.path.parent for photo in photos]))
    request.out.mkdir(parents=True, exist_ok=True)
    link = request.out / "photos"
    link.unlink(missing_ok=True)
    link.symlink_to(folder.absolute())
    rows = [{"image": f"photos/{photo.path.relative_to(folder)}", "tags": photo.tags} for photo in photos]
    files.write_text(request.first.root, "".join(json.dumps(row) + "\n" for row in rows))


def _few(photos: Sequence[Photo], limit: int | None) -> list[Photo]:
    """Photos in order until each class has `limit`; None: all."""
    had: Counter[str] = Counter()
    chosen = []
    for photo in photos:
        if limit is None or any(had[tag] < limit for tag in photo.tags):
            had.update(photo.tags)
            chosen.append(photo)
    return chosen


def measure(request: _Request) -> dict[str, Any]:
    """Do it all; what came of it, as JSON takes it."""
    held = load(request.data, split=request.val, classes=request.classes)
    unseen = [photo.path for photo in held.photos if request.without in photo.tags]
    if request.store.champion() is None:
        write_first(request)
        with request.timed("training"):
            run_flow(train, request.workspace, [request.first], request.settings)
    before = _champion(request.store)
    if request.without in _classes(request.store, before):
        raise SystemExit(f"{request.out}: version {before} knows {request.without} already; measure in another folder")
    with (
        RunningService(request.store.root, request.inbox.root, request.out / "service.log") as service,
        LightLoad(
            service, [photo.path for photo in held.photos[:: max(1, len(held.photos) // _LOAD)]], pause=0.5
        ) as light,
    ):
        seen = [_seen(request, service, unseen, "before")]
        with request.timed("sending"):
            sent = [photo for photo in load(request.batch).photos if not set(photo.tags).isdisjoint(request.classes)]
            batch = _few(sent, request.limit)
            for photo in batch:
                service.send(photo.path, photo.tags)
        with request.timed("retraining"):
            state = run_flow(retrain, request.workspace, [request.inbox], request.settings)
        after = _champion(request.store)
        with request.timed("swapping"):
            light.wait_for(after)
        seen.append(_seen(request, service, unseen, "after"))
    with request.timed("measuring"):
        challenger = request.store.versions()[-1]
        compared = compare(request.store.path(challenger), request.store.path(before), held)
    decided = [event for event in request.store.history() if event.event == "decided" and event.version == challenger]
    return {
        "sent": len(batch),
        "versions": {"before": before, "challenger": challenger, "after": after},
        "requests": light.requests,
        "failures": light.failures,
        "answers": dict(light.responses),
        "changes": [[round(seconds, 1), version] for seconds, version in light.changes],
        f"photos painted {request.without}": {"of": len(unseen), "before": seen[0], "after": seen[1]},
        "said": f"{state.name}: {state.message}",
        "gate": {"promoted": decided[-1].promoted, "reasons": decided[-1].reasons},
        "gate without masks": _without_masks(request.settings.gate, compared),
        "figures": compared.model_dump(mode="json", exclude={"faults"}),
        "seconds": request.seconds,
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


def _seen(request: _Request, service: RunningService, photos: Sequence[Path], when: str) -> int:
    """In how many photos the service sees the class untold; the first few are drawn."""
    for path in photos[:_PICTURES]:
        with files.atomic_write(request.out / "pictures" / f"{path.stem}-{when}.png") as file:
            file.write(service.overlay(path))
    return sum(service.segment(path).shares.get(request.without, 0) >= PRESENT for path in photos)


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
    options = parser.parse_args()
    settings = load_settings(options.config)
    masks = settings.data.model_copy(update={"masks": options.data.absolute(), "masks_split": options.val})
    log_to_console()
    with prefect_server():
        figures = measure(
            _Request(options.data, options.split, options.val, tuple(options.classes.split(",")), options.without,
                     options.batch, options.out, options.limit, settings.model_copy(update={"data": masks}))
        )  # fmt: skip
    files.write_text(options.out / "figures.json", json.dumps(figures, indent=2) + "\n")
    print(json.dumps(figures, indent=2))
    return 0 if not figures["failures"] and figures[f"photos painted {options.without}"]["after"] else 1


if __name__ == "__main__":
    sys.exit(main())
