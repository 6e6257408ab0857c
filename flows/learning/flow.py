"""A training as a flow: the same steps in the same order as `tagmask train`, those of single photos over shards."""

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from prefect import flow
from pydantic import BaseModel, ConfigDict

from flows.collection.lists import shards
from flows.learning.keys import digest, step_keys
from flows.learning.tasks import Figures, decision_task, photos_task, stage_folder, tagged_photos, torch_task
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
from training.config import TrainConfig
from training.networks.start import Start, read_start
from training.parallel import single_threaded
from training.report import write_report
from training.run.description import Apart, Description, write_photos
from training.run.layout import Layout
from training.run.ledger import Ledger, Line
from training.run.plan import TORCH, Name, Step, in_order, photos_shown, steps


class TrainingRequest(BaseModel):
    """What a training learns from: the list `photos` of `count`, its digest and classes, settings, and a finished run
    to go on from.
    """

    model_config = ConfigDict(frozen=True)

    photos: Path
    count: int
    data_digest: str
    classes: tuple[str, ...]
    config: TrainConfig
    start: Path | None = None


class TrainingResult(BaseModel):
    """A finished training: the key of its run, its bundle and the bundle's version, and the round that it holds."""

    model_config = ConfigDict(frozen=True)

    key: str
    model: Path
    version: str
    weights_digest: str
    kept: int


@dataclass(frozen=True)
class _Learning:
    """What the steps of one training share while it runs."""

    workspace: Workspace
    layout: Layout
    asked: TrainingRequest
    settings: FlowSettings
    keys: Mapping[Name, str]
    ledger: Ledger
    process: TrainingProcess
    start: Start | None

    @property
    def apart(self) -> Apart:
        return Apart(self.layout.root, self.asked.photos, self.asked.start, self.process.device)


def learn(workspace: Workspace, asked: TrainingRequest, settings: FlowSettings) -> TrainingResult:
    """Train, going on wherever an earlier run under the same key stopped; a finished one is returned as it is.

    Raises TagmaskError's kinds for what the user can put right.
    """
    runner = task_runner(settings.tasks)
    learned: TrainingResult = _learn.with_options(task_runner=runner)(workspace.root, asked, settings)
    return learned


@flow(name="learn", flow_run_name="learn {asked.data_digest:.8}", validate_parameters=False)
def _learn(workspace: Path, asked: TrainingRequest, settings: FlowSettings) -> TrainingResult:
    if done := finished(Workspace(workspace), run_key(asked, settings)):
        return done
    with TrainingProcess(settings.device) as process:
        learning = _begin(Workspace(workspace), asked, settings, process)
        kept = in_order(asked.config, lambda step: _do(learning, step))
        stages_artifact(learning.ledger).publish()
        learned = _export(learning, kept)
        _report(learning)
        return learned


def finished(workspace: Workspace, key: str) -> TrainingResult | None:
    """The run of this key if it has its bundle."""
    layout = workspace.run(key)
    line = next((line for line in Ledger(layout.ledger) if line["stage"] == "export"), None)
    if line is None or not layout.model.is_file():
        return None
    version = read_metadata(layout.model).version
    return TrainingResult(
        key=key, model=layout.model, version=version, weights_digest=line["weights_digest"], kept=line["round"]
    )


def run_key(asked: TrainingRequest, settings: FlowSettings) -> str:
    """Key of the run: 16 hex digits of the digest of all its steps."""
    return digest({"steps": list(_keys(asked).values()), "precision": settings.precision})[:16]


def _keys(asked: TrainingRequest) -> dict[Name, str]:
    start = read_start(Layout(asked.start)).digest() if asked.start else None
    try:
        return step_keys(steps(asked.config), asked.config, data_digest=asked.data_digest, start=start)
    except OSError as fault:
        raise ConfigError(f"{fault.filename}: cannot be read ({fault.strerror}); name a file that is there") from fault


def _begin(workspace: Workspace, asked: TrainingRequest, settings: FlowSettings, process: TrainingProcess) -> _Learning:
    """Make the run's folder, whose folders of stages are links to those of their keys."""
    keys, layout = _keys(asked), workspace.run(run_key(asked, settings))
    for step in steps(asked.config):
        made = workspace.stages / stage_folder(step, keys[step.name])
        _link(layout.root / "stages" / made.name, made)  # what retention goes by
        for folder in step.folders:
            _link(layout.root / folder, made / Path(folder).name)
    start = read_start(Layout(asked.start)) if asked.start else None
    if start:
        start.check(asked.config)
    description = Description(
        data_digest=asked.data_digest,
        photos=asked.count,
        classes=asked.classes,
        settings=asked.config,
        start=start.digest() if start else None,
    )
    files.write_text(layout.description, description.model_dump_json(indent=2) + "\n")
    return _Learning(workspace, layout, asked, settings, keys, Ledger(layout.ledger), process, start)


def _link(link: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if not link.is_symlink():
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(folder, link.parent))


def _do(learning: _Learning, step: Step) -> Line:
    """One step, unless the run's ledger has it; returns its line."""
    if line := learning.ledger.find(*step.name):
        return line
    layout, asked, stored = learning.layout, learning.asked, learning.workspace.stages
    key = learning.keys[step.name]
    if step.kind == "decision":
        figures = decision_task.with_options(result_storage=stored)(layout.root, asked.photos, step, key)
        gallery(tagged_photos(layout.root, asked.photos), layout, asked.config, step.round).publish()
    elif step.kind == "network" or (step.stage in TORCH and learning.process.device == "cuda"):
        seen = asked.count
        if step.kind == "network":
            data = tagged_photos(layout.root, asked.photos)
            seen = photos_shown(step, asked.config, data, learning.start)
        run_task = torch_task.with_options(result_storage=stored)
        figures = run_task(learning.process, learning.apart, step, key, seen, learning.process.device)
    else:
        figures = _over_shards(learning, step, key)
    return learning.ledger.add(step.round, step.stage, **figures)


def _over_shards(learning: _Learning, step: Step, key: str) -> Figures:
    """A step of single photos, as a task a shard."""
    begun, asked, tasks = time.perf_counter(), learning.asked, learning.settings.tasks
    run_task = photos_task.with_options(result_storage=learning.workspace.stages, retries=tasks.retries)
    with PrefectProgress().stage(step.title, asked.count) as advance:
        parts = list(shards(asked.photos, tasks.shard_size))
        with single_threaded(), mark_killed_tasks():
            futures = [run_task.submit(learning.layout.root, step, key, part) for part in parts]
            advance_as_completed(futures, [len(part.photos) for part in parts], advance)
            for future in futures:
                future.result()
    return {"photos": asked.count, "seconds": time.perf_counter() - begun}


def _export(learning: _Learning, kept: int) -> TrainingResult:
    """Write the bundle of round `kept`."""
    run_logger()[0].info("exporting round %d", kept)
    written = learning.process.run("export_bundle", learning.apart, kept, learning.settings.precision)
    if learning.ledger.find(kept, "export") is None:
        learning.ledger.add(kept, "export", file=learning.layout.model.name, weights_digest=written)
    learned = finished(learning.workspace, learning.layout.root.name)
    assert learned is not None
    return learned


def _report(learning: _Learning) -> None:
    """Write the run's report beside its bundle, and say in Prefect where it is; one that fails is only logged."""
    layout = learning.layout
    path = layout.report.absolute()
    try:
        data = tagged_photos(layout.root, learning.asked.photos)
        write_photos(layout, data)
        write_report(layout, path, data, progress=PrefectProgress())
    except Exception as fault:  # whatever it is, it must not end a training
        run_logger()[0].warning("no report of the run (%s: %s)", type(fault).__name__, fault)
        return
    told = "Curves, confusion, costs, and photos stage by stage, in one file to open in a browser"
    Artifact("report", f"report of the run: {escape(str(path))}", f"{told}: {escape(str(path))}").publish()
