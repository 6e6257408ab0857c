"""`json`: the complete result in one document."""

from base64 import b64encode
from collections.abc import Iterator
from operator import itemgetter

from pydantic import NonNegativeInt
from pydantic_core import to_json
from typing_extensions import TypedDict

from tagmask.formats import png
from tagmask.formats.fields import Box, Share, Size
from tagmask.formats.regions import regions
from tagmask.segmentation import Segmentation


class ModelVersion(TypedDict):
    """The model that produced the masks."""

    version: str


class SegmentedClass(TypedDict):
    """A class that appears, or a given tag that is painted nowhere, whose figures are 0: its RGB colour (0..255), its
    pixels and their share of the photo, the mean probability of its pixels, and the intersection over union to expect.
    """

    label: NonNegativeInt
    name: str
    colour: tuple[NonNegativeInt, NonNegativeInt, NonNegativeInt]
    pixels: NonNegativeInt
    share: Share
    confidence: Share
    box: Box
    expected_iou: Share
    painted: bool


class TagProbability(TypedDict):
    """A class of the model except background, and the probability that the photo shows it."""

    name: str
    probability: Share


class Base64File(TypedDict):
    """A file in base64."""

    media_type: str
    base64: str


class SegmentationDocument(TypedDict):
    """`classes` lists what appears and the given tags, background first; `labels` names what could appear.

    `expected_iou` is the mean of the classes except background, or background's if it is alone, and `low_confidence`
    whether that is below the limit of the service. `tags` lists every class with its probability, the most probable
    first, and is empty for a model without a tag head. `mask` is the `png` format.
    """

    model: ModelVersion
    size: Size
    classes: list[SegmentedClass]
    labels: list[str]
    expected_iou: Share
    low_confidence: bool
    tags: list[TagProbability]
    mask: Base64File


def encode(segmentation: Segmentation) -> bytes:
    """A SegmentationDocument as JSON."""
    classes = segmentation.model.classes
    height, width = segmentation.size
    document: SegmentationDocument = {
        "model": {"version": segmentation.model.version},
        "size": {"width": width, "height": height},
        "classes": sorted([*_painted(segmentation), *_unpainted(segmentation)], key=itemgetter("label")),
        "labels": [classes[label] for label in segmentation.labels],
        "expected_iou": segmentation.expected_iou,
        "low_confidence": segmentation.low_confidence,
        "tags": [
            {"name": classes[label], "probability": probability}
            for label, probability in sorted(segmentation.tag_probabilities.items(), key=itemgetter(1), reverse=True)
        ],
        "mask": {"media_type": "image/png", "base64": b64encode(png.encode(segmentation)).decode("ascii")},
    }
    return to_json(document)


def _painted(segmentation: Segmentation) -> Iterator[SegmentedClass]:
    model = segmentation.model
    for region in regions(segmentation.mask, model.classes, segmentation.counts):
        yield {
            "label": region.label,
            "name": region.name,
            "colour": model.palette[region.label],
            "pixels": region.area,
            "share": round(region.area / segmentation.mask.size, 6),
            "confidence": region.mean(segmentation.confidence),
            "box": region.box,
            "expected_iou": segmentation.expected_ious[region.label],
            "painted": True,
        }


def _unpainted(segmentation: Segmentation) -> Iterator[SegmentedClass]:
    model = segmentation.model
    for label in segmentation.unpainted:
        yield {
            "label": label,
            "name": model.classes[label],
            "colour": model.palette[label],
            "pixels": 0,
            "share": 0.0,
            "confidence": 0.0,
            "box": (0, 0, 0, 0),
            "expected_iou": 0.0,
            "painted": False,
        }
