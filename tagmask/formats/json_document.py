"""`json`: the complete result in one document."""

from base64 import b64encode

from pydantic import NonNegativeInt
from pydantic_core import to_json
from typing_extensions import TypedDict

from tagmask.formats import png
from tagmask.formats.fields import Box, Share, Size
from tagmask.formats.regions import Region, regions
from tagmask.segmentation import Segmentation


class ModelVersion(TypedDict):
    """The model that produced the masks."""

    version: str


class SegmentedClass(TypedDict):
    """A class that appears: its RGB colour (0..255), its pixels and their share of the photo, and the mean probability
    of its pixels.
    """

    label: NonNegativeInt
    name: str
    colour: tuple[NonNegativeInt, NonNegativeInt, NonNegativeInt]
    pixels: NonNegativeInt
    share: Share
    confidence: Share
    box: Box


class Base64File(TypedDict):
    """A file in base64."""

    media_type: str
    base64: str


class SegmentationDocument(TypedDict):
    """`classes` lists what appears, background first; `labels` names what could appear; `mask` is the `png` format."""

    model: ModelVersion
    size: Size
    classes: list[SegmentedClass]
    labels: list[str]
    mask: Base64File


def encode(segmentation: Segmentation) -> bytes:
    """A SegmentationDocument as JSON."""
    classes = segmentation.model.classes
    height, width = segmentation.size
    document: SegmentationDocument = {
        "model": {"version": segmentation.model.version},
        "size": {"width": width, "height": height},
        "classes": [
            _class(segmentation, region) for region in regions(segmentation.mask, classes, segmentation.counts)
        ],
        "labels": [classes[label] for label in segmentation.labels],
        "mask": {"media_type": "image/png", "base64": b64encode(png.encode(segmentation)).decode("ascii")},
    }
    return to_json(document)


def _class(segmentation: Segmentation, region: Region) -> SegmentedClass:
    return {
        "label": region.label,
        "name": region.name,
        "colour": segmentation.model.palette[region.label],
        "pixels": region.area,
        "share": round(region.area / segmentation.mask.size, 6),
        "confidence": region.mean(segmentation.confidence),
        "box": region.box,
    }
