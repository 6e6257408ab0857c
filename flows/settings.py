"""Settings of the flows, set alike by a TOML file, a deployment's parameters and the forms of the Prefect UI.

`notify` is the exception: it names a command, which those who may start a run must not be able to choose. It comes
from the TOML file or the environment of the process that runs the flows.
"""

import os
from copy import deepcopy
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, Field, GetJsonSchemaHandler, ValidationError, field_validator, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from tagmask.errors import ConfigError
from tagmask.inputs import Location, Precision
from training.choices import Preset
from training.config import TrainConfig, complete, load_config, read_toml, setting_fault


class _Settings(BaseModel, frozen=True, extra="forbid"):
    """A section: immutable, without unknown settings."""


class TaskSettings(_Settings):
    """Where the per-photo stages run, as tasks over shards of photos."""

    RENAMED: ClassVar = {"where": "runner", "shard": "shard_size"}

    runner: Literal["inline", "processes", "dask", "ray"] = Field(
        "processes", description="the flow's own process, a pool of processes, or a Dask or Ray cluster"
    )
    workers: int | None = Field(None, ge=1, le=4096, description="number of processes; default: the number of cores")
    address: str | None = Field(
        None, description="address of a Dask scheduler or Ray head; default: a cluster started for the run"
    )
    shard_size: int = Field(64, ge=1, le=100_000, description="photos per task")
    retries: int = Field(1, ge=0, le=10, description="how often a failed task is retried")

    @field_validator("runner", mode="before")
    @classmethod
    def _renamed(cls, runner: Any) -> Any:
        return "inline" if runner == "here" else runner


class DataSettings(_Settings):
    """Which tags become classes, and which photos are held out of training to compare models."""

    RENAMED: ClassVar = {"least_photos": "min_photos", "most_held_out": "max_held_out"}

    min_photos: int = Field(10, ge=1, le=1_000_000, description="photos that a tag needs to become a class")
    held_out: float = Field(0.1, ge=0, lt=1, description="fraction of the photos in the held-out set")
    max_held_out: int = Field(300, ge=0, le=100_000, description="maximum size of the held-out set, in photos")
    masks: Location | None = Field(
        None, description="data set with ground-truth masks that replaces the held-out set; a path or a URL"
    )
    masks_split: str | None = Field(None, description="split of that data set")


class TriggerSettings(_Settings):
    """What triggers retraining; any one condition suffices."""

    new_photos: int = Field(100, ge=1, description="new or retagged photos since the last training")
    corrected: int = Field(20, ge=1, description="photos with new or changed corrections since the last training")
    new_tag: bool = Field(True, description="whether a new class triggers retraining")
    after_days: float | None = Field(None, gt=0, description="days since the last training; default: no limit")


class WarmStartSettings(_Settings):
    """How retraining starts from the champion."""

    RENAMED: ClassVar = {"start": "enabled", "epochs": "epochs_factor"}

    enabled: bool = Field(True, description="start from the champion's weights; a new class gets a new output")
    epochs_factor: float = Field(0.6, gt=0, le=1, description="epochs, as a fraction of a training from scratch")
    rounds: int | None = Field(None, ge=1, le=20, description="rounds; default: as in a training from scratch")


class GateSettings(_Settings):
    """What promotion requires of a challenger; differences are challenger minus champion."""

    miou_gain: float = Field(0.0, ge=-100, le=100, description="minimum gain in mIoU, in points")
    class_loss: float = Field(5.0, ge=0, le=100, description="maximum loss in IoU of any class, in points")
    estimate_loss: float = Field(5.0, ge=0, le=100, description="maximum loss in estimated mIoU, in points")
    consistency_gain: float = Field(-0.01, ge=-1, le=1, description="minimum gain in tag consistency (F1, 0..1)")
    coverage_change: float = Field(2.0, ge=1, le=100, description="maximum ratio between the two coverages")
    min_coverage: float = Field(
        0.01, ge=0, le=1, description="minimum coverage of a challenger without a champion that reaches it"
    )
    agreement: float = Field(0.6, ge=0, le=1, description="minimum fraction of pixels with the same label")
    latency_factor: float = Field(1.5, ge=1, le=100, description="maximum ratio of the times per photo")
    size_factor: float = Field(1.5, ge=1, le=100, description="maximum ratio of the file sizes")
    lost_classes: bool = Field(False, description="whether the challenger may lack classes of the champion")
    vanished_classes: bool = Field(
        False, description="whether the challenger may hardly paint what the champion paints"
    )


class RetentionSettings(_Settings):
    """How much of the past stays on disk."""

    bundles: int = Field(10, ge=1, le=10_000, description="newest bundles in the store, besides the champion")
    runs: int = Field(2, ge=1, le=1000, description="newest runs, with the outputs of their stages")
    data_sets: int = Field(20, ge=1, le=100_000, description="newest versions of the photo list")


class NotifySettings(_Settings):
    """Who is notified when a flow fails or crashes; not part of FlowSettings, see above."""

    command: tuple[str, ...] = Field((), description="program and arguments; receives the event as JSON on stdin")
    block: str | None = Field(None, description="notification block of Prefect, such as slack-webhook/ops")


class FlowSettings(_Settings):
    """All settings of the flows; `train` holds those of `tagmask train`."""

    RENAMED: ClassVar = {
        "second": "if_busy",
        "work": "tasks",
        "when": "trigger",
        "warm": "warm_start",
        "keep": "retention",
    }

    train: TrainConfig = TrainConfig()
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="device of the networks; auto uses a GPU if there is one"
    )
    precision: Precision = Field("fp32", description="precision of the exported network")
    if_busy: Literal["wait", "skip"] = Field("wait", description="what to do while another flow uses the workspace")
    tensorboard: bool = Field(False, description="write each run to WORKSPACE/tensorboard, for TensorBoard")
    tasks: TaskSettings = TaskSettings()
    data: DataSettings = DataSettings()
    trigger: TriggerSettings = TriggerSettings()
    warm_start: WarmStartSettings = WarmStartSettings()
    gate: GateSettings = GateSettings()
    retention: RetentionSettings = RetentionSettings()

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, values: Any) -> Any:
        """Parameters may name some settings alone, as the file may."""
        if isinstance(values, dict) and "notify" in values:
            raise ValueError(
                "settings.notify is not accepted as a parameter, as it names a command; set it in [notify] of the file "
                f"given as --config, or in {NOTIFY} in the environment of the worker"
            )
        return complete(cls.model_construct(), values)

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """What Prefect's server checks and its forms show: the same, so nothing is required."""
        return _optional(handler(core), cls.model_construct(), handler)


def _optional(schema: JsonSchemaValue, defaults: BaseModel, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
    """The schema of a table with the values of `defaults`, which differ from those of its class, and none required."""
    table = deepcopy(handler.resolve_ref_schema(schema))
    table.pop("required", None)
    for name, value in defaults.model_dump(mode="json").items():
        section = getattr(defaults, name)
        if isinstance(section, BaseModel):
            table["properties"][name] = _optional(table["properties"][name], section, handler)
        else:
            table["properties"][name]["default"] = value
    return table


NOTIFY = "TAGMASK_NOTIFY"
"""Variable of the environment with NotifySettings as JSON, for this process and its children."""


def load_settings(file: Path | None, preset: Preset = "default") -> FlowSettings:
    """The defaults, with the training settings of `preset`, overridden by a TOML file, without its section `notify`.

    Raises ConfigError naming the file, the setting and what is allowed.
    """
    base = FlowSettings(train=load_config(preset=preset))
    if file is None:
        return base
    values = {name: value for name, value in read_toml(file).items() if name != "notify"}
    try:
        return FlowSettings.model_validate(complete(base, values))
    except ValidationError as error:
        raise ConfigError(f"{file}: setting {setting_fault(error, base)}") from error


def load_notify(file: Path | None) -> NotifySettings:
    """The section `notify` of a TOML file, by default what the environment holds in TAGMASK_NOTIFY.

    Raises ConfigError naming the file or variable, the setting and what is allowed.
    """
    values = read_toml(file).get("notify") if file is not None else None
    try:
        if values is not None:
            return NotifySettings.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{file}: setting notify.{setting_fault(error, NotifySettings())}") from error
    try:
        return NotifySettings.model_validate_json(os.environ.get(NOTIFY) or "{}")
    except ValidationError as error:
        raise ConfigError(f"{NOTIFY}: {setting_fault(error, NotifySettings())}") from error
