"""From a service that collects corrections to a bundle that learned from them."""

import csv
import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from examples.demo.drawing import DEMO_CLASSES, make_demo_photos
from flows.collection.sources import Source
from flows.retrain import retrain
from flows.settings import FlowSettings, TriggerSettings
from flows.state import last_training
from flows.workspace import Workspace
from tagmask import Client
from tagmask.bundle import CORRECTED, read_metadata, read_samples
from tagmask.corrections import Correction
from tagmask.inbox import Inbox
from tagmask.masks import BACKGROUND, VOID, read_mask
from tagmask.metadata import sample_digests
from tagmask.store import Store
from tests.flows.collection.conftest import jpeg
from tests.service.serving import serving
from training.datasets import load
from training.run.description import read_description
from training.run.layout import Layout
from training.run.learned import read_corrected


def test_retraining_learns_from_hints_and_the_corrections_that_a_service_received_and_is_measured_on_others(
    workspace: Workspace, drawn: Path, tiny: FlowSettings, tmp_path: Path
):
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    settings = tiny.model_copy(update={"trigger": TriggerSettings(corrected=20)})
    assert retrain(workspace.root, [drawn, inbox], settings, return_state=True).name == "Unchanged"
    with serving(store=workspace.store, inbox=inbox) as server, Client(str(server.base_url)) as client:
        sent = [client.add_sample(photo, tags, said) for photo, tags, said in mended(tmp_path / "more")]
    assert all(sample["corrected"] for sample in sent)
    ids = {sample["id"] for sample in sent}
    assert len(ids) >= 20

    sources = [Source(drawn, hints=drawn), inbox]
    state = retrain(workspace.root, sources, settings, return_state=True)
    assert state.name == "Promoted", state.message
    finished, champion = last_training(workspace), Store(workspace.store).champion()
    assert finished
    assert champion
    run, bundle = workspace.run(finished.key), Store(workspace.store).path(champion.version)
    description, metadata = read_description(run), read_metadata(bundle)
    assert metadata.supervision == "tags, hints, corrections"
    assert description.hinted == description.photos - description.corrected
    held_out = {Path(id).name for id in description.held_out}
    assert held_out < ids
    assert held_out
    assert description.corrected == len(ids)
    assert metadata.measured
    assert metadata.measured.photos == len(held_out)
    assert read_samples(bundle, CORRECTED) == sample_digests(ids - held_out)
    assert read_corrected(Layout(workspace.weights(metadata.version))) == sample_digests(ids - held_out)

    kept = {}
    for photo in load(finished.photos, classes=metadata.classes[1:]).photos:
        if photo.correction:
            said = photo.correction.labels(metadata.classes[1:])
            labels = read_mask(run.root / "round-1" / "labels" / f"{photo.id}.png")
            kept[photo.path.stem] = bool((labels == said)[said != VOID].all())
    assert kept.keys() == ids
    assert {id for id, is_kept in kept.items() if is_kept} >= ids - held_out
    assert not all(kept[id] for id in held_out)
    assert retrain(workspace.root, sources, settings, return_state=True).name == "Unchanged"


def mended(root: Path) -> list[tuple[bytes, list[str], Correction]]:
    """Drawn photos that are not held out, with their tags, and the left half of their true masks."""
    make_demo_photos(root, photos=40, size=64, seed=7)
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
    (empty := tmp_path / "empty").mkdir()
    assert command("inbox", "list", empty)[1].startswith(f"no samples in {empty} yet; ")
    status, _, error = command("inbox", "list", tmp_path / "nowhere")
    assert status == 2
    assert "nowhere: no such folder" in error
