"""The description of a network inside its bundle, and the digests that record what it learned from."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self

from pydantic import AwareDatetime, BaseModel, Field, ModelWrapValidatorHandler, computed_field, model_validator

from tagmask.classes import text_fault
from tagmask.inputs import MAX_TILE, MIN_TILE, Precision
from tagmask.masks import BACKGROUND, MAX_CLASSES, PALETTE
from tagmask.scores import Measured

FORMAT: Literal[1] = 1
"""Version of the schema; it increases with changes that older readers would misread."""

SAMPLE_DIGITS = 16
"""Digits of each digest: those of a million photos and one more are all different but once in 10^13 times."""

MIN_INPUT_SIDE = 32
"""Minimum height and width of an input, in pixels, of the networks that Tagmask trains."""

MAX_WORKING_SIZE = 4096
"""Maximum working size in pixels."""

MAX_OUTPUT = 2**30
"""Maximum size in bytes of the probabilities of a square photo at the working size."""

Supervision = Annotated[str, Field(pattern=r"^(tags(, saliency network)?(, hints)?(, corrections)?|full masks)$")]
Channel = Annotated[int, Field(ge=0, le=255)]


class Port(BaseModel, frozen=True):
    """One tensor that goes into the network or comes out of it; `values` describes its content."""

    name: str
    layout: Literal["NCHW", "NC"] = "NCHW"
    dtype: Literal["float32"] = "float32"
    values: str = ""


IMAGE = Port(name="image", values="RGB, 0..255, not normalized")
PROBABILITIES = Port(name="probabilities", values="0..1, sum over C is 1")
TAGS = Port(name="tags", layout="NC", values="0..1, probability of each class except background")


class Quantization(BaseModel, frozen=True):
    """How an int8 network was calibrated, and how far it agrees with the float network that it was made from."""

    calibration_digest: str = Field(pattern=r"^[0-9a-f]{64}$", description="SHA-256 of the calibration photos, hex")
    calibration_photos: int = Field(ge=1, description="number of calibration photos")
    agreement: float = Field(ge=0, le=1, description="mean share of a photo's pixels with the float network's label")
    compared_photos: int = Field(ge=1, description="number of photos compared, none of which calibrated")
    network_digest: str | None = Field(
        None, pattern=r"^[0-9a-f]{64}$", description="SHA-256 of the int8 network, hex; the first bundles lack it"
    )


class Metadata(BaseModel, frozen=True):
    """The description inside a bundle. `version` follows from the digests; unknown fields are ignored when read."""

    format: Literal[1] = Field(FORMAT, description="version of this schema")
    tagmask: str = Field(description="version of Tagmask that wrote the bundle")
    created: AwareDatetime = Field(
        default_factory=lambda: datetime.now(UTC).replace(microsecond=0), description="time of export"
    )
    weights_digest: str = Field(pattern=r"^[0-9a-f]{64}$", description="SHA-256 of the trained weights, hex")
    classes: tuple[str, ...] = Field(min_length=2, max_length=MAX_CLASSES + 1, description="by label, background first")
    palette: tuple[tuple[Channel, Channel, Channel], ...] = Field(
        default_factory=lambda data: PALETTE[: len(data["classes"])],
        description="red, green, blue (0..255) of each class; VOC's by default",
    )
    working_size: int = Field(ge=1, le=MAX_WORKING_SIZE, description="longer side that photos are scaled to, pixels")
    tile: int | None = Field(
        None,
        ge=MIN_TILE,
        le=MAX_TILE,
        description="side of the tiles in which larger photos are segmented, pixels; null: photos are segmented whole",
    )
    smallest_size: int = Field(MIN_INPUT_SIDE, ge=1, description="least height and width of an input, pixels")
    input: Port = Field(IMAGE, description="(1, 3, h, w), RGB, 0..255, not normalized")
    output: Port = Field(PROBABILITIES, description="(1, labels, h, w) probabilities, 0..1, sum over labels is 1")
    tags: Port | None = Field(
        None, description="(1, classes) probability of each class except background, 0..1, in models with a tag head"
    )
    tag_shares: tuple[Annotated[float, Field(ge=0, le=1)], ...] = Field(
        (), description="part of the training photos that carry each class except background, if the model has `tags`"
    )
    least_areas: tuple[Annotated[float, Field(ge=0, le=1)], ...] = Field(
        (), description="part of a photo that each class except background covers at least, but on 5% of its photos"
    )
    precision: Precision = Field("fp32", description="number format of weights and computation")
    quantization: Quantization | None = Field(None, description="calibration and agreement of an int8 network")
    backbone: str = Field(description="timm name of the backbone")
    rounds: int = Field(ge=0, description="round that trained the network; 0 for training without rounds")
    photos: int = Field(ge=1, description="number of training photos")
    data_digest: str = Field(description="SHA-256 of the tagged training photos, hex")
    supervision: Supervision = Field(
        "tags",
        description="'tags', with 'saliency network' (most learned from masks of others), 'hints' (masks that another "
        "model made) and 'corrections' (pixels that people vouch for) if they took part, or 'full masks'",
    )
    saliency: str = Field("unsupervised", description="'unsupervised', or the file of a saliency network")
    metrics: dict[str, Any] = Field(default_factory=dict, description="figures of the kept round")
    measured: Measured | None = Field(None, description="accuracy on held-out corrections, if there are any")
    settings: dict[str, Any] = Field(default_factory=dict, description="settings of the run")
    decision: dict[str, Any] | None = Field(None, description="whether the model was promoted, and why")

    @computed_field(  # type: ignore[prop-decorator]
        description="first 12 hex digits of the weights' digest, and '-fp16', or '-int8-' and 8 of the network's"
    )
    @property
    def version(self) -> str:
        parts = [self.weights_digest[:12], *([] if self.precision == "fp32" else [self.precision])]
        if self.quantization and self.quantization.network_digest:
            parts.append(self.quantization.network_digest[:8])
        return "-".join(parts)

    @model_validator(mode="wrap")
    @classmethod
    def _check_version(cls, values: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Refuse a `version` in the metadata that does not follow from the digests."""
        metadata = handler(values)
        version = values.get("version", metadata.version) if isinstance(values, dict) else metadata.version
        if version != metadata.version:
            raise ValueError(f"version {version!r} is not {metadata.version!r}, which follows from the digests")
        return metadata

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.classes[0] != BACKGROUND or len(set(self.classes)) < len(self.classes):
            raise ValueError(f"classes must begin with {BACKGROUND!r} and differ")
        for name in self.classes[1:]:
            if fault := text_fault(name):
                raise ValueError(f"class {name!r} {fault}")
        if (self.precision == "int8") != (self.quantization is not None):
            raise ValueError(
                f"precision {self.precision} {'without' if self.precision == 'int8' else 'with'} quantization"
            )
        if len(self.palette) != len(self.classes):
            raise ValueError(f"{len(self.palette)} colours for {len(self.classes)} classes")
        if len(self.tag_shares) != (len(self.classes) - 1 if self.tags else 0):
            raise ValueError(f"{len(self.tag_shares)} tag_shares for {len(self.classes)} classes")
        if len(self.least_areas) not in (0, len(self.classes) - 1):
            raise ValueError(f"{len(self.least_areas)} least_areas for {len(self.classes)} classes")
        if self.smallest_size > self.working_size:
            raise ValueError(f"smallest_size {self.smallest_size} is above working_size {self.working_size}")
        if (output := 4 * len(self.classes) * self.working_size**2) > MAX_OUTPUT:
            raise ValueError(
                f"working_size {self.working_size} with {len(self.classes)} classes is an output of {output:,} bytes, "
                f"more than {MAX_OUTPUT:,}"
            )
        return self


def sample_digest(sample: str) -> str:
    """What bundles record of a sample: the first SAMPLE_DIGITS digits of its SHA-256, in hex."""
    return sample[:SAMPLE_DIGITS]


def sample_digests(samples: Iterable[str]) -> frozenset[str]:
    """The `sample_digest` of each of `samples`."""
    return frozenset(map(sample_digest, samples))
