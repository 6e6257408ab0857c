"""Settings of a run: one frozen model a stage, the same names in a TOML file and on the command line.

Nested names are written with a dot: `pixelnet.fit.epochs`. Values are ours, found on small photos with a small
backbone on a CPU, unless a description says otherwise.
"""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from heapq import nlargest
from math import ceil
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from tagmask import crf
from tagmask.errors import ConfigError


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FitConfig(_Settings):
    """How long and how fast a network learns."""

    epochs: int = Field(ge=1, le=1000, description="passes over the photos")
    tag_photos: int = Field(
        300, ge=1, le=1_000_000, description="of a tag with more photos an epoch shows about so many, in turn"
    )
    least_steps: int = Field(
        1, ge=1, le=1_000_000, description="with few photos there are more epochs, for so many steps"
    )
    batch: int = Field(ge=1, le=4096, description="photos a step, over all processes together")
    learning_rate: float = Field(gt=0, le=1, description="AdamW step for new layers, falling to 0 as a half cosine")
    backbone_factor: float = Field(0.1, ge=0, le=1, description="learning rate of pretrained layers / that of new ones")
    weight_decay: float = Field(1e-2, ge=0, le=1, description="AdamW weight decay")

    def among(self, photos: int) -> Self:
        """The same for epochs of `photos` photos, with all the epochs that they take."""
        steps = max(1, ceil(photos / self.batch))  # of an epoch
        return self.model_copy(update={"epochs": max(self.epochs, ceil(self.least_steps / steps)), "least_steps": 1})


class AugmentConfig(_Settings):
    """Ranges from which each training photo's scale, crop and colour are drawn."""

    crop: int = Field(ge=32, le=2048, description="side of the square crop, pixels")
    smallest: float = Field(gt=0, le=10, description="least scale of a photo's longer side / crop")
    largest: float = Field(gt=0, le=10, description="greatest scale of a photo's longer side / crop")
    colour: float = Field(0.3, ge=0, le=1, description="strength of brightness, contrast and saturation changes, share")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.smallest > self.largest:
            raise ValueError(f"smallest ({self.smallest}) must not be above largest ({self.largest})")
        return self


class LocalizeConfig(_Settings):
    """At what size photos are shown to the network that localizes."""

    scale: float = Field(gt=0, le=4, description="input size / working size")
    flip: bool = Field(True, description="average with the mirrored photo")


class ClassifierConfig(_Settings):
    """The tag classifier."""

    fit: FitConfig = FitConfig(epochs=5, batch=16, learning_rate=2e-3)
    augment: AugmentConfig = AugmentConfig(crop=288, smallest=0.8, largest=1.5)
    maps: LocalizeConfig = LocalizeConfig(scale=1.5)


class SuperpixelConfig(_Settings):
    """How fine a photo is cut; the defaults give about 270 superpixels at 320x240."""

    sigma: float = Field(0.5, ge=0, le=5, description="Gaussian smoothing before segmentation, pixels")
    k: float = Field(60, gt=0, le=10_000, description="preference for larger superpixels, grey levels x pixels")
    min_size: int = Field(40, ge=1, le=100_000, description="smallest superpixel, pixels")


class SaliencyConfig(_Settings):
    """Settings of the saliency stage; the numbers are the paper's, and unused when `network` is set."""

    sigma_color: float = Field(
        default=10,
        ge=1,
        le=100,
        description="Lab units; colours further apart than this are different things (eq. 3, 10)",
    )
    sigma_spatial: float = Field(
        default=0.25,
        ge=0.05,
        le=10,
        description="parts of the photo's side; contrast counts regions nearer than this (eq. 6)",
    )
    sigma_boundary_connectivity: float = Field(
        default=1,
        ge=0.01,
        le=100,
        description="no unit; boundary connectivity above this is background (eq. 8)",
    )
    mu: float = Field(
        default=0.1,
        ge=0.001,
        le=10,
        description="no unit; least smoothing between neighbours, evens out clutter (eq. 10)",
    )
    network: Path | None = Field(
        default=None, description="ONNX saliency network to use instead; results are then no longer from tags alone"
    )


class SeedConfig(_Settings):
    """What counts as confident; the 80% agreement is from a later paper of the method's line."""

    object_above: float = Field(0.4, ge=0, le=1, description="class map, share of its maximum in the photo")
    background_below: float = Field(0.2, ge=0, le=1, description="every class map, share of its maximum in the photo")
    object_saliency: float = Field(0.3, ge=0, le=1, description="first round: least saliency of an object's seed, 0..1")
    background_saliency: float = Field(0.2, ge=0, le=1, description="first round: greatest of a background seed, 0..1")
    agreement: float = Field(0.8, ge=0, le=1, description="later rounds: share of a superpixel's pixels of one label")
    confidence: float = Field(0.6, ge=0, le=1, description="later rounds: PixelNet's mean probability of that label")


class RegionNetConfig(_Settings):
    """RegionNet's width and training."""

    width: int = Field(256, ge=8, le=4096, description="hidden units")
    dropout: float = Field(0.5, ge=0, lt=1, description="share of hidden units left out in training")
    fit: FitConfig = FitConfig(epochs=8, batch=32, learning_rate=1e-3)


class RefineConfig(_Settings):
    """How much saliency has to say in the first round."""

    bins: int = Field(12, ge=2, le=64, description="histogram bins a Lab channel")
    weight: float = Field(0.5, ge=0, le=1, description="share of the Bayes posterior; the rest is RegionNet's own")


class CrfConfig(crf.CrfConfig, extra="forbid"):
    """DenseCRF, and which of its labels are trained on."""

    sure_above: float = Field(0.9, ge=0, lt=1, description="training labels: pixels of lower probability are void")


class PixelNetConfig(_Settings):
    """PixelNet's width, its training in the first round, and in later rounds, which go on from the round before."""

    width: int = Field(128, ge=8, le=1024, description="channels of the head")
    fit: FitConfig = FitConfig(epochs=5, least_steps=150, batch=16, learning_rate=1e-3)
    later_fit: FitConfig = FitConfig(epochs=3, batch=16, learning_rate=7e-4)
    augment: AugmentConfig = AugmentConfig(crop=256, smallest=0.8, largest=1.7)
    maps: LocalizeConfig = LocalizeConfig(scale=1.5)


class KeepConfig(_Settings):
    """When a round is worse than the one before, judged without pixel labels; it is then dropped."""

    consistency_loss: float = Field(0.05, ge=0, le=1, description="greatest fall of tag consistency (F1, 0..1)")
    coverage_change: float = Field(1.5, ge=1, le=100, description="greatest factor between the rounds' coverages")
    agreement: float = Field(0.7, ge=0, le=1, description="least share of pixels labelled as in the round before")


class TrainConfig(_Settings):
    """All that decides what a run learns."""

    backbone: str = Field("tf_efficientnet_lite0", description="name of a timm CNN")
    weights: str | None = Field(
        None, description="file of the backbone's weights, or 'random'; none: the installed ones"
    )
    rounds: int = Field(3, ge=1, le=20, description="bottom-up and top-down passes")
    seed: int = Field(0, ge=0, lt=2**31, description="what every random number is drawn from")
    long_side: int = Field(320, ge=32, le=4096, description="photos are scaled down to this longer side, pixels")
    served_scale: float = Field(1.0, ge=0.25, le=4, description="size at which the bundle is shown photos / long_side")
    classifier: ClassifierConfig = ClassifierConfig()
    superpixels: SuperpixelConfig = SuperpixelConfig()
    saliency: SaliencyConfig = SaliencyConfig()
    seeds: SeedConfig = SeedConfig()
    regionnet: RegionNetConfig = RegionNetConfig()
    refine: RefineConfig = RefineConfig()
    crf: CrfConfig = CrfConfig()
    pixelnet: PixelNetConfig = PixelNetConfig()
    keep: KeepConfig = KeepConfig()

    @field_validator("served_scale")
    @classmethod
    def _servable(cls, scale: float, info: ValidationInfo) -> float:
        from tagmask.bundle import MAX_SIDE  # loads ONNX, which `--help` does without

        long_side = info.data.get("long_side", 0)
        if round(scale * long_side) > MAX_SIDE:
            raise ValueError(f"times long_side ({long_side}) is above {MAX_SIDE} pixels, the greatest working size")
        return scale


Preset = Literal["fast", "default", "best"]

PRESETS: Mapping[Preset, Mapping[str, Any]] = {
    "fast": {"rounds": 1, "long_side": 240, "classifier.augment.crop": 224, "pixelnet.augment.crop": 192},
    "default": {},
    "best": {"rounds": 5},
}
"""Trades of time for accuracy, as changes of the defaults; benchmarks/README.md has what each costs and gives."""


def load_config(
    file: Path | None = None, overrides: Mapping[str, Any] | None = None, preset: Preset = "default"
) -> TrainConfig:
    """Settings of `preset`, changed by a TOML file, changed by `overrides` (dotted name -> value, None = not given).

    Raises ConfigError naming the file and the setting, what was given, and what is allowed.
    """
    base = load_config(overrides=PRESETS[preset]) if preset != "default" else TrainConfig()
    values: dict[str, Any] = {}
    if file is not None:
        try:
            values = tomllib.loads(file.read_text(encoding="utf-8"))
        except OSError as fault:
            raise ConfigError(f"{file}: cannot be read ({fault.strerror}); give an existing TOML file") from fault
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as fault:
            raise ConfigError(f"{file}: not TOML ({fault})") from fault
    for name, value in (overrides or {}).items():
        if value is not None:
            _place(values, name.split("."), value)
    try:
        return TrainConfig.model_validate(complete(base, values))
    except ValidationError as fault:
        first = fault.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        where = f"{file}: " if file is not None else ""
        if first["type"] == "extra_forbidden":
            raise ConfigError(f"{where}setting {name}: unknown; the closest are {', '.join(_closest(name))}") from fault
        raise ConfigError(f"{where}setting {name}: {first['msg']}, given {first['input']!r}") from fault


def _place(values: dict[str, Any], path: Sequence[str], value: Any) -> None:
    for part in path[:-1]:
        values = values.setdefault(part, {})
        if not isinstance(values, dict):
            raise ConfigError(f"setting {part}: holds settings of its own, given {values!r}; write a table of them")
    values[path[-1]] = value


def _closest(name: str) -> list[str]:
    """The three known settings most like `name`: like its last part, and among those alike like the whole."""

    def likeness(known: str) -> tuple[float, float]:
        last = SequenceMatcher(None, name.rpartition(".")[2], known.rpartition(".")[2])
        return last.ratio(), SequenceMatcher(None, name, known).ratio()

    return nlargest(3, _names(TrainConfig()), key=likeness)


def _names(settings: BaseModel, above: str = "") -> Iterator[str]:
    """Dotted names of all settings and of the tables that hold them."""
    for name in type(settings).model_fields:
        yield above + name
        value = getattr(settings, name)
        if isinstance(value, BaseModel):
            yield from _names(value, f"{above}{name}.")


def complete(defaults: BaseModel, values: Any) -> Any:
    """`values` with what they leave out taken from `defaults`, so that one setting of a stage can be changed alone."""
    if not isinstance(values, dict):
        return values
    whole: dict[str, Any] = {name: getattr(defaults, name) for name in type(defaults).model_fields}
    for name, value in values.items():
        inner = whole.get(name)
        whole[name] = complete(inner, value) if isinstance(inner, BaseModel) else value
    return whole
