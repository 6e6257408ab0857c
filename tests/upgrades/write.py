"""Writes all formats that later versions have to read, by the version whose code this runs with, to a folder:

    python -m tests.upgrades.write tests/upgrades/VERSION

model.onnx is a bundle; store/, inbox/ and workspace/ are what they are named. The workspace has collected the inbox,
and has the state of a finished training, that of one in progress, and the description of a run, but no stage outputs.
"""

import io
import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path

from PIL import Image

from flows.collection.snapshots import snapshot
from flows.collection.sources import Source
from flows.collection.update import update
from flows.learning.flow import TrainingRequest, TrainingResult
from flows.promotion.publication import Promotion
from flows.settings import DataSettings
from flows.state import PlannedTraining, record_end, record_start
from flows.workspace import Workspace
from tagmask.inbox import Annotation, Inbox
from tagmask.store import Store
from tests.training.colour_bundle import COLOURS, write_colour_bundle
from training.config import TrainConfig
from training.run.description import Description
from training.run.ledger import Ledger

FIRST, SECOND = "1" * 12, "2" * 12


def main(folder: Path) -> None:
    write_colour_bundle(folder / "model.onnx")
    store = Store(folder / "store")
    for version in (FIRST, SECOND):
        digest = (version * 6)[:64]
        store.publish(write_colour_bundle(folder / "other.onnx", weights_digest=digest))
        store.record_decision(version, promoted=True, reasons=["coverage"], figures={"miou": 50.0})
        store.promote(version)
    (folder / "other.onnx").unlink()

    inbox = Inbox(folder / "inbox", 0)
    for name in ("cat", "dog"):
        inbox.add(photo(name), [name], "image/png", (24, 32), source="a request")
    inbox.annotate(
        Annotation(7, 3, "zoo", datetime(2026, 1, 1, tzinfo=UTC)), photo("dog"), ["wolf"], "image/png", (24, 32)
    )

    workspace = Workspace(folder / "workspace")
    update(workspace, [Source((folder / "inbox").absolute())], 64)
    version = snapshot(workspace, DataSettings(min_photos=1, held_out=0.0))
    config = TrainConfig()
    request = TrainingRequest(
        photos=version.training,
        count=version.photos,
        data_digest=version.digest,
        classes=version.classes,
        config=config,
    )
    training = PlannedTraining(
        request=request, held_out=version.held_out, precision="fp32", reason="it is new", planned_at=datetime.now(UTC)
    )
    run = workspace.run("0" * 16)
    run.root.mkdir(parents=True)
    described = Description(data_digest=version.digest, photos=version.photos, classes=version.classes, settings=config)
    run.description.write_text(described.model_dump_json(indent=2))
    Ledger(run.ledger).add(0, "superpixels", photos=version.photos, seconds=1.0)
    shutil.copyfile(folder / "model.onnx", run.model)
    result = TrainingResult(key=run.root.name, model=run.model, version="0123456789ab")
    record_start(workspace, training)
    record_end(workspace, training, result, Promotion(version=result.version, promoted=True, reason="it is better"))
    record_start(workspace, training)


def photo(name: str) -> bytes:
    """A photo in the colour of a class of the bundle."""
    file = io.BytesIO()
    Image.new("RGB", (32, 24), COLOURS[name]).save(file, "PNG")
    return file.getvalue()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
