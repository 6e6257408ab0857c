"""A class that arrives while its model is served: train without it, serve, send its photos, retrain, segment it.

    python -m benchmarks.retraining DATA --split train_small --val val --without sheep --batch NEW --out OUT
        [--classes cat,cow,dog,horse,person,sheep] [--config benchmarks/retraining-small.toml] [--limit N]

DATA has tags, splits and true masks. NEW has a folder per class, and is sent photo by photo to POST /v1/samples of
the running service, under light load. OUT keeps copies of the photos; a stopped benchmark resumes. Writes
OUT/figures.json. Exit code 1 unless every request succeeded and the service, which is not restarted, finds the class.
"""

import json
import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.command import Classes, Out, Split, Val, command_of
from examples.demo.running import run_flow
from examples.demo.service import LightLoad, RunningService
from flows.collection.sources import Source
from flows.orchestration.console import log_to_console
from flows.orchestration.server import prefect_server
from flows.promotion.gate import decide
from flows.retrain import retrain
from flows.settings import GateSettings, load_settings
from flows.train import train
from flows.workspace import Workspace
from tagmask import files
from tagmask.bundle import read_metadata
from tagmask.store import Store
from training.datasets import load
from training.datasets.photos import Photo
from training.evaluation.compare import Comparison, compare
from training.stages.masks import PRESENT

_LOAD = 40
"""Photos that the light load sends in turn."""
_PICTURES = 6


def main(
    data: Path,
    split: Split,
    val: Val,
    without: Annotated[str, typer.Option(help="Class that arrives later.", metavar="CLASS")],
    batch: Annotated[Path, typer.Option(help="Photos that are sent to the service.", metavar="NEW")],
    out: Out,
    classes: Classes = "cat,cow,dog,horse,person,sheep",
    config: Path | None = None,
    limit: Annotated[int | None, typer.Option(help="Photos per class, of DATA and of NEW.", show_default="all")] = None,
) -> None:
    """Train, retrain and measure."""
    names, seconds = classes.split(","), dict[str, float]()
    held = load(data, split=val, classes=names)
    masks = {"masks": data.absolute(), "masks_split": val}
    settings = load_settings(config)
    settings = settings.model_copy(update={"data": settings.data.model_copy(update=masks)})
    workspace = Workspace(out / "workspace")
    store, inbox = Store(workspace.store), Source(out.absolute() / "inbox", classes=tuple(names))
    log_to_console()
    with prefect_server():
        if store.champion() is None:
            known = [photo for photo in load(data, split=split, classes=names).photos if without not in photo.tags]
            with timed("training", seconds):
                run_flow(train, workspace, [list_photos(_first_of(known, limit), out.absolute())], settings)
        before = _champion(store)
        if without in read_metadata(store.path(before)).classes:
            raise SystemExit(f"{out}: version {before} knows {without} already; measure in another folder")
        unseen = [photo.path for photo in held.photos if without in photo.tags]
        background = [photo.path for photo in held.photos[:: max(1, len(held.photos) // _LOAD)]]
        with (
            RunningService(store.root, inbox.root, out / "service.log") as service,
            LightLoad(service, background, pause=0.5) as light,
        ):
            found = {"before": _found(without, service, unseen, out / "pictures", "before")}
            new = [photo for photo in load(batch).photos if not set(photo.tags).isdisjoint(names)]
            new = _first_of(new, limit)
            with timed("sending", seconds):
                for photo in new:
                    service.send(photo.path, photo.tags)
            with timed("retraining", seconds):
                state = run_flow(retrain, workspace, [inbox], settings)
            after = _champion(store)
            with timed("swapping", seconds):
                light.wait_for(after)
            found["after"] = _found(without, service, unseen, out / "pictures", "after")
    challenger = store.versions()[-1]
    with timed("measuring", seconds):
        compared = compare(store.path(challenger), store.path(before), held)
    decided = [event for event in store.history() if event.event == "decided" and event.version == challenger]
    figures = {
        "sent": len(new),
        "versions": {"before": before, "challenger": challenger, "after": after},
        "requests": light.requests,
        "failures": light.failures,
        "answers": dict(light.responses),
        "changes": [[round(moment, 1), version] for moment, version in light.changes],
        f"photos painted {without}": {"of": len(unseen), **found},
        "said": f"{state.name}: {state.message}",
        "gate": {"promoted": decided[-1].promoted, "reasons": decided[-1].reasons},
        "gate without masks": _without_masks(settings.gate, compared),
        "figures": compared.model_dump(mode="json", exclude={"faults"}),
        "seconds": seconds,
    }
    text = json.dumps(figures, indent=2)
    files.write_text(out / "figures.json", text + "\n")
    print(text)
    raise typer.Exit(bool(light.failures) or not found["after"])


@contextmanager
def timed(part: str, seconds: dict[str, float]) -> Iterator[None]:
    """Enter the seconds that the context takes as `part`, and print them."""
    begun = time.monotonic()
    yield
    seconds[part] = round(time.monotonic() - begun, 1)
    print(f"{part}: {seconds[part]} s", flush=True)


def list_photos(photos: Sequence[Photo], out: Path) -> Source:
    """A list of `photos` in `out`. They are read through a link, as a list must not name paths above its folder."""
    folder = Path(os.path.commonpath([photo.path.parent for photo in photos]))
    out.mkdir(parents=True, exist_ok=True)
    link = out / "photos"
    link.unlink(missing_ok=True)
    link.symlink_to(folder.absolute())
    rows = [{"image": f"photos/{photo.path.relative_to(folder)}", "tags": photo.tags} for photo in photos]
    files.write_text(out / "first.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    return Source(out / "first.jsonl")


def _first_of(photos: Sequence[Photo], limit: int | None) -> list[Photo]:
    """Photos in order until each class has `limit`; None: all."""
    counts: Counter[str] = Counter()
    chosen = []
    for photo in photos:
        if limit is None or any(counts[tag] < limit for tag in photo.tags):
            counts.update(photo.tags)
            chosen.append(photo)
    return chosen


def _without_masks(settings: GateSettings, compared: Comparison) -> dict[str, Any]:
    """The gate's decision on the same photos if there were no true masks."""
    assert compared.champion is not None
    sides = {name: getattr(compared, name).model_copy(update={"iou": {}}) for name in ("challenger", "champion")}
    decision = decide(settings, compared.model_copy(update=sides), "")
    return {"promoted": decision.promoted, "reasons": [rule.sentence for rule in decision.rules]}


def _found(name: str, service: RunningService, photos: Sequence[Path], pictures: Path, when: str) -> int:
    """In how many photos the service finds the class without tags; draws the first few in `pictures`."""
    for path in photos[:_PICTURES]:
        with files.atomic_write(pictures / f"{path.stem}-{when}.png") as file:
            file.write(service.overlay(path))
    return sum(service.segment(path).shares.get(name, 0) >= PRESENT for path in photos)


def _champion(store: Store) -> str:
    champion = store.champion()
    if champion is None:
        raise SystemExit(f"{store.root}: no model was promoted")
    return champion.version


if __name__ == "__main__":
    command_of(main)()
