"""Settings of the flows: what a TOML file, a deployment's parameters and the form in Prefect's own pages set alike."""

import tomllib
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tagmask.errors import ConfigError
from training.config import Preset, TrainConfig, complete, load_config


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class WorkSettings(_Settings):
    """Where the stages run that look at one photo at a time."""

    where: Literal["here", "processes", "dask", "ray"] = Field(
        "processes", description="in the flow's own process, in processes of this machine, or on a Dask or Ray cluster"
    )
    workers: int | None = Field(None, ge=1, le=4096, description="processes; none: as many as there are cores")
    address: str | None = Field(None, description="a running Dask scheduler or Ray head; none starts one for the run")
    shard: int = Field(64, ge=1, le=100_000, description="photos a task")
    retries: int = Field(1, ge=0, le=10, description="times a failed task is tried again")


class DataSettings(_Settings):
    """What becomes a class, and which photos only measure."""

    least_photos: int = Field(10, ge=1, le=1_000_000, description="photos that a tag needs to be learned")
    held_out: float = Field(0.1, ge=0, lt=1, description="share of the photos that never train, only compare models")
    most_held_out: int = Field(300, ge=0, le=100_000, description="held-out photos at most")
    masks: Path | None = Field(None, description="tagged photos with true masks to compare models on instead")
    masks_split: str | None = Field(None, description="split of those photos")


class WhenSettings(_Settings):
    """What is reason enough to retrain; one of them suffices."""

    new_photos: int = Field(100, ge=1, description="new or newly tagged photos since the last training")
    new_tag: bool = Field(True, description="a tag that the last training did not know has photos enough")
    after_days: float | None = Field(None, gt=0, description="days since the last training; none: never for age alone")


class WarmSettings(_Settings):
    """How retraining starts from the champion."""

    start: bool = Field(True, description="start from the champion's networks; a new class gets a new output")
    epochs: float = Field(0.6, gt=0, le=1, description="share of a first training's epochs")
    rounds: int | None = Field(None, ge=1, le=20, description="rounds; none: as in a first training")


class GateSettings(_Settings):
    """What a challenger must be to become champion; differences are challenger minus champion."""

    miou_gain: float = Field(0.0, ge=-100, le=100, description="least gain in mIoU, points, over the classes of both")
    class_loss: float = Field(5.0, ge=0, le=100, description="greatest loss of IoU of a class, points")
    consistency_gain: float = Field(-0.01, ge=-1, le=1, description="least gain in tag consistency (F1, 0..1)")
    coverage_change: float = Field(2.0, ge=1, le=100, description="greatest factor between the two coverages")
    agreement: float = Field(0.6, ge=0, le=1, description="least share of pixels that both label alike")
    latency_factor: float = Field(1.5, ge=1, le=100, description="greatest factor of the time a photo takes")
    size_factor: float = Field(1.5, ge=1, le=100, description="greatest factor of the file's size")
    lost_classes: bool = Field(False, description="whether the challenger may have forgotten a class")


class KeepSettings(_Settings):
    """How much of the past stays on the disk."""

    bundles: int = Field(10, ge=1, le=10_000, description="bundles in the store, newest first, besides the champion")
    runs: int = Field(2, ge=1, le=1000, description="runs with all that their stages wrote")
    data_sets: int = Field(20, ge=1, le=100_000, description="versions of the list of photos")


class NotifySettings(_Settings):
    """Who is told when a flow fails or dies."""

    command: tuple[str, ...] = Field((), description="program and arguments; gets what happened as JSON on its input")
    block: str | None = Field(None, description="a notification block of Prefect, such as slack-webhook/ops")


class FlowSettings(_Settings):
    """All that the flows can be told; `train` holds the settings of `tagmask train`."""

    train: TrainConfig = TrainConfig()
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["fp32", "fp16"] = "fp32"
    second: Literal["wait", "skip"] = Field("wait", description="what a flow does while another has the workspace")
    work: WorkSettings = WorkSettings()
    data: DataSettings = DataSettings()
    when: WhenSettings = WhenSettings()
    warm: WarmSettings = WarmSettings()
    gate: GateSettings = GateSettings()
    keep: KeepSettings = KeepSettings()
    notify: NotifySettings = NotifySettings()


def load_settings(file: Path | None, preset: Preset = "default") -> FlowSettings:
    """The defaults, with `train` of a preset, changed by a TOML file.

    Raises ConfigError naming the file and the setting, and what is allowed.
    """
    base = FlowSettings(train=load_config(preset=preset))
    if file is None:
        return base
    try:
        return FlowSettings.model_validate(complete(base, tomllib.loads(file.read_text(encoding="utf-8"))))
    except OSError as fault:
        raise ConfigError(f"{file}: cannot be read ({fault.strerror}); give an existing TOML file") from fault
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as fault:
        raise ConfigError(f"{file}: not TOML ({fault})") from fault
    except ValidationError as fault:
        first = fault.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"{file}: setting {name}: {first['msg']}, given {first['input']!r}") from fault
