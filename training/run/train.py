"""One run from tagged photos to a bundle: what `tagmask train` does."""

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tagmask import files
from tagmask.bundle import SMALLEST, Metadata, Precision, Supervision
from tagmask.errors import RunError
from tagmask.masks import BACKGROUND
from tagmask.photos import read_photo
from tagmask.progress import Progress, Silent
from training.config import TrainConfig
from training.datasets.photos import TaggedPhotos
from training.fitting import devices
from training.networks.backbones import Backbone, Weights
from training.networks.export import export
from training.networks.pixelnet import PixelNet
from training.networks.start import read_start
from training.networks.trainer import Trainer
from training.run.description import Description, read_description, write_photos
from training.run.layout import Layout
from training.run.ledger import Ledger
from training.run.rounds import Run, run_rounds, weights_digest
from training.stages.localization import load_localizer
from training.stages.saliency import OnnxSaliency


@dataclass(frozen=True)
class Outcome:
    """What a run ended with: its bundle, the ledger, and the round whose PixelNet the bundle holds.

    `first` is False in the processes that only helped to train, under `torchrun`.
    """

    model: Path
    ledger: Ledger
    kept: int
    weights_digest: str
    first: bool


def train(
    data: TaggedPhotos,
    out: Path,
    config: TrainConfig,
    *,
    device: str = "auto",
    resume: bool = False,
    workers: int = 1,
    precision: Precision = "fp32",
    start: Path | None = None,
    progress: Progress | None = None,
) -> Outcome:
    """Learn from `data`'s tags and write everything to the folder `out`, `out`/model.onnx last.

    `workers` processes run the per-photo stages; the networks train on `device` ("auto", "cpu" or "cuda"), going on
    from those of the finished run in the folder `start` if one is given. With `resume` a run that was stopped goes on,
    and a finished one is returned as it is.
    Raises RunError when `out` holds a run and `resume` is not set, or a run of other data or settings, or `start` none
    that is finished, and ConfigError for a device that is not there, networks of `start` that are shaped otherwise, and
    a backbone, weights or a saliency network that cannot be used.
    """
    layout = Layout(out)
    where = devices.choose(device)
    weights = initial_weights(config)
    _try_networks(config, weights)
    earlier = read_start(Layout(start)) if start else None
    if earlier is not None:
        earlier.check(config)
    with devices.process_group(where):
        if devices.rank() == 0:
            asked = Description(
                data_digest=data.digest(),
                photos=len(data.photos),
                classes=data.classes,
                settings=config,
                start=earlier.digest() if earlier else None,
            )
            _begin(layout, asked, resume)
            if not layout.photos.is_file():
                write_photos(layout, data)
        devices.wait_for_all()
        ledger = Ledger(layout.ledger)
        trainer = Trainer(data, layout, config, weights, where, earlier)
        run = Run(trainer, workers, ledger, progress or Silent())
        kept = run_rounds(run)
        if devices.rank() == 0 and (ledger.find(kept, "export") is None or not layout.model.is_file()):
            written = export_round(run, kept, layout.model, precision=precision)
            ledger.add(kept, "export", file=layout.model.name, weights_digest=written)
        devices.wait_for_all()
        ledger.reload()
        line = ledger.find(kept, "export")
        assert line is not None
        return Outcome(layout.model, ledger, kept, line["weights_digest"], devices.rank() == 0)


def export_round(
    run: Run, number: int, path: Path, *, precision: Precision = "fp32", supervision: Supervision = "tags"
) -> str:
    """Write round `number`'s PixelNet as a bundle to `path`, tried on the first photos; returns its weights digest."""
    data, config = run.trainer.data, run.trainer.config
    network = load_localizer(run.layout, number, len(data.classes), config)
    assert isinstance(network, PixelNet)
    digest = weights_digest(network.state_dict())
    photos = [read_photo(photo.path, config.long_side) for photo in data.photos[:4]]
    export(network, path, _describe(run, number, digest, supervision), precision=precision, photos=photos)
    return digest


def _describe(run: Run, kept: int, digest: str, supervision: Supervision) -> Metadata:
    """The metadata of the bundle that holds round `kept`'s PixelNet."""
    data, config = run.trainer.data, run.trainer.config
    network = config.saliency.network
    decision = run.ledger.find(kept, "decision") or {}
    return Metadata(
        tagmask=version("tagmask"),
        weights_digest=digest,
        classes=(BACKGROUND, *data.classes),
        working_size=max(SMALLEST, round(config.long_side * config.served_scale)),
        backbone=config.backbone,
        rounds=kept,
        photos=len(data.photos),
        data_digest=read_description(run.layout).data_digest,
        supervision=supervision,
        saliency=network.name if network else "unsupervised",
        metrics={name: decision[name] for name in ("consistency", "coverage", "agreement") if name in decision},
        settings=config.model_dump(mode="json"),
    )


def _try_networks(config: TrainConfig, weights: Weights) -> None:
    """Load what the settings name, so that what cannot be used is told before anything is written."""
    Backbone(config.backbone, weights)
    if config.saliency.network:
        OnnxSaliency(config.saliency.network)


def initial_weights(config: TrainConfig) -> Weights:
    """What the setting `weights` means to a backbone."""
    return "random" if config.weights == "random" else Path(config.weights) if config.weights else None


def _begin(layout: Layout, asked: Description, resume: bool) -> None:
    """Write what the run is, or see that it is the same as the one that is there."""
    files.remove_unfinished(layout.root)
    if not layout.description.is_file():
        if layout.root.is_dir() and any(layout.root.iterdir()):
            raise RunError(f"{layout.root}: holds other files; give an empty or new folder as --out")
        files.write_text(layout.description, asked.model_dump_json(indent=2) + "\n")
        return
    if not resume:
        raise RunError(f"{layout.root}: holds a run already; add --resume to go on with it, or give another --out")
    there, now = read_description(layout).model_dump(mode="json"), asked.model_dump(mode="json")
    for name in ("classes", "data_digest", "settings", "start"):  # the digest is of the classes too
        if there[name] != now[name]:
            what = _difference(there[name], now[name], name)
            raise RunError(f"{layout.root}: cannot go on, {what} changed since; undo that, or give another --out")


def _difference(there: Any, asked: Any, name: str) -> str:
    """Dotted name of the first setting that differs."""
    if isinstance(there, dict) and isinstance(asked, dict):
        for key in sorted(there.keys() | asked.keys()):
            if there.get(key) != asked.get(key):
                return _difference(there.get(key), asked.get(key), key if name == "settings" else f"{name}.{key}")
    if name == "data_digest":
        return "the photos or their tags"
    if name == "start":
        return "the run that it starts from"
    return f"{name} ({there} then, {asked} now)"
