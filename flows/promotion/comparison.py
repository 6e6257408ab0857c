"""Champion and challenger on the same held-out photos, and the gate's decision on the result."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE
from pydantic import ValidationError

from flows.collection.lists import photos_digest
from flows.learning.flow import TrainingResult
from flows.orchestration.progress import PrefectProgress, run_logger
from flows.promotion.gate import GateDecision, decide
from flows.settings import FlowSettings
from tagmask.bundle import CORRECTED, read_bundle, read_metadata, read_samples
from tagmask.metadata import sample_digest
from tagmask.store import Champion, Store
from training.datasets import load
from training.datasets.photos import Photo, TaggedPhotos
from training.evaluation.compare import Comparison, compare, compared_photos


def compare_with_champion(
    store: Store, result: TrainingResult, photos: Path, held_out: Path, settings: FlowSettings
) -> GateDecision | None:
    """The gate's decision on a finished training; None if its bundle already is the champion.

    The models are compared on the photos listed in `held_out`, and on the corrections there and in `photos`, the list
    of the training, from which neither learned; or on the data set `settings.data.masks`. A comparison that a killed
    flow had published with the bundle is not repeated. Raises TagmaskError when a bundle, the photos or the store
    cannot be used.
    """
    champion = usable_champion(store)
    if champion is not None and champion.version == result.version:
        return None
    previous = None
    if champion:  # a damaged one would lose, so its checksum is verified
        previous = read_bundle(store.path(champion.version), store.record(champion.version).sha256).path
    masks = settings.data.masks
    data = load(masks, split=settings.data.masks_split) if masks else load(held_out)
    corrected: list[Photo] = []
    if previous and not masks:
        corrected = corrections_not_learned((photos, held_out), (result.model, previous))
    digest = photos_digest((*data.photos, *corrected))
    comparison = _published_comparison(store, result.version, champion, digest)
    if comparison is None:
        comparison = measure_models(result.model, previous, data, corrected, settings.device)
    return decide(settings.gate, comparison, digest)


def corrections_not_learned(lists: Iterable[Path], bundles: Iterable[Path]) -> list[Photo]:
    """The corrected photos of `lists` from whose corrections none of `bundles` learned."""
    learned = frozenset[str]().union(*(read_samples(bundle, CORRECTED) or () for bundle in bundles))
    photos = (photo for path in lists for photo in load(path).photos if photo.correction)
    return [photo for photo in photos if sample_digest(photo.path.stem) not in learned]


def usable_champion(store: Store) -> Champion | None:
    """The champion if its bundle is in the store; otherwise None, and a word about it in the log."""
    champion = store.champion()
    if champion is None or store.has(champion.version):
        return champion
    run_logger()[0].warning("champion %s is not in the store %s: going on without one", champion.version, store.root)
    return None


def _published_comparison(store: Store, version: str, champion: Champion | None, digest: str) -> Comparison | None:
    """The comparison in the bundle `version`, if it is with this champion, on the photos of this digest."""
    if not store.has(version):
        return None
    try:
        decision = GateDecision.model_validate(read_metadata(store.path(version)).decision)
    except ValidationError:  # none, or one of another version of Tagmask
        return None
    same = decision.champion == (champion.version if champion else None) and decision.held_out == digest
    return decision.comparison if same else None


@task(task_run_name="compare", cache_policy=NO_CACHE, persist_result=False)
def measure_models(
    challenger: Path, champion: Path | None, data: TaggedPhotos, corrected: Sequence[Photo], device: str
) -> Comparison:
    """`training.evaluation.compare.compare` as a Prefect task that shows its progress."""
    names = {name for path in (challenger, champion) if path for name in read_metadata(path).classes[1:]}
    title = "comparing with the champion" if champion else "measuring the first model"
    photos = len(compared_photos(data, sorted(names))) + 2 * len(corrected)
    with PrefectProgress().stage(title, photos) as advance:
        return compare(challenger, champion, data, corrected=corrected, device=device, advance=advance)
