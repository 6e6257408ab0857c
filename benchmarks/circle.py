"""The whole circle with a Label Studio: train on tags, correct masks in it, retrain, and get better masks in it.

    python -m benchmarks.circle --label-studio PATH --out OUT
        [--data VOC --split train_small --val val --classes cat,dog] [--config FILE.toml] [--count 20] [--pictures DIR]

PATH is the executable of an installed Label Studio, which is started with an empty data folder; OUT is a new folder.
Photos are drawn by default. Those of the split are trained on by their tags, those of --val are held out. All are
uploaded to a project whose model is a service with keys. The photos that `tagmask data suggest` names are annotated
with their true masks, which the webhook takes to the inbox, and `tagmask flow retrain` learns from them.

Prints the mIoU of the masks in Label Studio before and after, without tags. Exit code 1 if any mask in Label Studio is
not that of the service, if a correction does not arrive as it was drawn, or if the masks do not get better.
"""

import hashlib
import json
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.command import Out, Split, Val, command_of
from benchmarks.cost import TAGMASK
from benchmarks.label_studio import LabelStudio, Results
from benchmarks.load import Server
from benchmarks.retraining import list_photos
from examples.demo.drawing import make_demo_photos
from flows.workspace import Workspace
from tagmask import Client
from tagmask.formats.label_studio import DEFAULT, brush_mask, brush_pixels
from tagmask.formats.regions import regions
from tagmask.inputs import Location
from tagmask.masks import BACKGROUND, MAX_CLASSES, VOID, read_mask
from tagmask.segmentation import Pixels
from tagmask.store import Store
from training.datasets import load
from training.datasets.label_studio import labeling_interface
from training.datasets.photos import TaggedPhotos
from training.evaluation.measure import truth_table
from training.evaluation.metrics import Confusion

_SETTINGS = Path(__file__).with_suffix(".toml")
_DRAWN = 80
_SWAP_S = 60


@dataclass(frozen=True, eq=False)
class TruePhoto:
    """A photo with its true mask, (H, W) uint8: labels of the classes, or VOID."""

    path: Path
    truth: Pixels


Masks = Mapping[TruePhoto, Pixels]


class Project:
    """A project of Label Studio with a service as its model."""

    def __init__(
        self, studio: LabelStudio, client: Client, photos: Iterable[TruePhoto], classes: tuple[str, ...]
    ) -> None:
        """Create a project with `photos`, and a brush for each of `classes` but the first, background."""
        self._studio, self._client, self._classes = studio, client, classes
        self._id = studio.create_project("Circle", labeling_interface(classes))
        self._tasks = {photo: studio.upload(self._id, photo.path) for photo in photos}

    def connect(self, url: str, key: str) -> None:
        """Make the service at `url` the model of the project."""
        self._studio.connect(self._id, url, key)

    def masks(self, version: str) -> Masks:
        """The masks of a version of the model, without tags. Exits unless they are those that the service returns."""
        predictions: dict[int, Results] = {}
        while len(predictions) < len(self._tasks):  # a request that takes the service too long is answered in part
            before = len(predictions)
            self._studio.retrieve_predictions(self._id)
            predictions = self._studio.predictions(self._id, version)
            if len(predictions) == before:
                raise SystemExit(f"{len(self._tasks) - before} tasks have no prediction of {version}; see the logs")
        masks = {photo: self._painted(photo, predictions[task]) for photo, task in self._tasks.items()}
        for photo, mask in masks.items():
            served = self._client.segment(photo.path)
            labels = np.array([self._classes.index(name) for name in served.classes], dtype=np.uint8)
            if served.version != version or not np.array_equal(mask, labels[served.mask]):
                raise SystemExit(f"{photo.path}: the mask in Label Studio is not that of the service")
        return masks

    def _painted(self, photo: TruePhoto, results: Results) -> Pixels:
        mask = np.zeros_like(photo.truth)
        for result in results:
            (label,) = result["value"]["brushlabels"]
            mask[brush_pixels(result["value"]["rle"], photo.truth.shape) == 1] = self._classes.index(label)
        return mask

    def draw(self, photo: TruePhoto, pictures: Mapping[str, Path]) -> None:
        """Pictures of a photo in Label Studio with the mask of each version of the model."""
        self._studio.draw(self._id, self._tasks[photo], pictures)

    def correct(self, photo: TruePhoto) -> None:
        """Submit the true mask of a photo, as if a person had painted it."""
        shown = [label for label in np.unique(photo.truth).tolist() if label not in (0, VOID)]
        painted = [brush_mask(each, DEFAULT, each.name) for each in regions(photo.truth, self._classes, shown)]
        self._studio.annotate(
            self._tasks[photo], [{**each, "id": token_hex(5), "origin": "manual"} for each in painted]
        )


@dataclass(frozen=True)
class Flows:
    """The commands of the flows for one workspace."""

    workspace: Workspace
    config: Path

    def run(self, flow: str, *sources: Location) -> str:
        """Run a flow; returns the version of the champion."""
        workspace = ("--workspace", str(self.workspace.root), "--config", str(self.config))
        print(output_of("flow", flow, *map(str, sources), *workspace), end="")
        champion = Store(self.workspace.store).champion()
        if champion is None:
            raise SystemExit("no model was promoted")
        return champion.version

    def suggested(self, photos: Iterable[TruePhoto], count: int) -> list[TruePhoto]:
        """The photos to correct first, by the only training so far."""
        (run,) = self.workspace.runs.iterdir()
        lines = output_of("data", "suggest", str(run), "--count", str(count), "--json").splitlines()
        samples = {sample_of(photo.path): photo for photo in photos}
        return [samples[sample_of(Path(json.loads(line)["path"]))] for line in lines]


def main(
    label_studio: Annotated[Path, typer.Option(help="Executable of Label Studio.", metavar="PATH", exists=True)],
    out: Out,
    data: Annotated[Path | None, typer.Option(help="Data with true masks.", show_default="drawn photos")] = None,
    split: Split = "train",
    val: Val = "val",
    classes: Annotated[str | None, typer.Option(metavar="A,B,…", show_default="all tags")] = None,
    count: Annotated[int, typer.Option(help="Photos to correct.", min=1)] = 20,
    config: Annotated[
        Path,
        typer.Option(help="Settings of the flows.", metavar="FILE.toml", show_default="benchmarks/circle.toml"),
    ] = _SETTINGS,
    pictures: Annotated[Path | None, typer.Option(help="Folder for pictures of Label Studio.", metavar="DIR")] = None,
) -> None:
    """Go around once, and print the figures."""
    out = out.absolute()
    if out.exists():
        raise SystemExit(f"{out} exists; name a new folder")
    if data is None:
        make_demo_photos(data := out / "data", photos=_DRAWN)
    learned = load(data, split=split, classes=classes.split(",") if classes else None)
    photos, held_out = true_photos(learned), true_photos(load(data, split=val, classes=learned.classes))
    flows, source, inbox = Flows(Workspace(out / "workspace"), config), list_photos(learned.photos, out), out / "inbox"
    first, key = flows.run("train", source.root), token_hex(20)
    with (
        LabelStudio(label_studio.absolute(), out / "label-studio") as studio,
        Server(
            ["tagmask", "serve", str(flows.workspace.store)], out / "service.log", TAGMASK_API_KEYS=key,
            TAGMASK_INBOX=str(inbox), TAGMASK_LABEL_STUDIO_FILES=str(studio.media),
        ) as service,
        Client(url := f"http://127.0.0.1:{service.port}", key) as client,
    ):  # fmt: skip
        project = Project(studio, client, (*photos, *held_out), (BACKGROUND, *learned.classes))
        project.connect(url, key)
        before = project.masks(first)
        corrected = flows.suggested(photos, count)
        for photo in corrected:
            project.correct(photo)
        check_inbox(inbox, corrected, learned.classes)
        second = flows.run("retrain", source.root, inbox)
        if second == first:
            raise SystemExit("the promotion gate kept the first model; see `tagmask models history`")
        wait_for(client, second)
        after = project.masks(second)
        others = [photo for photo in photos if photo not in corrected]
        if pictures:
            pictures.mkdir(parents=True, exist_ok=True)
            names = {first: pictures / "circle-before.jpg", second: pictures / "circle-after.jpg"}
            project.draw(most_corrected(others, before, after), names)
    report({"not corrected": others, "held out": held_out}, before, after)


def sample_of(photo: Path) -> str:
    """The id of a photo as a sample of an inbox."""
    return hashlib.sha256(photo.read_bytes()).hexdigest()


def true_photos(data: TaggedPhotos) -> list[TruePhoto]:
    """The photos that have a true mask."""
    values = truth_table(data.mask_classes, data.classes)
    return [TruePhoto(photo.path, values[read_mask(photo.mask)]) for photo in data.photos if photo.mask is not None]


def output_of(*arguments: str) -> str:
    """What a `tagmask` command prints to standard output. Exits if it fails."""
    print("$ tagmask", *arguments, flush=True)
    done = subprocess.run([TAGMASK, "--quiet", *arguments], stdout=subprocess.PIPE, encoding="utf-8")
    if done.returncode:
        raise SystemExit(f"exit code {done.returncode}")
    return done.stdout


def check_inbox(inbox: Path, photos: Iterable[TruePhoto], classes: Sequence[str]) -> None:
    """Exit unless the corrections of an inbox are the true masks of `photos`."""
    lines = output_of("inbox", "list", str(inbox)).splitlines()
    arrived = {line.split()[0] for line in lines if "corrected:" in line}
    if missing := {sample_of(photo.path) for photo in photos} ^ arrived:
        raise SystemExit(f"{inbox}: {len(missing)} corrections are missing, or of photos that were not corrected")
    corrections = {photo.path.stem: photo.correction for photo in load(inbox, corrections=inbox).photos}
    for photo in photos:
        drawn = np.where(photo.truth == 0, VOID, photo.truth)
        correction = corrections[sample_of(photo.path)]
        if correction is None or not np.array_equal(correction.labels(classes), drawn):
            raise SystemExit(f"{photo.path}: its correction is not what was painted")


def wait_for(client: Client, version: str) -> None:
    """Wait until the service has switched to a version. Exits if it does not."""
    end = time.monotonic() + _SWAP_S
    while not any(model["serving"] and model["version"] == version for model in client.models()):
        if time.monotonic() > end:
            raise SystemExit(f"the service has not switched to version {version} in {_SWAP_S} s")
        time.sleep(0.5)


def most_corrected(photos: Iterable[TruePhoto], before: Masks, after: Masks) -> TruePhoto:
    """The photo of which the most pixels became right."""

    def right(masks: Masks, photo: TruePhoto) -> int:
        return int((masks[photo] == photo.truth).sum())

    return max(photos, key=lambda photo: right(after, photo) - right(before, photo))


def report(groups: Mapping[str, Sequence[TruePhoto]], before: Masks, after: Masks) -> None:
    """Print the mIoU of groups of photos by their names. Exits if that of any did not rise."""
    table = Table("photos", "", "mIoU before", "after")
    worse = []
    for name, photos in groups.items():
        figures = [miou([(masks[photo], photo.truth) for photo in photos]) for masks in (before, after)]
        table.add_row(name, str(len(photos)), *(f"{figure:.1f}" for figure in figures))
        worse += [name] if figures[1] <= figures[0] else []
    Console().print(table)
    if worse:
        raise SystemExit(f"the masks of photos {' and '.join(worse)} did not get better")


def miou(pairs: Iterable[tuple[Pixels, Pixels]]) -> float:
    """The mIoU of masks and their true masks, 0..100."""
    total = Confusion(MAX_CLASSES)
    for mask, truth in pairs:
        total.add(mask, truth)
    return total.miou()


if __name__ == "__main__":
    command_of(main)()
