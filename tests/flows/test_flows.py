"""Both flows from end to end, in this process."""

import csv
import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from prefect import State
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterName, FlowRunFilterParentFlowRunId

from examples.demo.drawing import make_demo_photos
from flows import cycle
from flows.learning import flow as learning_flow
from flows.learning.flow import PrefectBackend, TrainingRequest
from flows.retrain import retrain
from flows.settings import FlowSettings
from flows.state import training_in_progress
from flows.train import train
from flows.workspace import Workspace
from tagmask.bundle import read_metadata
from tagmask.errors import BundleError, DataError, RunError
from tagmask.store import Store
from tests import ceph
from tests.faults import Proxy
from tests.flows.interruption import interrupt
from training.run.description import read_description
from training.run.layout import Layout
from training.stages.base import PhotoStage

ROOT = os.name == "posix" and os.geteuid() == 0


def files(workspace: Workspace) -> dict[str, tuple[int, int]]:
    """Inode and time of all that a training and its promotion write."""
    found = [path for each in ("stages", "runs", "store", "weights") for path in (workspace.root / each).rglob("*")]
    found += [workspace.root / "last.json"]
    stats = {str(path.relative_to(workspace.root)): path.stat() for path in found if path.is_file()}
    return {name: (stat.st_ino, stat.st_mtime_ns) for name, stat in stats.items() if ".lock" not in name}


def half_written(workspace: Workspace) -> list[Path]:
    return list(workspace.root.rglob("*.part"))


def changed(settings: FlowSettings, section: str, **values: Any) -> FlowSettings:
    return settings.model_copy(update={section: getattr(settings, section).model_copy(update=values)})


def with_crf(settings: FlowSettings, steps: int) -> FlowSettings:
    crf = settings.train.crf.model_copy(update={"steps": steps})
    return changed(settings, "train", crf=crf)


class StoppedError(RunError):
    """Instead of a training."""


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[TrainingRequest]:
    """The requests of trainings, none of which is carried out."""
    captured: list[TrainingRequest] = []

    def stop(workspace: Workspace, request: TrainingRequest, settings: FlowSettings) -> None:
        captured.append(request)
        raise StoppedError("it would be learned now")

    monkeypatch.setattr(cycle, "learn", stop)
    return captured


def error_of(state: State[Any]) -> BaseException:
    assert state.name == "Failed", state
    error = state.result(raise_on_failure=False)
    assert isinstance(error, BaseException)
    return error


def test_nothing_is_done_twice(workspace, drawn, tiny):
    before, data = files(workspace), sorted(workspace.data.iterdir())
    for flow in (train, retrain):
        state = flow(workspace.root, [drawn], tiny, return_state=True)
        assert (state.name, state.type.value) == ("Unchanged", "COMPLETED")
    assert "0 new or retagged photos, 100 required" in state.message
    assert files(workspace) == before
    assert sorted(workspace.data.iterdir()) == data


def test_what_is_remembered_is_checked_against_the_store(workspace, drawn, tiny, tmp_path, monkeypatch):
    version = Store(workspace.store).champion().version
    (workspace.store / "bundles" / version / "model.onnx").unlink()
    monkeypatch.setattr(PrefectBackend, "train", lambda *_: pytest.fail("the run is finished"))
    outcomes = []
    for flow, store in ((train, None), (train, None), (train, tmp_path / "other"), (train, tmp_path / "other")):
        outcomes.append(flow(workspace.root, [drawn], tiny, store, return_state=True).name)
        assert Store(store or workspace.store).has(version)
    shutil.rmtree(workspace.store / "bundles")
    outcomes.append(retrain(workspace.root, [drawn], tiny, return_state=True).name)
    assert Store(workspace.store).has(version)
    Store(workspace.store).path(version).write_bytes(b"")
    outcomes.append(train(workspace.root, [drawn], tiny, return_state=True).name)
    assert Store(workspace.store).is_intact(version)
    assert outcomes == ["Promoted", "Unchanged", "Promoted", "Unchanged", "Promoted", "Promoted"]


def test_a_finished_training_is_published_in_object_storage(workspace, drawn, tiny, s3: Proxy, monkeypatch):
    monkeypatch.setattr(PrefectBackend, "train", lambda *_: pytest.fail("the run is finished"))
    url = f"s3://{ceph.BUCKET}/flows/store"
    s3.faults += [("PUT", "503"), ("PUT", "cut after"), ("GET", "cut")]
    outcomes = [train(workspace.root, [drawn], tiny, url, return_state=True).name for _ in range(2)]
    assert outcomes == ["Promoted", "Unchanged"]
    assert Store(url).champion().version == Store(workspace.store).champion().version
    assert s3.faults == []


def test_a_setting_repeats_only_what_depends_on_it(workspace, drawn, tiny):
    before, stages = files(workspace), {path.name for path in workspace.stages.iterdir()}
    state = train(workspace.root, [drawn], with_crf(tiny, 2), return_state=True)
    assert state.name in {"Promoted", "Kept"}, state.message
    new = {path.name.rpartition("-")[0] for path in workspace.stages.iterdir() if path.name not in stages}
    assert new == {"round-1-labels", "round-1-pixelnet", "round-1-masks", "round-1-decision"}
    after = files(workspace)
    assert {name: after[name] for name in before if name.startswith("stages/")} == {
        name: stamp for name, stamp in before.items() if name.startswith("stages/")
    }
    assert half_written(workspace) == []


def test_a_lost_ledger_repeats_no_task(workspace, drawn, tiny):
    interrupt(workspace, tiny)
    last = sorted(workspace.runs.iterdir())[0]
    (last / "ledger.jsonl").unlink()
    before = files(workspace)
    state = train(workspace.root, [drawn], tiny, return_state=True)
    assert state.name == "Promoted", state.message
    after = files(workspace)
    assert {name for name in before if after.get(name) != before[name]} <= {
        "last.json",
        f"runs/{last.name}/ledger.jsonl",
        f"runs/{last.name}/run.json",
        f"runs/{last.name}/gallery-1.jpg",
        f"runs/{last.name}/model.onnx",
        f"runs/{last.name}/photos.json",
        f"runs/{last.name}/samples.txt",
        f"runs/{last.name}/report.html",
    }
    assert task_states(state) == {"Cached"}


def task_states(state: State[Any]) -> set[str]:
    """Names of the states of all tasks of a training; Prefect receives them some time later."""
    run = state.state_details.flow_run_id
    assert run is not None
    of_learn = FlowRunFilter(
        parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[run]), name=FlowRunFilterName(like_="learn ")
    )
    with get_client(sync_client=True) as client:
        limit = time.monotonic() + 30
        while time.monotonic() < limit:
            runs = client.read_task_runs(flow_run_filter=of_learn)
            if len(runs) > 20 and all(run.state and run.state.is_final() for run in runs):
                break
            time.sleep(0.5)
    return {run.state.name for run in runs if run.state and run.state.name}


def test_new_photos_with_a_new_tag_and_broken_ones(workspace, drawn, tiny, tmp_path):
    make_demo_photos(tmp_path / "more", photos=16, size=64, seed=7)
    photos = sorted((tmp_path / "more" / "images").iterdir())
    photos[0].write_bytes(b"")
    photos[1].write_bytes(photos[1].read_bytes()[:500])
    new = listed(tmp_path / "more" / "new.jsonl", {photo: ["kite"] for photo in photos})
    champion = Store(workspace.store).champion()
    assert champion is not None
    state = retrain(workspace.root, [drawn, new], tiny, return_state=True)
    assert state.name == "Promoted", state.message
    assert len(list(workspace.quarantine.glob("*.json"))) == 2
    promoted = Store(workspace.store).champion()
    assert promoted is not None
    assert promoted.before[0] == champion.version
    bundle = read_metadata(Store(workspace.store).path(promoted.version))
    assert bundle.classes == ("background", "balloon", "butterfly", "fish", "kite", "mushroom")
    assert read_description(Layout(workspace.weights(promoted.version))).start is not None
    assert retrain(workspace.root, [drawn, new], tiny, return_state=True).name == "Unchanged"


def test_a_class_without_photos_is_forgotten_only_when_that_is_allowed(workspace, drawn, tiny):
    corrected = {path: tuple("butterfly" if tag == "fish" else tag for tag in tags) for path, tags in tags_of(drawn)}
    source = listed(drawn.parent / "corrected.jsonl", corrected)
    state = retrain(workspace.root, [source], tiny, return_state=True)
    assert state.name == "Kept", state.message
    assert "lost classes: fish (not allowed)" in state.message
    allowed = changed(tiny, "gate", lost_classes=True)
    before = files(workspace)
    state = retrain(workspace.root, [source], allowed, force=True, return_state=True)
    assert state.name == "Promoted", state.message
    after = files(workspace)
    assert {name for name in before if after[name] != before[name]} <= {
        "last.json",
        "store/champion.json",
        "store/history.jsonl",
    }


def tags_of(source: Path) -> Iterator[tuple[Path, list[str]]]:
    with (source / "tags.csv").open() as table:
        for row in csv.DictReader(table):
            yield source / row["image"], row["tags"].split()


def listed(path: Path, photos: Mapping[Path, Sequence[str]]) -> Path:
    """A list of these photos and their tags, beside or above them."""
    lines = (
        json.dumps({"image": str(photo.relative_to(path.parent)), "tags": sorted(set(tags))})
        for photo, tags in photos.items()
    )
    path.write_text("\n".join(lines) + "\n")
    return path


def test_what_is_unfinished_comes_first(workspace, drawn, tiny, tmp_path, requests):
    training = interrupt(workspace, tiny)
    make_demo_photos(tmp_path / "more", photos=16, size=64, seed=7)
    for _ in range(2):
        error = error_of(retrain(workspace.root, [drawn, tmp_path / "more"], tiny, return_state=True))
        assert isinstance(error, StoppedError)
    assert [each.photos for each in requests] == [training.request.photos] * 2
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cycle, "learn", learning_flow.learn)
        state = retrain(workspace.root, [drawn, tmp_path / "more"], tiny, return_state=True)
    assert state.name == "Promoted"
    settings = changed(tiny, "trigger", new_photos=5)
    error_of(retrain(workspace.root, [drawn, tmp_path / "more"], settings, return_state=True))
    assert requests[-1].count > training.request.count


def test_what_is_unfinished_is_given_up_for_other_settings(workspace, drawn, tiny, requests):
    interrupt(workspace, tiny)
    error_of(train(workspace.root, [drawn], with_crf(tiny, 3), return_state=True))
    assert requests[0].config.crf.steps == 3


def test_a_photo_that_vanishes_is_named(workspace, drawn, tiny, monkeypatch):
    gone: list[Path] = []
    each_photo = PrefectBackend.each_photo

    def vanishing(backend: PrefectBackend, stage: PhotoStage) -> Any:
        if stage.name == "labels":
            image = json.loads(backend.request.photos.read_text().splitlines()[5])["image"]
            gone.append(workspace.data / image)
            gone[0].unlink()
        return each_photo(backend, stage)

    monkeypatch.setattr(PrefectBackend, "each_photo", vanishing)
    error = error_of(train(workspace.root, [drawn], with_crf(tiny, 4), return_state=True))
    assert isinstance(error, DataError)
    assert str(error) == f"{gone[0]}: photo not found; put it back or remove it from the list"


@pytest.mark.parametrize("listed", [True, False])
def test_the_next_run_after_a_photo_vanished(workspace, drawn, tiny, requests, listed):
    count = interrupt(workspace, tiny).request.count
    unfinished = training_in_progress(workspace)
    assert unfinished is not None
    photo = json.loads(unfinished.request.photos.read_text().splitlines()[0])["image"]
    (workspace.data / photo).unlink()
    error_of(train(workspace.root, [drawn] if listed else [], tiny, return_state=True))
    assert requests[0].count == (count if listed else count - 1)


def test_a_full_disk(workspace, drawn, tiny, tmp_path):
    with mounted(tmp_path / "small", "size=64m") as small:
        copy = Workspace(shutil.copytree(workspace.root, small / "workspace", symlinks=True))
        free = shutil.disk_usage(small).free
        fill = small / "fill"
        with fill.open("wb") as file:
            file.truncate(0)
            file.write(b"x" * (free - 60_000))
        error = error_of(train(copy.root, [drawn], with_crf(tiny, 2), return_state=True))
        assert isinstance(error, RunError)
        assert "No space left on device" in str(error)
        assert "free disk space and start again" in str(error)
        fill.unlink()
        assert train(copy.root, [drawn], with_crf(tiny, 2), return_state=True).name == "Promoted"
        assert half_written(copy) == []


def test_a_read_only_store(workspace, drawn, tiny, tmp_path):
    interrupt(workspace, tiny)
    with mounted(tmp_path / "store", "size=16m") as store:
        subprocess.run(["mount", "-o", "remount,ro", str(store)], check=True)
        error = error_of(train(workspace.root, [drawn], tiny, store, return_state=True))
        assert isinstance(error, BundleError)
        assert f"{store}" in str(error)
        assert "Read-only file system" in str(error)
        subprocess.run(["mount", "-o", "remount,rw", str(store)], check=True)
        before = files(workspace)
        assert train(workspace.root, [drawn], tiny, store, return_state=True).name == "Promoted"
        assert {name for name, stamp in files(workspace).items() if stamp != before.get(name)} <= {
            "last.json",
            *(name for name in before if name.endswith("model.onnx")),
        }


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    """A file system of its own at `folder`, which needs root."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if not ROOT or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("a file system can be mounted by root alone")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_store_that_is_no_folder(workspace, drawn, tiny, tmp_path):
    interrupt(workspace, tiny)
    (tmp_path / "store").write_text("")
    error = error_of(train(workspace.root, [drawn], tiny, tmp_path / "store", return_state=True))
    assert isinstance(error, BundleError)
    assert f"{tmp_path / 'store'}" in str(error)


def test_the_second_flow_is_skipped_or_waits(workspace, drawn, tiny):
    skip = tiny.model_copy(update={"if_busy": "skip"})
    with workspace.lock("run first", wait=False):
        state = retrain(workspace.root, [drawn], skip, return_state=True)
        assert (state.name, state.type.value) == ("Skipped", "COMPLETED")
        assert "in use by run first" in state.message
    held, over = threading.Event(), threading.Event()

    def first() -> None:
        with workspace.lock("run first", wait=False):
            held.set()
            over.wait(1)

    thread = threading.Thread(target=first)
    thread.start()
    held.wait(10)
    assert retrain(workspace.root, [drawn], tiny, return_state=True).name == "Unchanged"
    assert not thread.is_alive()
    thread.join()


def test_what_there_is_too_little_of(prefect_api, drawn, tiny, tmp_path):
    none = changed(tiny, "data", min_photos=1000)
    error = error_of(train(tmp_path / "workspace", [drawn], none, return_state=True))
    assert isinstance(error, DataError)
    assert "no tag has the 1,000 photos needed to become a class (" in str(error)
    assert "butterfly: " in str(error)
    unheld = changed(tiny, "data", held_out=0)
    error = error_of(train(tmp_path / "workspace", [drawn], unheld, return_state=True))
    assert isinstance(error, DataError)
    assert "the held-out set is empty" in str(error)
    masks = changed(tiny, "data", masks=tmp_path / "nowhere")
    error = error_of(train(tmp_path / "workspace", [drawn], masks, return_state=True))
    assert isinstance(error, DataError)
    assert "nowhere" in str(error)
    for number in range(2):
        photo = tmp_path / "few" / "cat" / f"{number}.png"
        photo.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 48), (number, 0, 0)).save(photo)
    int8 = changed(tiny, "data", min_photos=1).model_copy(update={"precision": "int8"})
    error = error_of(train(tmp_path / "small", [tmp_path / "few"], int8, return_state=True))
    assert isinstance(error, DataError)
    assert "2 photos to quantize to int8 with, at least 3 are needed" in str(error)
    assert not list(tmp_path.glob("*/training.json"))
