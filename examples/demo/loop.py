"""The loop: a first model without one class, its service, and the new class learned while it serves."""

import csv
import shutil
from pathlib import Path

from PIL import Image

from examples.demo.running import run_flow
from examples.demo.service import LightLoad, RunningService
from flows.orchestration.server import prefect_server
from flows.retrain import retrain
from flows.settings import DataSettings, FlowSettings, WarmStartSettings
from flows.train import train
from flows.workspace import Workspace
from tagmask import files
from tagmask.bundle import read_metadata
from tagmask.errors import RunError
from tagmask.inputs import Location, absolute_location
from tagmask.objects import Objects
from tagmask.store import Store
from training.config import load_config
from training.datasets import load
from training.datasets.photos import Photo
from training.report.panels import draw_strip
from training.run.description import read_description
from training.run.layout import Layout
from training.stages.masks import PRESENT

NEW_CLASS = "fish"
"""The class that the first model is not trained on."""

SETTINGS = Path(__file__).parent / "drawing" / "settings.toml"

STRIPS = 12
"""Number of photos whose stages are drawn."""

_FIRST = "first.csv"


class Demo:
    """The demo's settings, and places below its folder.

    With `storage`, a URL such as s3://bucket/prefix, data, inbox and store are below it, and the data is a copy of what
    was `drawn`. `first_list` lists the photos that the first model is trained on. `model` is a copy of the champion,
    `start_over` says how to have the demo from its beginning.
    """

    def __init__(self, root: Path, settings: FlowSettings, storage: str | None = None) -> None:
        self.root, self.settings = root, settings
        self.start_over = f"remove {root}{f' and what is in {storage}' if storage else ''} to start over"
        self.drawn = root / "data"
        self.data = data_of(root, storage)
        self.first_list = _below(self.data, _FIRST)
        self.inbox = _below(storage or root, "inbox")
        self.workspace = Workspace(root / "workspace", _below(storage, "store") if storage else None)
        self.store = Store(self.workspace.store)
        self.model = root / "run" / "model.onnx"
        self.stages = root / "stages"
        self.pictures = root / "loop"

    def photos(self, split: str, *, new: bool) -> list[Photo]:
        """The photos of a split that show the new class, or those that do not."""
        return [photo for photo in load(self.data, split=split).photos if (NEW_CLASS in photo.tags) is new]

    def champion(self) -> tuple[str, tuple[str, ...]]:
        """The champion's version and classes. Raises RunError when there is none yet."""
        champion = self.store.champion()
        if champion is None:
            raise RunError(f"{self.store.root}: no model yet; train one by `python -m examples.demo train {self.root}`")
        return champion.version, read_metadata(self.store.path(champion.version)).classes[1:]


def data_of(root: Path, storage: str | None) -> Location:
    """Where the demo in the folder `root` has its data."""
    return _below(storage or root, "data")


def _below(place: Location, name: str) -> Location:
    return place / name if isinstance(place, Path) else f"{place.rstrip('/')}/{name}"


def demo_settings(data: Location) -> FlowSettings:
    """Settings for a fast first model, and two rounds for the second; models are compared on val, which has masks."""
    return FlowSettings(
        train=load_config(SETTINGS),
        warm_start=WarmStartSettings(rounds=2),
        data=DataSettings(masks=absolute_location(data), masks_split="val"),
    )


def train_first_model(demo: Demo) -> None:
    """Train a model without the new class, and draw the stages of its training.

    Raises RunError for a workspace with a training of another store, which may have learned the new class.
    """
    if demo.store.champion() is not None:
        _headline(f"There is a model already; {demo.start_over}")
    elif demo.workspace.last.exists():
        raise RunError(f"{demo.workspace.root}: has a training, but {demo.store.root} no champion; {demo.start_over}")
    else:
        photos = _list_first(demo.drawn)
        _copy_drawn(demo)
        _headline(f"A first model, trained on {photos} photos, none of which shows a {NEW_CLASS}")
        with prefect_server():
            run_flow(train, demo.workspace, [absolute_location(demo.first_list)], demo.settings)
    _copy_champion(demo)
    _draw_stages(demo)
    version, classes = demo.champion()
    print(f"version {version} segments {', '.join(classes)}; {demo.stages}/ shows the stages of its training")


def _list_first(drawn: Path) -> int:
    """List the photos of the first training, beside those that were drawn; returns their number."""
    with (drawn / "tags.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "train" and NEW_CLASS not in row["tags"].split()]
    lines = (f"{row['image']},{row['tags']}" for row in rows)
    files.write_text(drawn / _FIRST, "\n".join(["image,tags", *lines, ""]))
    return len(rows)


def _copy_drawn(demo: Demo) -> None:
    """Copy what was drawn to the storage, if there is one."""
    if isinstance(demo.data, Path):
        return
    objects, drawn = Objects(demo.data), [path for path in demo.drawn.rglob("*") if path.is_file()]
    for path in drawn:
        objects.write(path.relative_to(demo.drawn).as_posix(), path.read_bytes())
    print(f"{len(drawn):,} files copied to {demo.data}")


def learn_new_class(demo: Demo) -> LightLoad:
    """Serve the model, send photos of the new class, retrain, and compare the served masks before and after.

    Returns the load that ran in the meantime. Raises RunError when no model with the new class was promoted.
    """
    unseen = demo.photos("val", new=True)
    val_photos = [photo.path for photo in load(demo.data, split="val").photos]
    before, classes = demo.champion()
    _headline("The model is served, and receives requests all the time")
    with (
        RunningService(demo.workspace.store, demo.inbox, demo.pictures / "service.log") as service,
        LightLoad(service, val_photos) as load_in_background,
    ):
        print(f"{service.url} serves version {before}, which segments {', '.join(classes)}")
        if NEW_CLASS not in classes:
            _count_found(service, unseen, demo.pictures / "before.png")
            _send_and_retrain(demo, service)
        after, classes = demo.champion()
        _copy_champion(demo)
        _draw_stages(demo)
        load_in_background.wait_for(after)
        if after != before:
            _headline("The service has switched to the new model without a restart")
            print(f"{service.url} serves version {after}, which segments {', '.join(classes)}")
        _count_found(service, unseen, demo.pictures / "after.png")
    failures = load_in_background.failures
    print(f"{load_in_background.requests} other requests in the meantime, {len(failures)} failed")
    for failure in failures[:5]:
        print(f"  {failure}")
    if NEW_CLASS not in classes:
        raise RunError(f"the promotion gate kept version {before}; see {demo.store.root}/history.jsonl for the reason")
    return load_in_background


def _send_and_retrain(demo: Demo, service: RunningService) -> None:
    photos = demo.photos("train", new=True)
    for photo in photos:
        service.send(photo.path, photo.tags)
    print(f"{len(photos)} new photos of {NEW_CLASS} sent to {service.url}/v1/samples, stored in {demo.inbox}/")
    _headline("Retraining, while the service keeps running")
    with prefect_server():
        run_flow(retrain, demo.workspace, [absolute_location(demo.inbox)], demo.settings)


def _count_found(service: RunningService, photos: list[Photo], picture: Path) -> None:
    """Print in how many photos the service finds the new class without tags, and draw the first one."""
    count = sum(service.segment(photo.path).shares.get(NEW_CLASS, 0) >= PRESENT for photo in photos)
    with files.atomic_write(picture) as file:
        file.write(service.overlay(photos[0].path))
    print(f"{NEW_CLASS} found in {count} of {len(photos)} unseen photos that show one; see {picture}")


def _draw_stages(demo: Demo) -> None:
    """Draw the stages of the champion's training, one picture per photo, unless its run was removed."""
    version, _ = demo.champion()
    layout = next((run for run in map(Layout, demo.workspace.runs.glob("*")) if _is_of(run, version)), None)
    if layout is None:
        return
    description = read_description(layout)
    photo_list = demo.workspace.data / f"{description.data_digest[:16]}.jsonl"
    photos = load(photo_list, classes=description.classes).photos
    shutil.rmtree(demo.stages, ignore_errors=True)
    for number, photo in enumerate(photos[:: max(1, len(photos) // STRIPS)][:STRIPS]):
        picture = draw_strip(photo, layout, description.settings, description.classes)
        files.write_png(demo.stages / f"{number:02}.png", Image.fromarray(picture))


def _is_of(run: Layout, version: str) -> bool:
    return run.model.is_file() and read_metadata(run.model).version == version


def _copy_champion(demo: Demo) -> None:
    if demo.model.parent.is_symlink():  # an earlier version linked it to the store
        demo.model.parent.unlink()
    files.write_bytes(demo.model, demo.store.path(demo.champion()[0]).read_bytes())


def _headline(text: str) -> None:
    print(f"\n{text}\n{'-' * len(text)}", flush=True)
