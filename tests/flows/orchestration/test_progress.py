import logging
import re
import time
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect import flow, task
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId
from prefect.context import get_run_context
from prefect.futures import PrefectConcurrentFuture

from flows.orchestration import progress as module
from flows.orchestration.artifact import Artifact
from flows.orchestration.progress import KEY, PrefectProgress, advance_as_completed


class Artifacts:
    """In place of Prefect's artifacts: the latest values of each; `reply` is called each time before it is."""

    def __init__(self) -> None:
        self.latest: dict[UUID, tuple[float, str | None]] = {}
        self.reply = lambda: None

    def create(self, percent: float, key: str, description: str) -> UUID:
        self.reply()
        artifact = uuid4()
        self.latest[artifact] = (percent, description)
        return artifact

    def update(self, artifact: UUID, percent: float, description: str) -> UUID:
        self.reply()
        self.latest[artifact] = (percent, description)
        return artifact


@pytest.fixture
def artifacts(monkeypatch: pytest.MonkeyPatch) -> Artifacts:
    """What a run shows in Prefect, without a server."""
    artifacts = Artifacts()
    monkeypatch.setattr(module, "create_progress_artifact", artifacts.create)
    monkeypatch.setattr(module, "update_progress_artifact", artifacts.update)
    monkeypatch.setattr(module, "run_logger", lambda: (logging.getLogger("flows"), True))
    return artifacts


@pytest.fixture(autouse=True)
def _log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "flows")


def test_a_stage_is_told_when_it_begins_and_ends(caplog: pytest.LogCaptureFixture):
    with PrefectProgress().stage("round 1: labels", 1220) as advance:
        for _ in range(1220):
            advance(1)
    begun, ended = caplog.messages
    assert begun == "round 1: labels, 1,220 photos"
    assert re.fullmatch(r"round 1: labels, 1,220 photos in [\d.]+ s", ended)


def test_a_stage_says_what_it_counts(caplog: pytest.LogCaptureFixture):
    with PrefectProgress().stage("round 1: pixelnet", 2440, "photo pass") as advance:
        advance(1220)
    begun, ended = caplog.messages
    assert begun == "round 1: pixelnet, 2,440 photo passes"
    assert ended.startswith("round 1: pixelnet, 1,220 of 2,440 photo passes in ")


def test_a_long_stage_is_told_at_intervals_with_the_time_left(caplog: pytest.LogCaptureFixture):
    with PrefectProgress(log_every=0.2).stage("seeds", 100) as advance:
        for _ in range(50):
            time.sleep(0.01)
            advance(1)
    between = caplog.messages[1:-1]
    assert 1 <= len(between) < 50
    assert all(re.fullmatch(r"seeds, \d+ of 100 photos, [\d.]+ s left", line) for line in between)
    assert caplog.messages[-1].startswith("seeds, 50 of 100 photos in ")


def test_a_stage_that_fails_says_how_far_it_came(caplog: pytest.LogCaptureFixture, artifacts: Artifacts):
    with pytest.raises(ValueError, match="damaged"), PrefectProgress().stage("seeds", 4) as advance:  # noqa: PT012
        advance(1)
        raise ValueError("damaged")
    assert re.fullmatch(r"seeds, stopped at 1 of 4 photos after [\d.]+ s", caplog.messages[-1])
    assert list(artifacts.latest.values()) == [(25.0, caplog.messages[-1])]


def test_how_many_there_are_may_be_unknown(caplog: pytest.LogCaptureFixture, artifacts: Artifacts):
    with PrefectProgress(log_every=0).stage("looking", 0) as advance:
        advance(3)
        advance(4)
    assert caplog.messages[:3] == ["looking", "looking, 3 photos", "looking, 7 photos"]
    assert caplog.messages[3].startswith("looking, 7 photos in ")
    assert list(artifacts.latest.values()) == [(100.0, caplog.messages[3])]


def test_any_number_of_threads_may_advance(artifacts: Artifacts):
    with PrefectProgress().stage("seeds", 8000) as advance, ThreadPoolExecutor(8) as pool:
        for _ in pool.map(lambda _: [advance(1) for _ in range(1000)], range(8)):
            pass
    ((percent, text),) = artifacts.latest.values()
    assert percent == 100
    assert text is not None
    assert text.startswith("seeds, 8,000 photos in ")


def test_stages_one_after_another_share_an_artifact_and_stages_at_once_do_not(artifacts: Artifacts):
    progress = PrefectProgress()
    with progress.stage("one", 1):
        pass
    with progress.stage("two", 1):
        pass
    assert len(artifacts.latest) == 1
    with progress.stage("three", 1), progress.stage("four", 1):
        pass
    assert len(artifacts.latest) == 2


def test_prefect_is_not_asked_for_every_photo(artifacts: Artifacts):
    calls: list[int] = []
    artifacts.reply = lambda: calls.append(1)
    with PrefectProgress(update_every=0.05).stage("seeds", 10_000) as advance:
        advances = 0
        while len(calls) < 3:
            advance(1)
            advances += 1
            time.sleep(0.001)
    assert len(calls) < advances


def test_a_server_that_fails_is_told_once_and_fails_no_stage(caplog: pytest.LogCaptureFixture, artifacts: Artifacts):
    def refuse() -> None:
        raise ConnectionError("no server")

    artifacts.reply = refuse
    progress = PrefectProgress()
    for name in ("one", "two"):
        with progress.stage(name, 1) as advance:
            advance(1)
    faults = [record for record in caplog.records if "no server" in record.message]
    assert [fault.levelname for fault in faults] == ["WARNING"]
    assert caplog.messages[-1].startswith("two, 1 photo in ")


def test_a_server_that_is_slow_holds_up_no_stage(monkeypatch: pytest.MonkeyPatch, artifacts: Artifacts):
    answer, answered = Event(), Event()

    def reply() -> None:
        answer.wait(60)
        answered.set()

    artifacts.reply = reply
    monkeypatch.setattr(module, "JOIN_S", 0.05)
    with PrefectProgress().stage("seeds", 1) as advance:
        advance(1)
    assert not answered.is_set()
    answer.set()
    assert answered.wait(60)


def test_shards_advance_as_they_complete_and_failed_ones_do_not():
    futures: list[Future[Any]] = [Future() for _ in range(3)]
    advanced: list[int] = []
    futures[2].set_result("done")
    futures[0].set_exception(ValueError("damaged"))
    futures[1].set_result("done")
    advance_as_completed([PrefectConcurrentFuture(uuid4(), future) for future in futures], [64, 63, 4], advanced.append)
    assert sorted(advanced) == [4, 63]


@pytest.mark.usefixtures("prefect_api")
def test_a_run_has_its_pages_and_progress_in_prefect():
    @task
    def shard(photos: int) -> int:
        if photos == 2:
            raise ValueError("damaged")
        return photos

    @flow
    def learn() -> UUID:
        sizes = [3, 2, 4]
        with PrefectProgress(update_every=0.05).stage("seeds", sum(sizes)) as advance:
            advance_as_completed([shard.submit(size) for size in sizes], sizes, advance)
        Artifact("stages", "1 round", "| a |\n| :-- |\n").publish()
        run: UUID = get_run_context().flow_run.id
        return run

    run = learn()
    with get_client(sync_client=True) as client:
        of_run = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run]))
        artifacts = {artifact.key: artifact for artifact in client.read_artifacts(artifact_filter=of_run)}
    assert artifacts.keys() >= {KEY, "stages"}
    assert artifacts[KEY].data == pytest.approx(77.8)
    assert artifacts[KEY].description.startswith("seeds, 7 of 9 photos in ")
    assert (artifacts["stages"].description, artifacts["stages"].type) == ("1 round", "markdown")
