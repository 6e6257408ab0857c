"""Whether and what to train: the training in progress, a training from scratch, or one from the champion."""

from dataclasses import dataclass
from datetime import UTC, datetime
from math import ceil
from pathlib import Path

from flows.collection.lists import diff
from flows.collection.snapshots import Snapshot
from flows.learning.flow import TrainingRequest, run_key
from flows.orchestration.progress import run_logger
from flows.orchestration.tables import retraining_artifact
from flows.promotion.comparison import usable_champion
from flows.promotion.publication import Promotion
from flows.reasons import Verdict, reasons_to_retrain
from flows.settings import FlowSettings
from flows.state import REMEDY, PlannedTraining, last_training, training_in_progress
from flows.workspace import Workspace
from tagmask.bundle import read_samples
from tagmask.errors import ConfigError, DataError, RunError
from tagmask.metadata import sample_digests
from tagmask.store import Store
from tagmask.wording import count
from training.config import TrainConfig
from training.datasets import load
from training.networks.parity import check_precision
from training.run.layout import Layout
from training.run.start import read_start


@dataclass(frozen=True)
class NothingToTrain:
    """There is nothing to train, and why."""

    reason: str


def resume_training(workspace: Workspace, snapshot: Snapshot, settings: FlowSettings) -> PlannedTraining | None:
    """The training in progress, unless its settings have changed, or its photos or starting weights are gone.

    One that cannot be read is dropped too, as one of another version has other settings and other code for its stages.
    """
    log = run_logger()[0]
    try:
        training = training_in_progress(workspace)
    except RunError as error:
        log.warning("dropping the training in progress: %s", str(error).removesuffix(f"; {REMEDY}"))
        return None
    if training is None:
        return None
    request = training.request
    config = _config(settings, warm=request.start is not None)
    if (request.config, training.precision) != (config, settings.precision):
        log.info("dropping the training in progress: the settings have changed")
    elif not request.photos.is_file() or diff(request.photos, snapshot.training).lost_photos:
        log.info("dropping the training in progress: photos are gone")
    elif request.start and not Layout(request.start).description.is_file():
        log.info("dropping the training in progress: the weights it started from are gone")
    else:
        log.info("resuming the training of %s: %s", f"{training.planned_at:%Y-%m-%d %H:%M}", training.reason)
        return training
    return None


def plan_training(
    workspace: Workspace, snapshot: Snapshot, settings: FlowSettings, *, force: bool
) -> PlannedTraining | NothingToTrain:
    """A training from scratch, unless the last one had the same photos, tags and settings and the store has its bundle.

    Raises DataError when there are no classes, nothing to compare models on, or too few photos for the precision.
    """
    if not snapshot.classes:
        raise DataError(_no_classes(workspace, snapshot, settings))
    request = _request(snapshot, settings, start=None)
    last = last_training(workspace)
    if last is None or last.key != run_key(request, settings) or force:
        verdict = Verdict(True, ("training from scratch was requested",))
    elif Store(workspace.store).is_intact(last.promotion.version):
        verdict = Verdict(False, (f"photos, tags and settings are those of version {last.promotion.version}",))
    else:
        reason = f"version {last.promotion.version} is not in the store {workspace.store}, or damaged"
        verdict = Verdict(True, (reason,))
    retraining_artifact(verdict.train, verdict.reasons).publish()
    return _planned(request, snapshot, settings, verdict) if verdict.train else NothingToTrain(verdict.reasons[0])


def plan_retraining(
    workspace: Workspace, snapshot: Snapshot, settings: FlowSettings, *, force: bool
) -> PlannedTraining | NothingToTrain:
    """A training from the champion, if there is a reason for it; without usable weights, one from scratch.

    Raises DataError as `plan_training`, but without `force` no classes are no error: a schedule may start before the
    first photos arrive.
    """
    if not snapshot.classes:
        reason = _no_classes(workspace, snapshot, settings)
        if force:
            raise DataError(reason)
        return NothingToTrain(reason)
    last = last_training(workspace)
    change = diff(last.photos if last else None, snapshot.training)
    lost = last is not None and _is_lost(Store(workspace.store), last.promotion)
    verdict = reasons_to_retrain(settings.trigger, change, last, datetime.now(UTC), force=force, lost=lost)
    retraining_artifact(verdict.train, verdict.reasons).publish()
    if not verdict.train:
        return NothingToTrain(verdict.reasons[0])
    request = _request(snapshot, settings, start=_champion_weights(workspace, settings))
    return _planned(request, snapshot, settings, verdict)


def _is_lost(store: Store, promotion: Promotion) -> bool:
    """Whether what a training brought to the store is gone, and nothing has taken its place."""
    return usable_champion(store) is None and (promotion.promoted or not store.has(promotion.version))


def _request(snapshot: Snapshot, settings: FlowSettings, start: Path | None) -> TrainingRequest:
    return TrainingRequest(
        photos=snapshot.training,
        count=snapshot.photos,
        corrected=snapshot.corrected,
        data_digest=snapshot.digest,
        classes=snapshot.classes,
        config=_config(settings, warm=start is not None),
        start=start,
    )


def _planned(request: TrainingRequest, snapshot: Snapshot, settings: FlowSettings, verdict: Verdict) -> PlannedTraining:
    """Check before the training, not after it, that there are photos to compare models on, and to quantize with."""
    check_precision(settings.precision, snapshot.photos)
    if settings.data.masks is not None:
        load(settings.data.masks, split=settings.data.masks_split)
    elif not snapshot.held_out_photos:
        raise DataError(
            f"{snapshot.held_out}: the held-out set is empty, so models cannot be compared; raise data.held_out, add "
            f"photos (there are {snapshot.photos:,}), or set data.masks to a data set with ground-truth masks"
        )
    return PlannedTraining(
        request=request,
        held_out=snapshot.held_out,
        precision=settings.precision,
        reason=verdict.reasons[0],
        planned_at=datetime.now(UTC),
    )


def _champion_weights(workspace: Workspace, settings: FlowSettings) -> Path | None:
    """Folder of the champion's networks, if the workspace has them and the settings fit them."""
    champion = usable_champion(Store(workspace.store))
    if champion is None or not settings.warm_start.enabled:
        return None
    folder = workspace.weights(champion.version)
    if fault := _forgotten_fault(workspace, Store(workspace.store).path(champion.version)):
        run_logger()[0].warning("not starting from champion %s: %s", champion.version, fault)
        return None
    try:
        read_start(Layout(folder)).check(settings.train)
    except (RunError, ConfigError) as error:
        run_logger()[0].warning("not starting from champion %s: %s", champion.version, error)
        return None
    return folder


def _forgotten_fault(workspace: Workspace, bundle: Path) -> str | None:
    """Why the networks of `bundle` cannot be started from, if they learned from samples that are forgotten."""
    forgotten = sample_digests(workspace.forgotten)
    if not forgotten:
        return None
    learned = read_samples(bundle)
    if learned is None:
        return "samples were forgotten, and its bundle does not record what it learned from"
    known = len(forgotten & learned)
    return f"it learned from {count(known, 'sample')} forgotten since" if known else None


def _config(settings: FlowSettings, *, warm: bool) -> TrainConfig:
    """The settings of a training; a warm start needs fewer epochs."""
    config = settings.train
    if not warm:
        return config
    fit = config.classifier.fit
    shorter = fit.model_copy(update={"epochs": ceil(fit.epochs * settings.warm_start.epochs_factor)})
    classifier = config.classifier.model_copy(update={"fit": shorter})
    return config.model_copy(update={"classifier": classifier, "rounds": settings.warm_start.rounds or config.rounds})


def _no_classes(workspace: Workspace, snapshot: Snapshot, settings: FlowSettings) -> str:
    rare = ", ".join(f"{tag}: {photos:,}" for tag, photos in list(snapshot.rare.items())[:10])
    return (
        f"{workspace.data}: no tag has the {settings.data.min_photos:,} photos needed to become a class"
        f"{f' ({rare})' if rare else ''}; add photos, or lower data.min_photos"
    )
