"""From a finished training to the champion: comparison, gate, publication and promotion.

Each part is done once: a flow that was killed in between goes on here, by what the store already holds.
"""

import hashlib
import shutil
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE
from pydantic import BaseModel, ConfigDict, ValidationError

from flows.learning.flow import TrainingResult
from flows.orchestration.progress import PrefectProgress, run_logger
from flows.orchestration.tables import classes_page, promotion_page
from flows.promotion.gate import Decision, decide, figure_rows, text
from flows.settings import FlowSettings
from flows.workspace import Workspace
from tagmask import files
from tagmask.bundle import read_bundle, read_metadata, write_decision
from tagmask.store import Champion, Store
from training.datasets import load
from training.datasets.photos import TaggedPhotos
from training.evaluation.compare import Comparison, compare, compared_photos
from training.networks.start import read_start
from training.run.layout import Layout


class Promotion(BaseModel):
    """What became of a challenger, and why in one sentence."""

    model_config = ConfigDict(frozen=True)

    version: str
    promoted: bool
    reason: str


def promote(
    workspace: Workspace, store: Store, learned: TrainingResult, held_out: Path, settings: FlowSettings
) -> Promotion:
    """Compare a finished training with the champion, publish it, and make it champion if it is better.

    `held_out` lists the photos to compare on, unless the settings name photos with true masks. The decision is in the
    bundle, in the store's history and in Prefect's pages. Raises TagmaskError's and TagmaskError's kinds when a bundle,
    the photos or the store cannot be used.
    """
    champion = store.champion()
    keep_networks(workspace, learned)
    if champion is not None and champion.version == learned.version:
        return Promotion(version=learned.version, promoted=True, reason="it is the champion")
    published = learned.version in store.versions()
    masks = settings.data.masks
    data = load(masks, split=settings.data.masks_split) if masks else load(held_out)
    compared = _digest(data)
    comparison = _recorded(store.path(learned.version), champion, compared) if published else None
    if comparison is None:
        before = _whole(store, champion) if champion else None
        comparison = _compare(learned.model, before, data, settings.device)
    decision = decide(settings.gate, comparison, compared)
    if not published:  # what is published does not change
        write_decision(learned.model, decision.model_dump(mode="json"))
        store.publish(learned.model)
    _tell(store, decision)
    if decision.promoted:
        store.promote(learned.version, expected=decision.champion)
    return Promotion(version=learned.version, promoted=decision.promoted, reason=decision.reason)


def keep_networks(workspace: Workspace, learned: TrainingResult) -> None:
    """Keep a run's networks by its bundle's version, so that a later training can go on from them."""
    target, run = workspace.weights(learned.version), Layout(learned.model.parent)
    if (target / run.description.name).is_file():
        return
    for file in read_start(run).files():
        with file.open("rb") as source, files.atomic_write(target / file.relative_to(run.root)) as copy:
            shutil.copyfileobj(source, copy)
    for file in (run.ledger, run.description):  # the description last: a folder without it is no run
        files.write_text(target / file.name, file.read_text(encoding="utf-8"))


def _recorded(bundle: Path, champion: Champion | None, compared: str) -> Comparison | None:
    """What is in a published bundle of its comparison with the champion of now, on photos of the digest `compared`."""
    try:
        decision = Decision.model_validate(read_metadata(bundle).decision)
    except ValidationError:  # none, or one of another Tagmask
        return None
    same = decision.champion == (champion.version if champion else None) and decision.held_out == compared
    return decision.comparison if same else None


def _whole(store: Store, champion: Champion) -> Path:
    """The champion's file, checked, as a damaged champion would lose."""
    return read_bundle(store.path(champion.version), store.record(champion.version).sha256).path


def _digest(data: TaggedPhotos) -> str:
    words = "\n".join(f"{photo.id}\0{' '.join(photo.tags)}" for photo in data.photos)
    return hashlib.sha256(words.encode()).hexdigest()


@task(task_run_name="compare", cache_policy=NO_CACHE, persist_result=False)
def _compare(challenger: Path, champion: Path | None, data: TaggedPhotos, device: str) -> Comparison:
    names = {name for path in (challenger, champion) if path for name in read_metadata(path).classes[1:]}
    total = len(compared_photos(data, sorted(names)))
    title = "comparing with the champion" if champion else "measuring the first model"
    with PrefectProgress().stage(title, total) as advance:
        return compare(challenger, champion, data, device=device, advance=advance)


def _tell(store: Store, decision: Decision) -> None:
    """The decision in the store's history, in Prefect's pages and in the log."""
    compared = decision.comparison
    reasons = [rule.sentence for rule in decision.rules] or [decision.reason]
    figures = compared.model_dump(mode="json", exclude={"faults"})
    store.record_decision(decision.challenger, promoted=decision.promoted, reasons=reasons, figures=figures)
    promotion_page(decision, figure_rows(decision)).publish()
    models = {"champion": compared.champion, "challenger": compared.challenger}
    known = {name: figures for name, figures in models.items() if figures is not None and figures.iou}
    if known:
        iou = {label: {name: each.iou.get(label) for name, each in known.items()} for label in compared.challenger.iou}
        classes_page(iou, {name: each.miou for name, each in known.items()}).publish()
    run_logger()[0].info(text(decision))
