"""One photo's way: decode, network, optionally DenseCRF, mask at full size, format. No HTTP."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, TypeVar

import cv2
import numpy as np
from PIL import Image

from service.models import Model
from tagmask import photos, upsampling
from tagmask.crf import Refiner
from tagmask.errors import Unprocessable
from tagmask.formats import Format
from tagmask.segmentation import Pixels, Segmentation

PICTURE_SIDE = 2048
"""Longer side, in pixels, to which pictures that are only looked at are limited."""

Refine = Literal["none", "crf"]
Observe = Callable[[str, float], None]
"""Takes a stage's name and its seconds."""
Answer = TypeVar("Answer")

cv2.setNumThreads(1)  # photos are worked on side by side, one a thread


@dataclass(frozen=True)
class SegmentOptions:
    """What a client wants of a photo: `tags` (none given: all classes), the format, and refinement."""

    tags: tuple[str, ...]
    format: Format
    refine: Refine


class Engine:
    """Turns photos into answers. Any number of threads may call `segment` at once."""

    def __init__(self, *, max_pixels: int, refiner: Refiner, refine_seconds: float, observe: Observe) -> None:
        """`refine_seconds` is the longest that DenseCRF may take; `observe` is told the seconds of each stage."""
        self._max_pixels = max_pixels
        self._refiner = refiner
        self._refine_seconds = refine_seconds
        self._observe = observe

    def segment(self, data: bytes, order: SegmentOptions, model: Model) -> bytes:
        """The answer for one photo's bytes, in the format of the order. Raises RequestError for what is at fault."""
        return self.paint(data, order.tags, order.refine, model, order.format.encode)

    def paint(
        self, data: bytes, tags: Sequence[str], refine: Refine, model: Model, encode: Callable[[Segmentation], Answer]
    ) -> Answer:
        """What `encode` makes of one photo's segmentation. Raises RequestError for what is at fault."""
        labels = labels_of(tags, model)
        with self._timed("decode"):
            photo = self._decode(data, model.metadata.working_size)
            pixels = _as_learned(photo.pixels, model.metadata.working_size, model.network.smallest)
        with self._timed("inference"):
            probabilities = upsampling.limited(model.network.probabilities(pixels), labels)
        if refine == "crf":
            with self._timed("refine"):
                probabilities = self._refiner.refine(pixels, probabilities, model.crf, self._refine_seconds)
        with self._timed("encode"):
            mask = upsampling.enlarge_mask(probabilities, labels, photo.size)
            segmentation = Segmentation(
                model=model.info,
                mask=mask,
                labels=labels,
                confidence_of=lambda: upsampling.enlarge_confidence(probabilities, labels, mask),
                picture_of=lambda: self._decode(data, PICTURE_SIDE).pixels,
            )
            return encode(segmentation)

    def _decode(self, data: bytes, long_side: int) -> photos.DecodedPhoto:
        return photos.decode(data, long_side=long_side, max_pixels=self._max_pixels)

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self._observe(stage, time.perf_counter() - start)


def labels_of(tags: Sequence[str], model: Model) -> tuple[int, ...]:
    """Labels of background and `tags`, ascending; all labels for no tags.

    Raises Unprocessable, listing the classes, for a tag that the model does not know.
    """
    classes = model.info.classes
    if not tags:
        return tuple(range(len(classes)))
    if unknown := [tag for tag in tags if tag not in classes[1:]]:
        known = ", ".join(classes[1:])
        raise Unprocessable(
            f"model {model.version} does not know {', '.join(repr(tag[:100]) for tag in unknown)}; it knows {known}",
            code="unknown_tag",
            field="tags",
            limit=known,
        )
    return (0, *sorted({classes.index(tag) for tag in tags}))


def _as_learned(pixels: Pixels, long_side: int, least: int) -> Pixels:
    """`pixels` with a longer side of `long_side`, as in training, and sides below `least` stretched to it."""
    width, height = photos.scaled_size((pixels.shape[1], pixels.shape[0]), long_side)
    size = max(width, least), max(height, least)
    if size == (pixels.shape[1], pixels.shape[0]):
        return pixels
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0))
