"""One run from tagged photos to a bundle: what `tagmask train` does."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from tagmask.bundle import write_measured
from tagmask.disk import writable
from tagmask.inputs import Precision, local_path
from tagmask.masks import BACKGROUND
from tagmask.metadata import MIN_INPUT_SIDE, TAGS, Metadata, Supervision
from tagmask.photos import read_photo, scale_to
from tagmask.progress import Advance, Progress, Silent, silent
from tagmask.scores import Measured
from tagmask.segmenter import Segmenter
from training.config import TrainConfig
from training.datasets.held_out import hold_out
from training.datasets.parallel import processes
from training.datasets.photos import Photo, TaggedPhotos
from training.evaluation.corrected import measure
from training.fitting import devices
from training.fitting.loop import check_open_files
from training.fitting.tag_regression import fit_tag_head
from training.networks.backbones import Backbone
from training.networks.export import export, weights_digest
from training.networks.parity import PARITY_PHOTOS, check_precision
from training.networks.pixelnet import PixelNet
from training.networks.saliency import OnnxSaliency
from training.networks.taghead import ServedNetwork
from training.networks.weights import initial_weights
from training.report.tensorboard import TensorBoard, event_file_writer
from training.run.description import begin_or_resume, describe, read_description, write_photos
from training.run.executor import Figures, execute
from training.run.layout import Layout
from training.run.learned import read_corrected, read_learned, record_learned
from training.run.ledger import Ledger, Line
from training.run.local import LocalBackend, SharedLedger
from training.run.plan import export_steps
from training.run.start import read_start
from training.stages import least_areas
from training.stages.doubts import leave_out_doubts
from training.stages.network import TrainingContext
from training.stages.pixelnet import PixelNetTraining


@dataclass(frozen=True)
class RunResult:
    """The result of a run: its bundle, the ledger, and the round whose PixelNet the bundle holds.

    `measured` is its accuracy on held-out corrections, if there are any. `first` is False in the other processes of
    `torchrun`.
    """

    model: Path
    ledger: Ledger
    kept: int
    weights_digest: str
    measured: Measured | None
    first: bool

    @property
    def decision(self) -> Line:
        """The line of the decision that kept the round."""
        line = self.ledger.find(self.kept, "decision")
        assert line is not None
        return line


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
    tensorboard: Path | None = None,
    progress: Progress | None = None,
) -> RunResult:
    """Learn from the tags of `data` and write everything to the folder `out`, `out`/model.onnx last.

    `workers` processes run the photo stages; the networks are trained on `device` ("auto", "cpu" or "cuda"), starting
    from those of the finished run in the folder `start`, if any. With `resume` a stopped run is continued; a
    finished one is returned as it is. The run is also written to the folder `tensorboard`, if any, below the name of
    `out`: see `training.report.tensorboard`.
    Raises RunError if `out` cannot be written, if another training is writing to it, if it holds a run and `resume` is
    not set, or a run of other data or settings, or if `start` is not finished; ConfigError for a device that is not
    available, too few files that may be open, networks of `start` that have another shape, a backbone, weights or a
    saliency network that cannot be used, and `tensorboard` without its library; DataError for fewer photos
    than `precision` needs.
    """
    layout = Layout(local_path(out))
    torch_device = devices.choose(device)
    # Before anything is written:
    check_open_files()
    _check_networks(config)
    check_precision(precision, len(data.photos))
    if tensorboard:
        event_file_writer()
    earlier = read_start(Layout(local_path(start))) if start else None
    if earlier is not None:
        earlier.check(config)
    with writable(layout.root), devices.process_group(torch_device), ExitStack() as stack:
        if devices.rank() == 0:
            photo_digests = data.photo_digests()
            description = describe(data, data.digest(photo_digests), config, earlier)
            stack.enter_context(begin_or_resume(layout, description, resume))
            write_photos(layout, data)  # also of a run that is resumed, as they may have moved
        devices.wait_for_all()
        data, held_out = hold_out(data, read_description(layout).held_out)
        if devices.rank() == 0 and not layout.samples.is_file():
            record_learned(layout, data, photo_digests, earlier.root if earlier else None)
        ledger = SharedLedger(layout.ledger)
        context = TrainingContext(data, layout.root, str(torch_device), earlier, held_out)
        watch = None
        if tensorboard and devices.rank() == 0:
            events = local_path(tensorboard) / layout.root.resolve().name
            watch = stack.enter_context(TensorBoard(events, layout, data, config)).add
        with processes(workers) as pool:
            kept = execute(config, ledger, LocalBackend(context, ledger, pool, workers, progress or Silent()), watch)
        line = ledger.find(kept, "export")
        missing = line is None or not layout.model.is_file()
        devices.wait_for_all()  # before the first process writes the file
        if missing:
            figures: Figures = {}
            if devices.rank() == 0:
                steps = export_steps(len(data.photos), len(held_out), precision)
                with (progress or Silent()).stage("export", steps) as advance:
                    figures = export_round(context, config, kept, layout.model, precision=precision, advance=advance)
            line = ledger.add(kept, "export", file=layout.model.name, **figures)
        assert line is not None
        measured = Measured.from_json(line["measured"]) if line.get("measured") else None
        return RunResult(layout.model, ledger, kept, line["weights_digest"], measured, devices.rank() == 0)


def _check_networks(config: TrainConfig) -> None:
    """Raise ConfigError for a backbone, weights or a saliency network that cannot be used."""
    Backbone(config.backbone, initial_weights(config.weights))
    if config.saliency.network:
        network = OnnxSaliency(config.saliency.network)
        if config.saliency.normalization == "auto":
            network.known_normalization()


def export_round(
    context: TrainingContext,
    config: TrainConfig,
    number: int,
    path: Path,
    *,
    precision: Precision = "fp32",
    supervision: Supervision | None = None,
    advance: Advance = silent,
) -> Figures:
    """Write round `number`'s PixelNet as a bundle to `path`; returns its "weights_digest", and what was "measured".

    `supervision` follows from the settings and the data unless it is given. The tag head is fitted to the photos, and
    the bundle is checked on some of them and on generated inputs, and calibrated on others in int8. Last, it is
    measured on the held-out corrections. `advance(1)` follows each photo and input, `export_steps` in all.
    """
    layout, data = Layout(context.run), context.data
    working_size = max(MIN_INPUT_SIDE, round(config.long_side * config.served_scale))
    pixelnet = PixelNet.load(PixelNetTraining.weights_of(layout.root, number), config.backbone)
    network = ServedNetwork(
        pixelnet, fit_tag_head(pixelnet, leave_out_doubts(data, layout.root, number), working_size, advance)
    )
    counts = data.photos_per_class()
    decision = Ledger(layout.ledger).find(number, "decision") or {}
    areas = least_areas.read(layout.root, number)
    metadata = Metadata(
        tagmask=version("tagmask"),
        weights_digest=weights_digest(network.state_dict()),
        classes=(BACKGROUND, *data.classes),
        working_size=working_size,
        tile=config.tile,
        tags=TAGS,
        tag_shares=tuple(round(counts[name] / len(data.photos), 6) for name in data.classes),
        least_areas=() if areas is None else tuple(areas.tolist()),
        backbone=config.backbone,
        rounds=number,
        photos=len(data.photos),
        data_digest=read_description(layout).data_digest,
        supervision=supervision or _supervision(config, data),
        saliency=config.saliency.network.name if config.saliency.network else "unsupervised",
        metrics={
            name: decision[name]
            for name in ("consistency", "coverage", "agreement", "painted", "estimate")
            if name in decision
        },
        settings=config.model_dump(mode="json"),
    )
    side = config.long_side
    photos = [scale_to(read_photo(photo.path, side), side, MIN_INPUT_SIDE) for photo in data.photos[:PARITY_PHOTOS]]
    export(
        network, path, metadata, samples=read_learned(layout), corrected=read_corrected(layout), precision=precision,
        photos=photos, calibration=[photo.path for photo in data.photos], advance=advance,
    )  # fmt: skip
    return {"weights_digest": metadata.weights_digest} | _measure(path, context.held_out, advance)


def _measure(path: Path, held_out: Sequence[Photo], advance: Advance) -> Figures:
    """Measure the bundle at `path` on the held-out corrections, and record in it what was "measured", if anything."""
    if not held_out:
        return {}
    with Segmenter.load(path, device="cpu") as segmenter:
        measured = measure(segmenter, held_out, advance)
    if measured is None:
        return {}
    write_measured(path, measured)
    return {"measured": asdict(measured)}


def _supervision(config: TrainConfig, data: TaggedPhotos) -> Supervision:
    others = {"saliency network": config.saliency.network, "hints": data.hinted, "corrections": data.corrected}
    return ", ".join(["tags", *(name for name, took_part in others.items() if took_part)])
