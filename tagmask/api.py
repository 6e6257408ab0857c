"""Training and evaluation from a Python program.

    run = tagmask.train("photos/", out="run", rounds=3)
    tagmask.evaluate(run.model, "val/").without_tags.miou

Both run in a child process, so that a program never loads torch, may have packages named `training` or `flows` of its
own, and loses no more than the run when the system is out of memory.
"""

import json
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Literal

from tagmask import errors, launch
from tagmask.disk import temporary_files
from tagmask.errors import ConfigError, Fault, RunError, TagmaskError
from tagmask.inputs import Precision, Tags, split_tags
from tagmask.scores import Evaluation, Measured, Scores

PathName = str | PathLike[str]
Data = PathName | Sequence[PathName]
"""Tagged photos: one data set or several, each a folder or a list."""

Device = Literal["auto", "cpu", "cuda"]
Setting = str | int | float | bool | None

_GRACE = 10  # seconds that the child process has to end after an interrupt
_LAST_LINES = 5  # of the child's standard error, in the message about its crash


@dataclass(frozen=True)
class StageProgress:
    """`done` of `total` photos have passed through the current `stage`; a training counts each in every epoch."""

    stage: str
    done: int
    total: int


OnProgress = Callable[[StageProgress], object]


@dataclass(frozen=True)
class Run:
    """A finished run.

    `model` is its bundle, `version` the bundle's version, `round` the round whose network it holds, `figures` the
    quality of that round without pixel labels (consistency, coverage, agreement; 0..1), `estimated_iou` the IoU to
    expect of each class and of background with tags given, in percent, `painted` for each class the share of the photos
    with its tag on which it is painted, `left_out` the photos and tags that were not used, and `measured` the accuracy
    on held-out corrections, if there are any.
    """

    model: Path
    version: str
    round: int
    figures: Mapping[str, float]
    estimated_iou: Mapping[str, float]
    painted: Mapping[str, float]
    left_out: tuple[Fault, ...]
    measured: Measured | None

    @property
    def estimated_miou(self) -> float:
        """The mean of `estimated_iou`, percent."""
        return sum(self.estimated_iou.values()) / len(self.estimated_iou)


def train(
    data: Data,
    out: PathName,
    *,
    split: str | None = None,
    classes: Tags = None,
    none: Tags = None,
    format: str | None = None,
    corrections: PathName | None = None,
    accepted: bool = False,
    hints: PathName | None = None,
    rounds: int | None = None,
    preset: Literal["fast", "default", "best"] = "default",
    backbone: str | None = None,
    weights: PathName | None = None,
    saliency: PathName | None = None,
    seed: int | None = None,
    config: PathName | None = None,
    settings: Mapping[str, Setting] | None = None,
    device: Device = "auto",
    workers: int | None = None,
    precision: Precision = "fp32",
    start: PathName | None = None,
    tensorboard: PathName | None = None,
    resume: bool = False,
    progress: OnProgress | None = None,
) -> Run:
    """Train on the tagged photos `data` and write the run to the folder `out`, as `tagmask train` does.

    `none` names tags that say that a photo shows no class, `corrections` a source of pixels to learn from as truth,
    in which predictions that people accepted unchanged in Label Studio count if `accepted`. `hints` is a source of
    masks that another model made.
    `settings` maps dotted names to values, such as {"pixelnet.fit.epochs": 3}; they override the TOML file `config`,
    which overrides `preset`. `start` is a finished run whose networks are trained further. The run is also written for
    TensorBoard to the folder `tensorboard`, if any, below the name of `out`. `resume` continues an interrupted run in
    `out`. `progress` is called as photos pass through each stage. An exception that it raises, or an interrupt, ends
    the child process; `resume` then continues the run.
    Raises DataError, ConfigError and RunError for what the user can correct.
    """
    named: dict[str, object] = {
        "rounds": rounds,
        "backbone": backbone,
        "weights": weights,
        "saliency.network": saliency,
        "seed": seed,
    }
    arguments = {
        "data": _as_list(data),
        "out": out,
        "split": split,
        "classes": split_tags(classes),
        "none": split_tags(none),
        "format": format,
        "corrections": corrections,
        "accepted": accepted,
        "hints": hints,
        "config": config,
        "preset": preset,
        "settings": {**(settings or {}), **{name: value for name, value in named.items() if value is not None}},
        "device": device,
        "workers": workers,
        "precision": precision,
        "start": start,
        "tensorboard": tensorboard,
        "resume": resume,
    }
    result = _run_in_child("train", arguments, progress)
    left_out = tuple(Fault(**fault) for fault in result["left_out"])
    known = {name: result[name] for name in ("version", "round", "figures", "estimated_iou", "painted")}
    measured = Measured.from_json(result["measured"]) if result["measured"] else None
    return Run(model=Path(result["model"]), left_out=left_out, measured=measured, **known)


def evaluate(
    model: PathName,
    data: Data,
    *,
    split: str | None = None,
    classes: Tags = None,
    none: Tags = None,
    format: str | None = None,
    crf: bool = False,
    device: Device = "auto",
    progress: OnProgress | None = None,
) -> Evaluation:
    """Compare the masks of the bundle `model` with the true masks of `data`, as `tagmask evaluate` does.

    `classes` limits the foreground classes to score, `none` names tags that say that a photo shows no class, `crf`
    refines masks by DenseCRF. Raises DataError, BundleError and ConfigError for what the user can correct.
    """
    arguments = {
        "model": model,
        "data": _as_list(data),
        "split": split,
        "classes": split_tags(classes),
        "none": split_tags(none),
        "format": format,
        "crf": crf,
        "device": device,
    }
    result = _run_in_child("evaluate", arguments, progress)
    return Evaluation(Scores(**result["without_tags"]), Scores(**result["with_tags"]))


def _run_in_child(function: str, arguments: Mapping[str, object], progress: OnProgress | None) -> dict[str, Any]:
    """The result of `function` of `training.api`, called in a child process.

    The child reads one JSON line from its standard input, and ends when that is closed. It writes one JSON line per
    event to its standard output: {"stage": …, "done": …, "total": …}, then {"result": …} or {"error": …}.
    """
    with temporary_files(), tempfile.TemporaryFile() as log, _child(log) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(json.dumps({"function": function, "arguments": arguments}, default=_encode).encode() + b"\n")
        child.stdin.flush()
        for line in child.stdout:
            event = json.loads(line)
            if "result" in event:
                return dict(event["result"])
            if "error" in event:
                raise getattr(errors, event["error"]["name"])(event["error"]["message"])
            if progress is not None:
                progress(StageProgress(**event))
        status = child.wait()
        log.seek(0)
        raise _crash(function, status, log.read().decode(errors="replace").splitlines())


@contextmanager
def _child(log: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A process of `training.api`, which ends with the context. A Ctrl-C reaches this process alone."""
    child = subprocess.Popen(
        launch.command("training.api"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        start_new_session=True,
    )
    with child:
        try:
            yield child
        except BaseException:
            child.send_signal(signal.SIGINT)
            try:
                child.wait(_GRACE)
            except subprocess.TimeoutExpired:
                child.kill()
            raise


def _crash(function: str, status: int, log: list[str]) -> TagmaskError:
    """The exception for a child process that ended without a result."""
    if log and log[-1].startswith("ModuleNotFoundError"):
        return ConfigError(f"{function} needs more packages ({log[-1]}); run pip install 'tagmask[train]'")
    cause = " / ".join(line.strip() for line in log[-_LAST_LINES:]) or "no message"
    return RunError(
        f"{function}: the process ended with status {status} ({cause}); free some memory if it was killed, "
        "and continue an interrupted training with resume=True"
    )


def _as_list(data: Data) -> Sequence[PathName]:
    return [data] if isinstance(data, str | PathLike) else data


def _encode(value: PathLike[str] | Iterable[object]) -> object:
    """What stands in JSON for a value that it does not have: a path's name, or a list."""
    return fspath(value) if isinstance(value, PathLike) else list(value)
