"""python -m examples.demo train DIR: a first model from the photos in DIR/data that do not show the new class.

python -m examples.demo loop DIR: the same model served, and the new class learned while it serves.

What is done is not done again; remove DIR to start over.
"""

import argparse
import shutil
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from examples.demo.running import run_flow
from examples.demo.service import LightLoad, RunningService
from flows.orchestration.console import log_to_console
from flows.orchestration.server import prefect_server
from flows.retrain import retrain
from flows.settings import DataSettings, FlowSettings, WarmStartSettings
from flows.train import train
from flows.workspace import Workspace
from tagmask import files
from tagmask.bundle import read_metadata
from tagmask.errors import RunError, TagmaskError
from tagmask.store import Store
from training.config import load_config
from training.datasets import load
from training.datasets.photos import Photo
from training.evaluation.measure import PRESENT
from training.report.panels import strip
from training.run.description import read_description
from training.run.layout import Layout

NEW = "fish"
"""The class that the first model does not learn."""

SETTINGS = Path(__file__).parents[2] / "examples/demo/drawing/settings.toml"

LOOKED_AT = 12
"""Photos whose way through the stages is shown."""


@dataclass(frozen=True)
class Demo:
    """The demo's settings, and paths below its folder."""

    root: Path
    settings: FlowSettings

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def first(self) -> Path:
        """List of the photos that the first model learns from."""
        return self.root / "first.csv"

    @property
    def workspace(self) -> Workspace:
        return Workspace(self.root / "workspace")

    @property
    def store(self) -> Store:
        return Store(self.workspace.store)

    @property
    def inbox(self) -> Path:
        return self.root / "inbox"

    @property
    def run(self) -> Path:
        """Link to the champion's folder, which has model.onnx."""
        return self.root / "run"

    @property
    def stages(self) -> Path:
        return self.root / "stages"

    @property
    def pictures(self) -> Path:
        return self.root / "loop"

    def photos(self, split: str, *, new: bool) -> list[Photo]:
        """Those of a split that show the new class, or those that do not."""
        return [photo for photo in load(self.data, split=split).photos if (NEW in photo.tags) is new]

    def champion(self) -> tuple[str, tuple[str, ...]]:
        """Its version and what it paints. Raises RunError when there is none yet."""
        champion = self.store.champion()
        if champion is None:
            raise RunError(f"{self.store.root}: no model yet; `python -m examples.demo train {self.root}` trains one")
        return champion.version, read_metadata(self.store.path(champion.version)).classes[1:]


def demo_settings(data: Path) -> FlowSettings:
    """A quick first model, and more rounds for the second; compared on val, as its true masks are known here."""
    return FlowSettings(
        train=load_config(SETTINGS),
        warm=WarmStartSettings(rounds=2),
        data=DataSettings(masks=data.absolute(), masks_split="val"),
    )


def first_model(demo: Demo) -> None:
    """Train without the new class, and show how."""
    if demo.store.champion() is not None:
        _headline(f"The model that is there already; remove {demo.root} to start over")
    else:
        photos = demo.photos("train", new=False)
        _headline(f"A first model, from {len(photos)} photos of which none shows a {NEW}")
        lines = [f"{photo.path.relative_to(demo.data.parent)},{' '.join(photo.tags)}" for photo in photos]
        files.write_text(demo.first, "\n".join(["image,tags", *lines, ""]))
        with prefect_server():
            run_flow(train, demo.workspace, [demo.first.absolute()], demo.settings)
    _link(demo)
    _show_run(demo)
    version, classes = demo.champion()
    print(f"version {version} paints {', '.join(classes)}; {demo.stages}/ shows how it was learned")


def loop(demo: Demo) -> LightLoad:
    """Serve the model, send photos of the new class, retrain, and see what the service then paints.

    Returns what the service answered meanwhile. Raises RunError when no model that knows the class was promoted.
    """
    unseen = demo.photos("val", new=True)
    every = [photo.path for photo in load(demo.data, split="val").photos]
    before, classes = demo.champion()
    _headline("The model is served, and asked all the time")
    with (
        RunningService(demo.workspace.store, demo.inbox, demo.pictures / "service.log") as service,
        LightLoad(service, every) as meanwhile,
    ):
        print(f"{service.url} serves version {before}, which paints {', '.join(classes)}")
        if NEW not in classes:
            _see(demo, service, unseen, demo.pictures / "before.png")
            _learn(demo, service)
        after, classes = demo.champion()
        _link(demo)
        _show_run(demo)
        meanwhile.wait_for(after)
        if after != before:
            _headline("The service, never restarted, has another model")
            print(f"{service.url} serves version {after}, which paints {', '.join(classes)}")
        _see(demo, service, unseen, demo.pictures / "after.png")
    print(f"{meanwhile.requests} other requests meanwhile, {len(meanwhile.failures)} failed")
    for failure in meanwhile.failures[:5]:
        print(f"  {failure}")
    if NEW not in classes:
        raise RunError(f"the gate kept version {before}; {demo.store.root}/history.jsonl says why")
    return meanwhile


def _learn(demo: Demo, service: RunningService) -> None:
    photos = demo.photos("train", new=True)
    for photo in photos:
        service.send(photo.path, photo.tags)
    print(f"{len(photos)} new photos tagged {NEW} sent to {service.url}/v1/samples, which keeps them in {demo.inbox}/")
    _headline("Retraining, while the service goes on")
    with prefect_server():
        run_flow(retrain, demo.workspace, [demo.inbox.absolute()], demo.settings)


def _see(demo: Demo, service: RunningService, photos: list[Photo], picture: Path) -> None:
    """Count in how many photos the service sees the new class without being told, and draw the first one."""
    seen = sum(service.segment(photo.path).shares.get(NEW, 0) >= PRESENT for photo in photos)
    with files.atomic_write(picture) as file:
        file.write(service.overlay(photos[0].path))
    print(f"{NEW} painted in {seen} of {len(photos)} photos that show one and that no model has seen; {picture}")


def _show_run(demo: Demo) -> None:
    """Draw how the champion was learned, a picture a photo, unless its run is no longer kept."""
    version, _ = demo.champion()
    layout = next((run for run in map(Layout, demo.workspace.runs.iterdir()) if _made(run, version)), None)
    if layout is None:
        return
    asked = read_description(layout)
    photos = load(demo.workspace.data / f"{asked.data_digest[:16]}.jsonl", classes=asked.classes).photos
    shutil.rmtree(demo.stages, ignore_errors=True)
    for number, photo in enumerate(photos[:: max(1, len(photos) // LOOKED_AT)][:LOOKED_AT]):
        picture = strip(photo, layout, asked.settings, asked.classes)
        files.write_png(demo.stages / f"{number:02}.png", Image.fromarray(picture))


def _made(run: Layout, version: str) -> bool:
    return run.model.is_file() and read_metadata(run.model).version == version


def _link(demo: Demo) -> None:
    """Let DIR/run lead to the champion's folder in the store."""
    version, _ = demo.champion()
    if demo.run.is_dir() and not demo.run.is_symlink():
        shutil.rmtree(demo.run)
    part = demo.root / ".run.part"
    part.unlink(missing_ok=True)
    part.symlink_to(demo.store.path(version).parent.relative_to(demo.root))
    part.replace(demo.run)


def _headline(text: str) -> None:
    print(f"\n{text}\n{'-' * len(text)}", flush=True)


def main() -> int:
    """Run the part that is asked for."""
    parser = argparse.ArgumentParser(prog="python -m examples.demo", description=__doc__)
    parser.add_argument("part", choices=["train", "loop"])
    parser.add_argument("folder", type=Path, metavar="DIR")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the service is stopped however this ends
    log_to_console()
    try:
        demo = Demo(asked.folder, demo_settings(asked.folder / "data"))
        first_model(demo) if asked.part == "train" else loop(demo)
    except TagmaskError as fault:
        print(f"error: {fault}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
