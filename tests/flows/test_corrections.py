"""From a service that collects corrections to a bundle that learned from them."""

import csv
import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from examples.demo.drawing import DEMO_CLASSES, make_demo_photos
from flows.retrain import retrain
from flows.settings import FlowSettings, TriggerSettings
from flows.state import last_training
from flows.workspace import Workspace
from tagmask import Client
from tagmask.bundle import read_metadata
from tagmask.corrections import Correction
from tagmask.inbox import Inbox
from tagmask.masks import BACKGROUND, VOID, read_mask
from tagmask.store import Store
from tests.flows.collection.conftest import jpeg
from tests.service.serving import serving
from training.run.description import read_description, read_photos


def test_retraining_learns_from_the_corrections_that_a_service_received(
    workspace: Workspace, drawn: Path, tiny: FlowSettings, tmp_path: Path
):
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    settings = tiny.model_copy(update={"trigger": TriggerSettings(corrected=2)})
    assert retrain(workspace.root, [drawn, inbox], settings, return_state=True).name == "Unchanged"
    with serving(store=workspace.store, inbox=inbox) as server, Client(str(server.base_url)) as client:
        sent = [client.add_sample(photo, tags, said) for photo, tags, said in mended(tmp_path / "more")[:2]]
    assert [sample["corrected"] for sample in sent] == [True, True]

    state = retrain(workspace.root, [drawn, inbox], settings, return_state=True)
    assert state.name == "Promoted", state.message
    finished, champion = last_training(workspace), Store(workspace.store).champion()
    assert finished
    assert champion
    assert read_metadata(Store(workspace.store).path(champion.version)).supervision == "tags, corrections"
    run = workspace.run(finished.key)
    assert read_description(run).corrected == 2
    data = read_photos(run)
    assert data
    learned = [photo for photo in data.photos if photo.correction]
    assert {photo.path.stem for photo in learned} == {sample["id"] for sample in sent}
    for photo in learned:
        assert photo.correction
        said, labels = (
            photo.correction.labels(data.classes),
            read_mask(run.root / "round-1" / "labels" / f"{photo.id}.png"),
        )
        assert (labels == said)[said != VOID].all()
    assert retrain(workspace.root, [drawn, inbox], settings, return_state=True).name == "Unchanged"


def mended(root: Path) -> list[tuple[bytes, list[str], Correction]]:
    """Drawn photos that are not held out, with their tags, and the left half of their true masks."""
    make_demo_photos(root, photos=16, size=64, seed=7)
    found = []
    for row in csv.DictReader((root / "tags.csv").open()):
        photo = (root / row["image"]).read_bytes()
        mask = read_mask(root / "masks" / f"{Path(row['image']).stem}.png")
        mask[:, mask.shape[1] // 2 :] = VOID
        if int(hashlib.sha256(photo).hexdigest()[:2], 16) > 50:
            found.append((photo, row["tags"].split(), Correction.of(mask, (BACKGROUND, *DEMO_CLASSES))))
    return found


def test_the_samples_of_an_inbox_are_listed_with_what_their_corrections_show(
    tmp_path: Path, command: Callable[..., tuple[int, str, str]]
):
    inbox = Inbox(tmp_path, min_free_bytes=0)
    said = Correction.of(np.array([[0, 1, VOID]], dtype=np.uint8), (BACKGROUND, "cat"), ("cat", "dog"))
    ids = [
        inbox.add(jpeg(1), ["cat"], "image/jpeg", (8, 12), correction=said).id,
        inbox.add(jpeg(2), ["owl", "cat"], "image/jpeg", (8, 12)).id,
    ]
    status, output, _ = command("inbox", "list", tmp_path)
    lines = [f"{ids[0]}  cat  corrected: background, cat, no dog", f"{ids[1]}  cat owl"]
    assert (status, output.splitlines()) == (0, sorted(lines))
    status, _, error = command("inbox", "list", tmp_path / "nowhere")
    assert status == 2
    assert "nowhere: no such folder" in error
