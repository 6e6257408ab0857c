"""The order of things: preparation, then round after round, and which round is kept.

Every finished stage has a line in the run's ledger. A run that was stopped passes over the stages that have one and
over the photos whose files are there, and goes on from the last checkpoint of a training.
"""

import hashlib
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from training import devices, measure, stages
from training.backbones import Weights
from training.classifier import TagClassifier, train_classifier
from training.config import KeepConfig, TrainConfig
from training.data.photos import VOID, Photo, TaggedPhotos, read_mask
from training.layout import Layout, Round
from training.ledger import Ledger, Line
from training.localize import localize
from training.loop import Fitted
from training.metrics import Confusion
from training.parallel import exhaust, map_photos, processes
from training.pixelnet import PixelNet, train_pixelnet
from training.progress import Advance, Progress
from training.regionnet import RegionNet, relabel, train_regionnet


@dataclass(frozen=True)
class Run:
    """One training run: what it learns from, where it writes, and how it computes."""

    data: TaggedPhotos
    layout: Layout
    config: TrainConfig
    weights: Weights
    device: torch.device
    workers: int
    ledger: Ledger
    progress: Progress


def run_rounds(run: Run) -> int:
    """Run everything that the ledger does not have yet; returns the number of the round that is kept.

    Under `torchrun` every process calls this; all train together, the first alone does the rest.
    """
    prepare(run)
    kept = 0
    for number in range(1, run.config.rounds + 1):
        pass_through(run, number)
        line = _stage(run, number, "decision", partial(_decide, run, number))
        if not line["kept"]:
            break
        kept = number
    return kept


def prepare(run: Run) -> None:
    """Superpixels, saliency, the tag classifier and its class maps: all that does not change from round to round."""
    layout, config = run.layout, run.config
    _each_photo(run, 0, "superpixels", partial(stages.cut, layout=layout, config=config))
    _each_photo(run, 0, "saliency", partial(stages.stand_out, layout=layout, config=config))
    torch.manual_seed(config.seed)
    classifier = TagClassifier(len(run.data.classes), config.backbone, run.weights)
    train = partial(train_classifier, classifier, run.data, layout.round(0).localizer, config.classifier)
    _fit(run, 0, "classifier", config.classifier.fit.epochs, partial(train, long_side=config.long_side))
    _localize(run, 0, classifier, "maps")


def pass_through(run: Run, number: int) -> None:
    """One round: seeds, RegionNet, refinement, DenseCRF, PixelNet, and PixelNet's masks for the next round."""
    data, layout, config = run.data, run.layout, run.config
    shared: dict[str, Any] = {"layout": layout, "number": number, "classes": data.classes, "config": config}
    _each_photo(run, number, "seeds", partial(stages.seed, **shared), "seeds")
    _mine(run, number)
    if number == 1:
        _each_photo(run, number, "refined", partial(stages.refine_regions, **shared), "refined")
    _each_photo(run, number, "labels", partial(stages.smooth, **shared), "labels")
    network = train_labels(run, number, partial(_read_labels, layout.round(number)))
    _localize(run, number, network, "masks")


def train_labels(run: Run, number: int, mask: Callable[[Photo], np.ndarray]) -> PixelNet:
    """Train round `number`'s PixelNet on `mask(photo)`, (H, W) uint8; later rounds go on from the round before."""
    config = run.config.pixelnet
    torch.manual_seed(run.config.seed + number)
    # The backbone starts from the tag classifier's, which knows the classes already.
    network = PixelNet(len(run.data.classes) + 1, run.config.backbone, config.width, "random")
    if number == 1:
        start = TagClassifier(len(run.data.classes), run.config.backbone, "random")
        start.load_state_dict(_load(run.layout.round(0).localizer))
        network.backbone.load_state_dict(start.backbone.state_dict())
    else:
        network.load_state_dict(_load(run.layout.round(number - 1).localizer))
    if run.weights != "random":
        network.backbone.freeze_shallow()
    fit = config.fit if number == 1 else config.later_fit
    train = partial(
        train_pixelnet, network, run.data, mask, run.layout.round(number).localizer, fit, config.augment,
        long_side=run.config.long_side,
    )  # fmt: skip
    _fit(run, number, "pixelnet", fit.epochs, train)
    return network


def weights_digest(state: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 hex digest of a state dict: names, shapes and bytes, in order of name."""
    total = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        total.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        total.update(tensor.numpy().tobytes())
    return total.hexdigest()


def _mine(run: Run, number: int) -> None:
    """Train RegionNet on the round's seeds, then let it relabel every superpixel."""
    data, layout, config = run.data, run.layout, run.config
    here, before = layout.round(number), layout.round(number - 1)

    def seeds(index: int) -> tuple[np.ndarray, np.ndarray]:
        photo = data.photos[index]
        labels = np.load(here.seeds(photo.id))
        sure = labels != VOID
        return np.load(before.features(photo.id), mmap_mode="r")[sure], labels[sure]

    features = np.load(before.features(data.photos[0].id), mmap_mode="r").shape[1]
    torch.manual_seed(config.seed + 1000 + number)
    network = RegionNet(features, len(data.classes) + 1, config.regionnet)
    train = partial(train_regionnet, network, len(data.photos), seeds, here.regionnet, config.regionnet)
    _fit(run, number, "regionnet", config.regionnet.fit.epochs, train)
    _stage(run, number, "regions", lambda advance: relabel(network, data, layout, number, advance), "regions")


def _localize(run: Run, number: int, network: TagClassifier | PixelNet, stage: str) -> None:
    """Where each tag is, by the trained network of round `number`; on CPU one photo a thread, as torch scales less."""
    config = run.config.classifier.maps if number == 0 else run.config.pixelnet.maps
    work = partial(
        localize,
        layout=run.layout,
        number=number,
        classes=run.data.classes,
        network=network.eval(),
        config=config,
        long_side=run.config.long_side,
        device=run.device,
    )

    def all_photos(advance: Advance) -> None:
        threads = torch.get_num_threads()
        workers = 1 if run.device.type == "cuda" else threads
        torch.set_num_threads(max(1, threads // workers))
        try:
            with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
                exhaust(map_photos(work, run.data.photos, pool=pool, workers=workers, advance=advance))
        finally:
            torch.set_num_threads(threads)

    _stage(run, number, stage, all_photos, "maps")


def _decide(run: Run, number: int, advance: Advance) -> dict[str, Any]:
    """The round's label-free quality, and whether the round is kept."""
    quality = measure.round_quality(run.data, run.layout, number)
    before = run.ledger.find(number - 1, "decision")
    faults = degradations(asdict(quality), before, run.config.keep)
    return {**asdict(quality), "kept": not faults or number == 1, "why": "; ".join(faults)}


def degradations(quality: Mapping[str, float], before: Mapping[str, Any] | None, config: KeepConfig) -> list[str]:
    """In words, what makes a round worse than the one before; empty when it may be kept."""
    if before is None:
        return []
    faults = []
    if quality["consistency"] < before["consistency"] - config.consistency_loss:
        faults.append(f"tag consistency fell from {before['consistency']:.3f} to {quality['consistency']:.3f}")
    ratio = quality["coverage"] / max(before["coverage"], 1e-6)
    if not 1 / config.coverage_change <= ratio <= config.coverage_change:
        faults.append(f"coverage went from {before['coverage']:.3f} to {quality['coverage']:.3f}")
    if quality["agreement"] < config.agreement:
        faults.append(f"only {quality['agreement']:.3f} of the pixels agree with the round before")
    return faults


def _read_labels(here: Round, photo: Photo) -> np.ndarray:
    return read_mask(here.labels(photo.id))


def _each_photo(run: Run, number: int, stage: str, work: Callable[[Photo], None], scored: str | None = None) -> None:
    def all_photos(advance: Advance) -> None:
        with processes(run.workers) as pool:
            exhaust(map_photos(work, run.data.photos, pool=pool, workers=run.workers, advance=advance))

    _stage(run, number, stage, all_photos, scored)


def _fit(run: Run, number: int, stage: str, epochs: int, train: Callable[..., Fitted | None]) -> None:
    """A training, by every process together; the network ends with its trained weights in each."""
    total = epochs * len(run.data.photos)
    seed = run.config.seed * 1000 + number
    if run.ledger.find(number, stage):
        train(device=run.device, seed=seed)
        return
    with run.progress.stage(_title(number, stage), total) as advance:
        fitted = train(device=run.device, seed=seed, advance=advance)
    if devices.rank() == 0:
        told = {} if fitted is None else {"seconds": fitted.seconds, "waiting": fitted.waiting, "losses": fitted.losses}
        run.ledger.add(number, stage, photos=total, **told)
    devices.wait_for_all()


def _stage(
    run: Run, number: int, stage: str, work: Callable[[Advance], dict[str, Any] | None], scored: str | None = None
) -> Line:
    """A stage of the first process: run it unless the ledger has it, measure it if it can be, write its line."""
    if devices.rank() == 0 and run.ledger.find(number, stage) is None:
        with run.progress.stage(_title(number, stage), len(run.data.photos)) as advance:
            begun = time.perf_counter()
            told = work(advance) or {}
            seconds = time.perf_counter() - begun
        if scored is not None:
            told |= _score(run, number, scored)
        run.ledger.add(number, stage, photos=len(run.data.photos), seconds=seconds, **told)
    devices.wait_for_all()
    run.ledger.reload()
    line = run.ledger.find(number, stage)
    assert line is not None
    return line


def _score(run: Run, number: int, stage: str) -> dict[str, Any]:
    """mIoU of a stage's masks where true masks are at hand, and for seeds their precision and coverage."""
    photos = [photo for photo in run.data.photos if photo.mask is not None]
    if not photos:
        return {}
    total = Confusion(len(run.data.classes) + 1)
    work = partial(
        measure.stage_counts,
        stage=stage,
        layout=run.layout,
        number=number,
        classes=run.data.classes,
        mask_classes=run.data.mask_classes,
    )
    with (
        processes(run.workers) as pool,
        run.progress.stage(f"{_title(number, stage)}, measured", len(photos)) as advance,
    ):
        for counts in map_photos(work, photos, pool=pool, workers=run.workers, advance=advance):
            if counts is not None:
                total.counts += counts
    figures: dict[str, Any] = {"miou": total.miou(), "iou": [None if np.isnan(x) else float(x) for x in total.iou()]}
    if stage == "seeds":
        sure = total.counts[:, :-1]
        figures["precision"] = 100 * float(np.trace(sure) / max(1, sure.sum()))
        figures["sure"] = 100 * float(sure.sum() / max(1, total.counts.sum()))
    return figures


def _title(number: int, stage: str) -> str:
    return stage if number == 0 else f"round {number}: {stage}"


def _load(path: Any) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return state
