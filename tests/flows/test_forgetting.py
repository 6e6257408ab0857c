"""Samples that are forgotten leave the workspace, and what comes next is trained without them."""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from prefect.client.orchestration import get_client

from flows import forgetting
from flows.collection.catalogue import Catalogue
from flows.collection.ingestion import Arrival, ingest
from flows.learning.flow import TrainingRequest
from flows.retrain import retrain
from flows.settings import FlowSettings
from flows.state import PlannedTraining, last_training, record_start, training_in_progress
from flows.workspace import Workspace
from tagmask.bundle import read_samples
from tagmask.files import write_text
from tagmask.inbox import Inbox
from tagmask.store import Store
from tests.flows.collection.conftest import jpeg
from training.datasets.photos import Photo, TaggedPhotos
from training.run.description import read_photos, write_photos
from training.run.layout import Layout

PHOTO, OTHER = jpeg(1), jpeg(2)
NAME, OTHER_NAME = (hashlib.sha256(data).hexdigest() for data in (PHOTO, OTHER))


class KilledError(BaseException):
    """Where a process is killed."""


class Filled:
    """A workspace that has two photos in all its places, without any training."""

    def __init__(self, root: Path, settings: FlowSettings) -> None:
        self.workspace = work = Workspace(root / "workspace")
        source = root / "source"
        source.mkdir(parents=True)
        for name, data in (("a.jpg", PHOTO), ("b.jpg", OTHER)):
            (source / name).write_bytes(data)
        arrivals = [Arrival(str(source / name), ("cat",)) for name in ("a.jpg", "b.jpg")]
        with Catalogue(work) as catalogue:
            catalogue.record(ingest(arrivals, work))
        self.list, self.held_out = work.data / "1.jsonl", work.data / "1.held-out.jsonl"
        for path in (self.list, self.held_out):
            path.write_text("".join(f"{json.dumps({'image': str(self.copy(name)), 'tags': []})}\n" for name in names()))
        run = work.run("run")
        photos = tuple(Photo(f"photos/{name[:2]}/{name}", work.data / self.copy(name), ("cat",)) for name in names())
        write_photos(run, TaggedPhotos(work.data, ("cat",), photos))
        self.pictures = (run.report, run.root / "gallery-1.jpg", work.tensorboard("run") / "events.out.tfevents.1.host")
        for picture in self.pictures:
            picture.parent.mkdir(parents=True, exist_ok=True)
            picture.write_bytes(b"picture")
        for name in names():
            for folder, suffix in (("labels", ".png"), ("masks/maps", ".npy")):
                output = work.stages / f"round-1-{folder[:5]}-key" / folder / f"photos/{name[:2]}/{name}{suffix}"
                output.parent.mkdir(parents=True, exist_ok=True)
                output.write_bytes(b"output")
        for stage in work.stages.iterdir():
            (stage / "done").mkdir()
            (stage / "done" / "all.json").write_text("{}")
        request = TrainingRequest(
            photos=self.list, count=2, data_digest="d", classes=("cat",), config=settings.train, start=None
        )
        record_start(
            work, PlannedTraining(request=request, held_out=self.held_out, precision="fp32", reason="",
                                  planned_at="2030-01-01T00:00Z"),
        )  # fmt: skip

    @staticmethod
    def copy(name: str) -> Path:
        return Path("photos", name[:2], f"{name}.jpg")

    def named(self, name: str) -> set[str]:
        """Where the photo is still named, or shown."""
        return named(self.workspace, name)


def names() -> tuple[str, str]:
    return NAME, OTHER_NAME


def named(workspace: Workspace, name: str) -> set[str]:
    """The files, but for the set of what was forgotten, whose name or content has this SHA-256."""
    files = {path for path in workspace.root.rglob("*") if path.is_file()}
    found = {path for path in files if name in path.name or name.encode() in path.read_bytes()}
    return {str(path.relative_to(workspace.root)) for path in found} - {f"data/forgotten/{name}"}


@pytest.fixture
def filled(tmp_path: Path, tiny: FlowSettings, monkeypatch: pytest.MonkeyPatch) -> Filled:
    monkeypatch.setattr(forgetting, "delete_artifacts", lambda *_: None)
    return Filled(tmp_path, tiny)


def test_nothing_names_a_forgotten_sample(filled: Filled) -> None:
    workspace, others = filled.workspace, filled.named(OTHER_NAME)
    assert filled.named(NAME) == {each.replace(OTHER_NAME, NAME).replace(OTHER_NAME[:2], NAME[:2]) for each in others}
    forgetting.request(workspace, [NAME])
    assert forgetting.forget(workspace) == {NAME}
    assert filled.named(NAME) == set()
    assert filled.named(OTHER_NAME) == others
    run = workspace.run("run")
    data = read_photos(run)
    assert data
    assert [photo.path.stem for photo in data.photos] == [OTHER_NAME]
    assert not any(picture.exists() for picture in filled.pictures)
    assert training_in_progress(workspace) is None
    assert not list(workspace.stages.glob("*/done"))  # tasks that would vouch for what is gone
    assert forgetting.forget(workspace) == set()


def test_what_has_nothing_to_do_with_it_stays(filled: Filled) -> None:
    before = {path: path.stat().st_mtime_ns for path in filled.workspace.root.rglob("*.*") if path.is_file()}
    forgetting.request(filled.workspace, ["0" * 64])
    forgetting.forget(filled.workspace)
    del before[filled.workspace.data / "catalogue.sqlite"]
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.parametrize(("learned", "dropped"), [(NAME, True), (OTHER_NAME, False), (None, True)])
def test_a_training_from_networks_that_learned_from_it_is_dropped(
    filled: Filled, learned: str | None, dropped: bool
) -> None:
    workspace, weights = filled.workspace, filled.workspace.weights("version")
    other = workspace.data / "2.jsonl"
    other.write_text(f"{json.dumps({'image': str(filled.copy(OTHER_NAME)), 'tags': []})}\n")
    training = training_in_progress(workspace)
    assert training
    request = training.request.model_copy(update={"photos": other, "start": weights})
    record_start(workspace, training.model_copy(update={"request": request, "held_out": other}))
    if learned:
        write_text(Layout(weights).samples, f"{learned[:16]}\n")
    forgetting.request(workspace, [NAME])
    forgetting.forget(workspace)
    assert (training_in_progress(workspace) is None) == dropped


def test_it_is_not_collected_again(filled: Filled, tmp_path: Path) -> None:
    forgetting.request(filled.workspace, [NAME])
    forgetting.forget(filled.workspace)
    again = tmp_path / "source" / "again.jpg"
    again.write_bytes(PHOTO)
    (outcome,) = ingest([Arrival(str(again), ("cat",))], filled.workspace)
    assert outcome.content is None
    assert outcome.fault == "it was forgotten; remove it from this source"
    assert filled.named(NAME) == set()


def test_a_kill_at_any_point_is_finished_by_the_next_call(tmp_path: Path, tiny: FlowSettings, monkeypatch) -> None:
    monkeypatch.setattr(forgetting, "delete_artifacts", lambda *_: None)
    first = Filled(tmp_path / "filled", tiny)
    for step in range(1, 1000):
        workspace = Workspace(shutil.copytree(first.workspace.root, tmp_path / str(step)))
        relocate(workspace, first.workspace)
        others = named(workspace, OTHER_NAME)
        try:
            with killed_before(step, monkeypatch):
                forgetting.request(workspace, [NAME])
                forgetting.forget(workspace)
        except KilledError:
            forgetting.request(workspace, [NAME])
            forgetting.forget(workspace)
            assert (named(workspace, NAME), named(workspace, OTHER_NAME)) == (set(), others)
            assert training_in_progress(workspace) is None
        else:
            break
        finally:
            shutil.rmtree(workspace.root)
    assert step > 10


def relocate(workspace: Workspace, original: Workspace) -> None:
    """Have the paths in a copied workspace point to itself."""
    for path in (workspace.training, workspace.run("run").photos):
        path.write_text(path.read_text().replace(str(original.root), str(workspace.root)))


@contextmanager
def killed_before(step: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Raise before the `step`-th change to files."""
    left = iter(range(step - 1, -2, -1))

    def counted(change):
        def call(*arguments, **named):
            if next(left, 0) == 0:
                raise KilledError
            return change(*arguments, **named)

        return call

    with monkeypatch.context() as patch:
        for owner, name in ((Path, "unlink"), (Path, "touch"), (Path, "replace"), (shutil, "rmtree")):
            patch.setattr(owner, name, counted(getattr(owner, name)))
        yield


@pytest.mark.usefixtures("one_process")
def test_a_retraining_learns_without_it(workspace: Workspace, drawn: Path, tiny: FlowSettings, tmp_path: Path) -> None:
    champion = Store(workspace.store).champion()
    last = last_training(workspace)
    assert champion
    assert last
    inbox = Inbox(tmp_path / "inbox", 0)
    name = next(path.stem for path in sorted(workspace.photos.rglob("*.jpg")) if path.stem in last.photos.read_text())
    learned = read_samples(Store(workspace.store).path(champion.version))
    assert learned
    assert name[:16] in learned
    inbox.forget(name)
    sources = [drawn, tmp_path / "inbox"]
    state = retrain(workspace.root, sources, tiny, force=True, return_state=True)
    assert state.type.value == "COMPLETED", state.message
    assert named(workspace, name) == set()
    new = last_training(workspace)
    assert new
    assert read_samples(workspace.run(new.key).model) == learned - {name[:16]}
    description = json.loads(workspace.run(new.key).description.read_text())
    assert description["start"] is None  # the champion had learned from it
    assert gallery_artifacts(name) == []


def test_the_command_removes_it_and_names_the_bundle(
    workspace: Workspace, command: Callable[..., tuple[int, str, str]]
) -> None:
    champion = Store(workspace.store).champion()
    last = last_training(workspace)
    assert champion
    assert last
    name = Path(json.loads(last.photos.read_text().splitlines()[0])["image"]).stem
    options = ("--workspace", workspace.root)
    with workspace.lock("run tender-otter", wait=False):
        status, _, error = command("inbox", "forget", name, *options)
    assert status == 1
    assert "in use by run tender-otter" in error
    assert name in workspace.forgotten
    assert named(workspace, name) - {f"data/to-forget/{name}"}
    status, output, _ = command("inbox", "forget", name, *options)
    assert (status, output) == (0, f"{champion.version} learned from them\n1 sample forgotten\n")
    assert named(workspace, name) == set()
    assert gallery_artifacts(name) == []
    assert not list(workspace.tensorboard(last.key).iterdir())
    status, _, error = command("inbox", "forget", "0" * 64, *options)
    assert (status, "neither in the inbox nor in the workspace" in error) == (2, True)


def gallery_artifacts(name: str) -> list[str]:
    with get_client(sync_client=True) as client:
        return [str(each.id) for each in client.read_artifacts(limit=200) if name in str(each.data)]
