"""Settings of a run: one table per stage, named after it; the same names in a TOML file and on the command line.

Nested names are written with dots: `pixelnet.fit.epochs`. Defaults were found on small photos with a small backbone on
a CPU, unless a description says otherwise.
"""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from difflib import SequenceMatcher
from heapq import nlargest
from pathlib import Path
from typing import Any, ClassVar

from pydantic import BaseModel, Field, ValidationError, ValidationInfo, field_validator

from tagmask import crf, files
from tagmask.errors import ConfigError
from tagmask.inputs import MAX_TILE, MIN_TILE, local_path
from tagmask.metadata import MAX_WORKING_SIZE
from training.choices import Preset
from training.datasets.held_out import CorrectionsConfig
from training.stages.classifier import ClassifierConfig
from training.stages.decision import DecisionConfig
from training.stages.labels import LabelsConfig
from training.stages.localization import LocalizationConfig
from training.stages.pixelnet import PixelNetConfig
from training.stages.refinement import RefinementConfig
from training.stages.regionnet import RegionNetConfig
from training.stages.regiontagger import RegionTaggerConfig
from training.stages.saliency import SaliencyConfig
from training.stages.seeds import SeedsConfig
from training.stages.superpixels import SuperpixelsConfig


class CrfConfig(crf.CrfConfig, frozen=True, extra="forbid"):
    """DenseCRF, for labels and for refined requests to the service."""


class TrainConfig(BaseModel, frozen=True, extra="forbid"):
    """All settings of a run: those that several stages share, then a table per stage."""

    RENAMED: ClassVar = {
        "refine": "refinement",
        "keep": "decision",
        "crf.sure_above": "labels.sure_above",
        "classifier.maps": "class_maps",
        "pixelnet.maps": "masks",
    }
    """See `complete`."""

    backbone: str = Field("tf_efficientnet_lite0", description="name of a network of timm")
    weights: str | None = Field(
        None,
        description="file of backbone weights, 'pretrained' (timm downloads them) or 'random'; none: the installed "
        "ones of the default backbone, the pretrained ones of others",
    )
    rounds: int = Field(3, ge=1, le=20, description="bottom-up and top-down passes")
    seed: int = Field(0, ge=0, lt=2**31, description="seed of all random numbers")
    long_side: int = Field(320, ge=32, le=4096, description="photos are scaled down to this longer side, pixels")
    served_scale: float = Field(1.0, ge=0.25, le=4, description="input size of the exported network / long_side")
    tile: int | None = Field(
        None,
        ge=MIN_TILE,
        le=MAX_TILE,
        description="side of the tiles in which the exported network segments larger photos, pixels; none: as a whole",
    )
    corrections: CorrectionsConfig = CorrectionsConfig()
    superpixels: SuperpixelsConfig = SuperpixelsConfig()
    saliency: SaliencyConfig = SaliencyConfig()
    classifier: ClassifierConfig = ClassifierConfig()
    class_maps: LocalizationConfig = LocalizationConfig()
    regiontagger: RegionTaggerConfig = RegionTaggerConfig()
    seeds: SeedsConfig = SeedsConfig()
    regionnet: RegionNetConfig = RegionNetConfig()
    refinement: RefinementConfig = RefinementConfig()
    labels: LabelsConfig = LabelsConfig()
    crf: CrfConfig = CrfConfig()
    pixelnet: PixelNetConfig = PixelNetConfig()
    masks: LocalizationConfig = LocalizationConfig()
    decision: DecisionConfig = DecisionConfig()

    @field_validator("served_scale")
    @classmethod
    def _servable(cls, scale: float, info: ValidationInfo) -> float:
        long_side = info.data.get("long_side", 0)
        if round(scale * long_side) > MAX_WORKING_SIZE:
            raise ValueError(
                f"times long_side ({long_side}) is above {MAX_WORKING_SIZE} pixels, the greatest working size"
            )
        return scale


PRESETS: Mapping[Preset, Mapping[str, Any]] = {
    "fast": {"rounds": 1, "long_side": 240, "classifier.augment.crop": 224, "pixelnet.augment.crop": 192},
    "default": {},
    "best": {"rounds": 5},
}
"""Trade time for accuracy, as changes of the defaults; benchmarks/README.md measures the cost and gain of each."""


def load_config(
    file: Path | None = None, overrides: Mapping[str, Any] | None = None, preset: Preset = "default"
) -> TrainConfig:
    """Settings of `preset`, overridden by a TOML file, overridden by `overrides` (dotted name -> value, None: unset).

    Raises ConfigError naming the file if the setting is in it, the setting, its value and what is allowed.
    """
    base = load_config(overrides=PRESETS[preset]) if preset != "default" else TrainConfig()
    values = read_toml(file) if file is not None else {}
    for name, value in (overrides or {}).items():
        if value is not None:
            _place(values, name.split("."), value)
    try:
        return TrainConfig.model_validate(complete(base, values))
    except ValidationError as fault:
        refused = f"{_refused(fault)}."
        given = (f"{name}." for name, value in (overrides or {}).items() if value is not None)
        where = f"{file}: " if file is not None and not any(name.startswith(refused) for name in given) else ""
        raise ConfigError(f"{where}setting {setting_fault(fault, base)}") from fault


def setting_fault(fault: ValidationError, known: BaseModel) -> str:
    """The first setting that is refused, by its dotted name, and why; for an unknown one the closest in `known`."""
    first, name = fault.errors()[0], _refused(fault)
    if first["type"] == "extra_forbidden":
        return f"{name}: unknown; the closest are {', '.join(_closest(name, known))}"
    what = "must be a table of settings" if first["type"] == "model_type" else first["msg"]
    return f"{name}: {what}, got {first['input']!r}"


def _refused(fault: ValidationError) -> str:
    """The dotted name of the first setting that is refused."""
    return ".".join(str(part) for part in fault.errors()[0]["loc"])


def read_toml(file: Path) -> dict[str, Any]:
    """The contents of a TOML file. Raises ConfigError when it cannot be read or is not TOML."""
    file = local_path(file)
    try:
        return tomllib.loads(files.read_text(file))
    except OSError as fault:
        raise ConfigError(f"{file}: {files.read_fault(fault, 'name an existing TOML file')}") from fault
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as fault:
        raise ConfigError(f"{file}: not TOML ({fault})") from fault


def _place(values: dict[str, Any], path: Sequence[str], value: Any) -> None:
    for part in path[:-1]:
        values = values.setdefault(part, {})
        if not isinstance(values, dict):
            raise ConfigError(f"setting {part}: is a table of settings, got {values!r}; write a table")
    values[path[-1]] = value


def _closest(name: str, settings: BaseModel) -> list[str]:
    """The three of `settings` closest to `name`, by the last part of the name, then by the whole name."""

    def likeness(known: str) -> tuple[float, float]:
        last = SequenceMatcher(None, name.rpartition(".")[2], known.rpartition(".")[2])
        return last.ratio(), SequenceMatcher(None, name, known).ratio()

    return nlargest(3, (known for known, _, _ in walk(settings)), key=likeness)


def walk(settings: BaseModel, above: str = "") -> Iterator[tuple[str, Any, str]]:
    """Dotted name, value and description of all settings, and of the tables before the settings in them."""
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        yield above + name, value, field.description or ""
        if isinstance(value, BaseModel):
            yield from walk(value, f"{above}{name}.")


def complete(defaults: BaseModel, values: Any) -> Any:
    """`values`, completed from `defaults` at every level, so that one setting of a stage can be changed alone.

    Values may have the names of before 2026-11-28. A class of settings has these as RENAMED, dotted where they were in
    a table, with the names of today.
    """
    if not isinstance(values, dict):
        return values
    values = _rename(values, getattr(type(defaults), "RENAMED", {}))
    whole: dict[str, Any] = {name: getattr(defaults, name) for name in type(defaults).model_fields}
    for name, value in values.items():
        inner = whole.get(name)
        whole[name] = complete(inner, value) if isinstance(inner, BaseModel) else value
    return whole


def _rename(values: dict[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """`values` by the names of today, those of `names`; where a setting has both, that of today counts."""
    renamed = deepcopy(values)
    for before, now in names.items():
        above, _, name = before.rpartition(".")
        table = renamed.get(above) if above else renamed
        if isinstance(table, dict) and name in table:
            earlier: dict[str, Any] = {}
            _place(earlier, now.split("."), table.pop(name))
            renamed = _merge(earlier, renamed)
    return renamed


def _merge(first: Any, second: Any) -> Any:
    """Two tables of settings, of which those of `second` count."""
    if not isinstance(first, dict) or not isinstance(second, dict):
        return second
    both = {name: _merge(first[name], second[name]) for name in first.keys() & second.keys()}
    return {**first, **second, **both}
