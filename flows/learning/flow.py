"""A training as a flow: the stages of `tagmask train` in the same order, photo stages as a task per shard."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from prefect import flow
from pydantic import BaseModel

from flows.collection.lists import shards
from flows.learning.keys import digest, stage_keys
from flows.learning.tasks import decision_task, gpu_task, network_task, photos_task, stage_folder, tagged_photos
from flows.learning.training_process import TrainingProcess
from flows.orchestration.artifact import Artifact, escape
from flows.orchestration.crashed import mark_killed_tasks
from flows.orchestration.gallery import gallery
from flows.orchestration.progress import PrefectProgress, advance_as_completed, run_logger
from flows.orchestration.tables import stages_artifact
from flows.orchestration.task_runners import task_runner
from flows.settings import FlowSettings
from flows.workspace import Workspace
from tagmask import files
from tagmask.bundle import read_metadata
from tagmask.errors import ConfigError
from tagmask.scores import Measured
from training.config import TrainConfig
from training.datasets import load
from training.datasets.held_out import hold_out
from training.datasets.parallel import single_threaded
from training.evaluation.estimate import sentence
from training.evaluation.warnings import warnings
from training.report import write_report
from training.report.tensorboard import TensorBoard
from training.run.description import RunReference, describe, read_description, write_photos
from training.run.executor import Backend, Figures, Watch, execute
from training.run.layout import Layout
from training.run.learned import record_learned
from training.run.ledger import Ledger
from training.run.plan import export_steps, run_stages
from training.run.start import Start, read_start
from training.stages.base import PhotoStage, StageId
from training.stages.decision import Decision
from training.stages.network import NetworkStage


class TrainingRequest(BaseModel, frozen=True):
    """What a training learns from: the list `photos` of `count`, of which `corrected` have a correction, its digest and
    classes, the settings, and a finished run to start from.
    """

    photos: Path
    count: int
    corrected: int = 0
    data_digest: str
    classes: tuple[str, ...]
    config: TrainConfig
    start: Path | None = None


class TrainingResult(BaseModel, frozen=True):
    """A finished training: the key of its run, its bundle, and the bundle's version."""

    key: str
    model: Path
    version: str


def learn(workspace: Workspace, request: TrainingRequest, settings: FlowSettings) -> TrainingResult:
    """Train, resuming an earlier run under the same key; a finished one is returned as it is.

    Raises TagmaskError for what the user can correct.
    """
    run = _learn.with_options(task_runner=task_runner(settings.tasks))
    result: TrainingResult = run(workspace.root, request, settings)
    return result


@flow(name="learn", flow_run_name="learn {request.data_digest:.8}", validate_parameters=False)
def _learn(workspace: Path, request: TrainingRequest, settings: FlowSettings) -> TrainingResult:
    layout = Workspace(workspace).run(run_key(request, settings))
    if result := finished(layout):
        return result
    with TrainingProcess(settings.device) as process:
        backend = _begin(Workspace(workspace), layout, request, settings, process)
        ledger = Ledger(layout.ledger)
        with _tensorboard(backend) as watch:
            kept = execute(request.config, ledger, backend, watch)
        stages_artifact(ledger).publish()
        _log_quality(ledger, kept, request.config)
        result = _export(backend, ledger, kept)
        _report(layout, request.photos)
        return result


def finished(layout: Layout) -> TrainingResult | None:
    """The result of a run if it has its bundle."""
    exported = any(line["stage"] == "export" for line in Ledger(layout.ledger))
    if not exported or not layout.model.is_file():
        return None
    return TrainingResult(key=layout.root.name, model=layout.model, version=read_metadata(layout.model).version)


def run_key(request: TrainingRequest, settings: FlowSettings) -> str:
    """Key of the run: 16 hex digits of the digest of all its stages."""
    return digest({"stages": list(_keys(request).values()), "precision": settings.precision})[:16]


def _keys(request: TrainingRequest) -> dict[StageId, str]:
    start = read_start(Layout(request.start)).digest() if request.start else None
    photos = request.data_digest
    if request.corrected:
        photos = digest({"photos": photos, "held_out": request.config.corrections.held_out})
    try:
        return stage_keys(run_stages(request.config), data_digest=photos, start=start)
    except OSError as fault:
        raise ConfigError(f"{fault.filename}: {files.read_fault(fault, 'name an existing file')}") from fault


@dataclass(frozen=True)
class PrefectBackend(Backend):
    """Runs stages as Prefect tasks; networks in the process that has torch."""

    workspace: Workspace
    layout: Layout
    request: TrainingRequest
    settings: FlowSettings
    keys: dict[StageId, str]
    process: TrainingProcess
    start: Start | None

    @property
    def reference(self) -> RunReference:
        return RunReference(self.layout.root, self.request.photos, self.request.start, self.process.device)

    def each_photo(self, stage: PhotoStage) -> Figures:
        begun, tasks = time.perf_counter(), self.settings.tasks
        figures = stage.begin(tagged_photos(self.layout.root, self.request.photos), self.layout.root)
        if stage.needs_torch and self.process.device == "cuda":
            run_task = gpu_task.with_options(result_storage=self.workspace.stages)
            done = run_task(self.process, self.reference, stage, self.keys[stage.id], self.request.count)
            return {**done, **figures}
        run_shard = photos_task.with_options(result_storage=self.workspace.stages, retries=tasks.retries)
        with PrefectProgress().stage(stage.title, self.request.count) as advance:
            held_out = read_description(self.layout).held_out
            parts = list(shards(self.request.photos, tasks.shard_size, held_out))
            with single_threaded(), mark_killed_tasks():
                futures = [run_shard.submit(self.layout.root, stage, self.keys[stage.id], part) for part in parts]
                advance_as_completed(futures, [len(part.photos) for part in parts], advance)
                for future in futures:
                    future.result()
        return {"photos": self.request.count, "seconds": time.perf_counter() - begun, **figures}

    def train(self, stage: NetworkStage) -> Figures:
        data = tagged_photos(self.layout.root, self.request.photos)
        photos = stage.photos_shown(data, self.start) + stage.photos_after(data)
        run_logger()[0].info("%s on device %s", stage.title, self.process.device)
        run_task = network_task.with_options(result_storage=self.workspace.stages)
        return run_task(self.process, self.reference, stage, self.keys[stage.id], photos, self.process.device)

    def decide(self, stage: Decision) -> Figures:
        run_task = decision_task.with_options(result_storage=self.workspace.stages)
        figures = run_task(self.layout.root, self.request.photos, stage, self.keys[stage.id])
        data = tagged_photos(self.layout.root, self.request.photos)
        gallery(data, self.layout, self.request.config, stage.round).publish()
        return figures


@contextmanager
def _tensorboard(backend: PrefectBackend) -> Iterator[Watch | None]:
    """What writes the run for TensorBoard, if the setting is on."""
    if not backend.settings.tensorboard:
        yield None
        return
    layout, request = backend.layout, backend.request
    data = tagged_photos(layout.root, request.photos)
    with TensorBoard(backend.workspace.tensorboard(layout.root.name), layout, data, request.config) as events:
        yield events.add


def _begin(
    workspace: Workspace, layout: Layout, request: TrainingRequest, settings: FlowSettings, process: TrainingProcess
) -> PrefectBackend:
    """Create the run's folder, in which the folders of stages are links to those of their keys."""
    keys = _keys(request)
    for stage in run_stages(request.config):
        folder = workspace.stages / stage_folder(stage, keys[stage.id])
        _link(layout.root / "stages" / folder.name, folder)  # retention goes by these links
        if not isinstance(stage, Decision):
            _link(stage.folder(layout.root), folder / stage.name)
    start = read_start(Layout(request.start)) if request.start else None
    if start:
        start.check(request.config)
    data = load(request.photos, classes=request.classes)
    description = describe(data, request.data_digest, request.config, start)
    files.write_text(layout.description, description.model_dump_json(indent=2) + "\n")
    digests = (photo.path.stem for photo in data.photos)  # copies are named by their digest
    record_learned(layout, hold_out(data, description.held_out)[0], digests, request.start)
    return PrefectBackend(workspace, layout, request, settings, keys, process, start)


def _link(link: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if not link.is_symlink():
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(folder, link.parent))


def _export(backend: PrefectBackend, ledger: Ledger, kept: int) -> TrainingResult:
    """Write the bundle of round `kept`."""
    precision = backend.settings.precision
    steps = export_steps(backend.request.count, len(read_description(backend.layout).held_out), precision)
    with PrefectProgress().stage("export", steps, "step") as advance:
        figures = backend.process.run("export_bundle", backend.reference, kept, precision, advance=advance)
    if ledger.find(kept, "export") is None:
        ledger.add(kept, "export", file=backend.layout.model.name, **figures)
    if "measured" in figures:
        run_logger()[0].info("%s", Measured.from_json(figures["measured"]))
    result = finished(backend.layout)
    assert result is not None
    return result


def _log_quality(ledger: Ledger, kept: int, config: TrainConfig) -> None:
    """Log what to expect of round `kept`, and warnings of a useless saliency and of classes that it hardly paints."""
    decision = ledger.find(kept, "decision") or {}
    if values := decision.get("estimate"):
        run_logger()[0].info("%s", sentence(values))
    for text in warnings(config.saliency.network, ledger.find(kept, "evidence") or {}, decision):
        run_logger()[0].warning("%s", text)


def _report(layout: Layout, photos: Path) -> None:
    """Write the run's report beside its bundle, and show in Prefect where it is; a failure is only logged."""
    path = layout.report.absolute()
    try:
        data = tagged_photos(layout.root, photos)
        write_photos(layout, data)
        write_report(layout, path, data, progress=PrefectProgress())
    except Exception as fault:  # whatever it is, it must not end a training
        run_logger()[0].warning("no report of the run (%s: %s)", type(fault).__name__, fault)
        return
    content = "Curves, confusion, costs, and photos stage by stage, in one file to open in a browser"
    Artifact("report", f"report of the run: {escape(str(path))}", f"{content}: {escape(str(path))}").publish()
