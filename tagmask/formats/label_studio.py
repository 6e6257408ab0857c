"""`label-studio`: a prediction with one brush result per class that appears.

It goes into a task's `predictions`. The results name controls of the project's labelling interface, by default these:

    <View><Image name="image" value="$image"/><BrushLabels name="tag" toName="image">...</BrushLabels></View>

The RLE is that of @thi.ng/rle-pack, which Label Studio's brush reads: a stream of bits, most significant first, of
the photo's RGBA bytes with the mask in all four channels, 0 or 255.

    header  32 bits: number of bytes; 5 bits: bits per value - 1; 4 x 4 bits: bits of each kind of length - 1
    run     1 bit: 1; 2 bits: kind of length; 3, 4, 8 or 16 bits: length - 1; 8 bits: value
"""

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import NonNegativeInt
from pydantic_core import to_json
from typing_extensions import TypedDict

from tagmask.formats.fields import Share
from tagmask.formats.regions import Region, regions, run_lengths
from tagmask.masks import MAX_CLASSES
from tagmask.segmentation import Pixels, Segmentation

CHANNELS = 4
VALUE_BITS = 8
LENGTH_BITS = np.array([3, 4, 8, 16])
LONGEST = 1 << int(LENGTH_BITS[-1])
_HEADER_BITS = 53


class BrushValue(TypedDict):
    """A mask in run-length encoding, and its label."""

    format: Literal["rle"]
    rle: list[NonNegativeInt]
    brushlabels: list[str]


class BrushMask(TypedDict):
    """The mask of a class."""

    id: str
    type: Literal["brushlabels"]
    from_name: str
    to_name: str
    original_width: NonNegativeInt
    original_height: NonNegativeInt
    image_rotation: NonNegativeInt
    value: BrushValue


class BrushResult(BrushMask):
    """The mask of a class; `score` is the mean probability of its pixels."""

    score: Share


class LabelStudioPrediction(TypedDict):
    """A prediction of a task; `score` is the mean probability over the photo."""

    model_version: str
    score: Share
    result: list[BrushResult]


@dataclass(frozen=True)
class Controls:
    """Names in a labelling interface: of its BrushLabels, of its Image, and of the label for each class.

    Classes without a label are left out; if `labels` is empty, each class has its own name as label.
    """

    brush: str
    image: str
    labels: Mapping[str, str]


DEFAULT = Controls("tag", "image", {})


def encode(segmentation: Segmentation, controls: Controls = DEFAULT) -> bytes:
    """A LabelStudioPrediction as JSON, with results by ascending label and none for background."""
    classes = segmentation.model.classes
    labels = controls.labels or dict(zip(classes, classes, strict=True))
    labelled = [label for label in segmentation.present if classes[label] in labels]
    prediction: LabelStudioPrediction = {
        "model_version": segmentation.model.version,
        "score": segmentation.score,
        "result": [
            {
                **brush_mask(region, controls, labels[region.name]),
                "score": region.mean(segmentation.confidence),
            }
            for region in regions(segmentation.mask, classes, labelled)
        ],
    }
    return to_json(prediction)


def brush_mask(region: Region, controls: Controls, label: str) -> BrushMask:
    """All pixels of a class, which the labelling interface calls `label`."""
    height, width = region.plane.shape
    runs = brush_rle(region.plane)
    return {
        "id": _id(region.label, width, runs.tobytes()),
        "type": "brushlabels",
        "from_name": controls.brush,
        "to_name": controls.image,
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "value": {"format": "rle", "rle": runs.tolist(), "brushlabels": [label]},
    }


def is_prediction(result: Mapping[str, Any]) -> bool:
    """Whether the result of an annotation is what a model predicted, and nobody has changed it.

    Label Studio says so in `origin`; without it, as in annotations made through its API, the id shows whether it is one
    of ours.
    """
    match result:
        case {"origin": str(origin)}:
            return origin == "prediction"
        case {"id": str(name), "original_width": int(width), "value": {"rle": list(runs)}}:
            with suppress(ValueError, TypeError):
                known = bytes(runs)
                return any(_id(label, width, known) == name for label in range(1, MAX_CLASSES + 1))
            return False
        case _:
            return False


def _id(label: int, width: int, runs: bytes) -> str:
    return hashlib.sha256(f"{label} {width} ".encode() + runs).hexdigest()[:10]


def brush_pixels(rle: Sequence[int], size: tuple[int, int]) -> Pixels:
    """The pixels of Label Studio's brush RLE, at least half opaque: (height, width) uint8, 0 or 1.

    Unlike ours, it may also have literal values: 0; 2 bits: kind of length; length - 1; the values. Raises ValueError
    for one that is damaged, or of another `size`.
    """
    bits = f"{int.from_bytes(bytes((1, *rle))):b}"[1:]
    if len(bits) < _HEADER_BITS or int(bits[32:37], 2) + 1 != VALUE_BITS:
        raise ValueError("a brush mask is damaged")
    if (total := int(bits[:32], 2)) != CHANNELS * size[0] * size[1]:
        raise ValueError(f"a brush mask does not have {size[1]}x{size[0]} pixels")
    length_bits = [int(bits[start : start + 4], 2) + 1 for start in range(37, _HEADER_BITS, 4)]
    values, lengths = bytearray(), []
    place, left = _HEADER_BITS, total
    while left > 0:
        start = place + 3
        place = start + length_bits[int(bits[place + 1 : start] or "0", 2)]
        if len(bits) < place + VALUE_BITS:
            raise ValueError("a brush mask is damaged")
        length, repeated = int(bits[start:place], 2) + 1, bits[start - 3] == "1"
        end = place + VALUE_BITS * (1 if repeated else length)
        values += int(bits[place:end], 2).to_bytes((end - place) // VALUE_BITS)
        lengths += [length] if repeated else [1] * length
        place, left = end, left - length
    if left or len(bits) < place:
        raise ValueError("a brush mask is damaged")
    opaque = np.repeat(np.frombuffer(values, dtype=np.uint8) >= 128, lengths)[CHANNELS - 1 :: CHANNELS]
    return opaque.view(np.uint8).reshape(size)


def brush_rle(pixels: Pixels) -> NDArray[np.uint8]:
    """The bytes of Label Studio's brush RLE of `pixels`, (H, W) uint8, 0 or 1, padded with zero bits at the end."""
    lengths = CHANNELS * run_lengths(pixels)
    pieces = -(-lengths // LONGEST)  # none for the empty run that a first pixel of 1 begins with
    values = np.repeat(np.arange(lengths.size) % 2 * 255, pieces)
    before = np.arange(values.size) - np.repeat(np.cumsum(pieces) - pieces, pieces)  # pieces of the same run
    lengths = np.minimum(np.repeat(lengths, pieces) - before * LONGEST, LONGEST)

    kind = np.searchsorted(1 << LENGTH_BITS, lengths)  # the shortest that holds the length
    length_bits = LENGTH_BITS[kind]
    runs = (((0b100 | kind) << length_bits | (lengths - 1)) << VALUE_BITS) | values
    sizes = int("".join(f"{bits - 1:04b}" for bits in LENGTH_BITS), base=2)
    header = [CHANNELS * pixels.size, (VALUE_BITS - 1) << 16 | sizes]
    return _pack(np.concatenate((header, runs)), np.concatenate(([32, 21], 3 + length_bits + VALUE_BITS)))


def _pack(codes: NDArray[np.int64], widths: NDArray[np.int64]) -> NDArray[np.uint8]:
    """The lowest `widths` bits of each of `codes`, at most 32, one after another."""
    words = (codes << (32 - widths)).astype(">u4").view(np.uint8).reshape(-1, 4)
    bits = np.unpackbits(words, axis=1)
    return np.packbits(bits[np.arange(32) < widths[:, None]])
