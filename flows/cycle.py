"""What both flows do: collect, decide, learn, promote, tidy up. One at a time in a workspace."""

from collections.abc import Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from math import ceil
from pathlib import Path
from typing import Any

from prefect import State
from prefect.context import FlowRunContext
from prefect.states import Completed

from flows import memory
from flows.collection import Collected
from flows.collection.disk import FULL
from flows.collection.flow import collect_new
from flows.collection.lists import compare
from flows.collection.snapshots import Snapshot, snapshot
from flows.collection.sources import Source
from flows.learning.flow import TrainingRequest, learn, run_key
from flows.memory import Last, Training
from flows.orchestration.crashed import mark_crashed_runs
from flows.orchestration.progress import run_logger
from flows.orchestration.tables import collected_page, retraining_page
from flows.promotion.promote import promote
from flows.retention import retain
from flows.settings import FlowSettings, WarmSettings
from flows.when import Verdict, judge
from flows.workspace import UNWRITABLE, Busy, Workspace
from tagmask import files
from tagmask.errors import ConfigError, DataError, RunError
from tagmask.store import Store
from training.config import TrainConfig
from training.datasets import load
from training.networks.start import read_start
from training.run.layout import Layout

FAULTS_SHOWN = 20
"""Photos left out that are named one by one."""

Sources = Sequence[Source | Path]


@dataclass(frozen=True)
class Cycle:
    """One pass of a flow. `again` trains from pretrained weights whatever has changed, as `train` does."""

    workspace: Workspace
    store: Store
    sources: Sources
    settings: FlowSettings
    force: bool
    again: bool


def run(cycle: Cycle) -> State[Any]:
    """Do one pass; the state says what came of it: Promoted, Kept, Unchanged or Skipped.

    Raises TagmaskError's and TagmaskError's kinds for what the user can put right; the next pass goes on from there.
    """
    context = FlowRunContext.get()
    name = context.flow_run.name if context and context.flow_run else "a flow"
    try:
        with _alone(cycle, f"run {name}"), _told(cycle.workspace):
            mark_crashed_runs(cycle.workspace.root, cycle.settings.notify)
            return _pass(cycle)
    except Busy as fault:
        return _said("Skipped", str(fault))


@contextmanager
def _alone(cycle: Cycle, name: str) -> Iterator[None]:
    """Hold the workspace; if another flow has it, wait for that one, or raise Busy if the settings say so."""
    with ExitStack() as held:
        try:
            held.enter_context(cycle.workspace.alone(name, wait=False))
        except Busy as fault:
            if cycle.settings.second == "skip":
                raise
            run_logger()[0].info("waiting: %s", fault)
            held.enter_context(cycle.workspace.alone(name, wait=True))
        yield


@contextmanager
def _told(workspace: Workspace) -> Iterator[None]:
    """Raise RunError, with the remedy, for what the disk or the lack of memory brings about, in whichever process."""
    try:
        yield
    except BrokenProcessPool as fault:
        raise RunError(
            "a worker process was killed, most likely for want of memory; start again with fewer of them "
            "(work.workers), and it goes on from here"
        ) from fault
    except OSError as fault:
        if fault.errno not in UNWRITABLE:
            raise
        where = fault.filename or f"workspace {workspace.root}"
        remedy = "make room on its disk" if fault.errno in FULL else "let this process write there"
        raise RunError(f"{where}: cannot be written ({fault.strerror}); {remedy} and start again") from fault


def _pass(cycle: Cycle) -> State[Any]:
    _tidy(cycle.workspace)
    sources = [each if isinstance(each, Source) else Source(each) for each in cycle.sources]
    collected = collect_new(cycle.workspace, sources, cycle.settings)
    now = snapshot(cycle.workspace, cycle.settings.data)
    _tell(collected, now)
    training = _interrupted(cycle, now) or _wanted(cycle, now)
    if isinstance(training, Verdict):
        if former := memory.last(cycle.workspace):  # retaining may have been killed
            retain(cycle.workspace, cycle.store, cycle.settings.keep, former)
        return _said("Unchanged", training.reasons[0])
    memory.begin(cycle.workspace, training)
    learned = learn(cycle.workspace, training.asked, cycle.settings)
    promotion = promote(cycle.workspace, cycle.store, learned, training.held_out, cycle.settings)
    ended = Last(
        photos=training.asked.photos,
        data_digest=training.asked.data_digest,
        key=learned.key,
        version=promotion.version,
        promoted=promotion.promoted,
        reason=promotion.reason,
        ended=datetime.now(UTC),
    )
    memory.end(cycle.workspace, ended)
    retain(cycle.workspace, cycle.store, cycle.settings.keep, ended)
    if promotion.promoted:
        return _said("Promoted", f"{promotion.version} is champion: {promotion.reason}")
    return _said("Kept", f"{promotion.version} is not promoted: {promotion.reason}")


def _tidy(workspace: Workspace) -> None:
    """Remove the half-written files of a flow that was killed; whoever writes to the store or to data/ does it there.

    Stages hold several files a photo, so they are gone through only when a training was not finished.
    """
    for path in workspace.root.glob(".*.part"):
        path.unlink(missing_ok=True)
    if memory.unfinished(workspace):
        for folder in (workspace.stages, workspace.runs, workspace.root / "weights"):
            files.remove_unfinished(folder)


def _interrupted(cycle: Cycle, now: Snapshot) -> Training | None:
    """The training that died, to be finished first, unless settings or photos are no longer what it was begun with."""
    training = memory.unfinished(cycle.workspace)
    if training is None:
        return None
    asked = training.asked
    log = run_logger()[0]
    wanted = _config(cycle.settings, warm=asked.start is not None)
    if (asked.config, training.precision) != (wanted, cycle.settings.precision):
        log.info("the unfinished training had other settings, so it is given up")
    elif not asked.photos.is_file() or compare(asked.photos, now.training).lost_photos:
        log.info("photos of the unfinished training are gone, so it is given up")
    elif asked.start and not Layout(asked.start).description.is_file():
        log.info("the networks that the unfinished training started from are gone, so it is given up")
    else:
        log.info("going on with the training begun at %s: %s", f"{training.begun:%Y-%m-%d %H:%M}", training.reason)
        return training
    return None


def _wanted(cycle: Cycle, now: Snapshot) -> Training | Verdict:
    """The training that the data of `now` is reason for, or why there is none."""
    settings, last = cycle.settings, memory.last(cycle.workspace)
    change = compare(last.photos if last else None, now.training)
    warm = None if cycle.again else _start(cycle, settings.warm)
    if not now.classes:
        why = _nothing_to_learn(cycle, now)
        if cycle.again or cycle.force:
            raise DataError(why)
        return Verdict(False, (why,))  # a schedule may begin before the first photo comes
    asked = TrainingRequest(
        photos=now.training,
        count=now.photos,
        data_digest=now.digest,
        classes=now.classes,
        config=_config(settings, warm=warm is not None),
        start=warm,
    )
    if cycle.again:
        verdict = _first(cycle, asked, last)
    else:
        verdict = judge(settings.when, change, last, datetime.now(UTC), force=cycle.force)
    retraining_page(verdict.retrain, verdict.reasons).publish()
    if not verdict.retrain:
        return verdict
    _demand_held_out(cycle, now)
    return Training(
        asked=asked,
        held_out=now.held_out,
        precision=settings.precision,
        reason=verdict.reasons[0],
        begun=datetime.now(UTC),
    )


def _first(cycle: Cycle, asked: TrainingRequest, last: Last | None) -> Verdict:
    """Whether to train from the start: unless that has just been done."""
    if last is not None and last.key == run_key(asked, cycle.settings) and not cycle.force:
        return Verdict(False, (f"photos, tags and settings are those of version {last.version}",))
    return Verdict(True, ("a training from the start was asked for",))


def _start(cycle: Cycle, warm: WarmSettings) -> Path | None:
    """The champion's networks, if they are at hand and shaped as the settings say."""
    champion = cycle.store.champion()
    if champion is None or not warm.start:
        return None
    folder = cycle.workspace.weights(champion.version)
    try:
        read_start(Layout(folder)).check(cycle.settings.train)
    except (RunError, ConfigError) as fault:
        run_logger()[0].warning("not starting from the champion %s: %s", champion.version, fault)
        return None
    return folder


def _config(settings: FlowSettings, *, warm: bool) -> TrainConfig:
    """The settings of a training; one that goes on from the champion needs fewer epochs."""
    config = settings.train
    if not warm:
        return config
    fit = config.classifier.fit
    shorter = fit.model_copy(update={"epochs": ceil(fit.epochs * settings.warm.epochs)})
    classifier = config.classifier.model_copy(update={"fit": shorter})
    return config.model_copy(update={"classifier": classifier, "rounds": settings.warm.rounds or config.rounds})


def _demand_held_out(cycle: Cycle, now: Snapshot) -> None:
    """See now, not after the training, that there is something to compare models on."""
    data = cycle.settings.data
    if data.masks is not None:
        load(data.masks, split=data.masks_split)
    elif not now.held_out_photos:
        raise DataError(
            f"{now.held_out}: of {now.photos:,} photos none is held out, so models cannot be compared; raise "
            "data.held_out, add photos, or name others with true masks as data.masks"
        )


def _nothing_to_learn(cycle: Cycle, now: Snapshot) -> str:
    rare = ", ".join(f"{tag} ({photos:,})" for tag, photos in list(now.rare.items())[:10])
    sources = ", ".join(str(each.root if isinstance(each, Source) else each) for each in cycle.sources)
    return (
        f"{sources}: no tag has the {cycle.settings.data.least_photos:,} photos that it takes to be learned"
        f"{f'; there are {rare}' if rare else ''}; add photos, or lower data.least_photos"
    )


def _tell(collected: Collected, now: Snapshot) -> None:
    """What was collected, in Prefect's pages and in the log."""
    page = collected_page(collected, now)
    page.publish()
    log = run_logger()[0]
    log.info("%s, data set %s", page.summary, now.digest[:12])
    for fault in (*collected.quarantined, *collected.left_out)[:FAULTS_SHOWN]:
        log.warning("left out: %s: %s", fault.where, fault.why)


def _said(name: str, why: str) -> State[Any]:
    run_logger()[0].info("%s: %s", name.lower(), why)
    return Completed(name=name, message=why)
