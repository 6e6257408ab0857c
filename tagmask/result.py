"""The result of a segmentation, the same from a service and from a `Segmenter` in this process."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from io import BytesIO
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from tagmask.classes import find_class
from tagmask.expected_iou import mask_iou
from tagmask.segmentation import Pixels

FormatName = Literal["confidence", "overlay", "coco", "polygons", "label-studio", "cvat", "json"]
"""Formats that can be requested in addition to the mask."""


@dataclass(frozen=True, eq=False)
class Result:
    """One photo's masks at the size (H, W) at which it is displayed.

    `mask` (H, W) uint8, value = label. `classes` names every class of the model by label, background first. `palette`
    (classes, 3) uint8 has their colours, so that `palette[mask]` is an RGB picture. `version` is the model's.
    `expected_ious` has the intersection over union to expect of each class that appears and of each given tag, 0..1, by
    ascending label; it is empty for older services, which do not state it. `low_confidence` flags masks that may be
    wrong. `tags` has the probability that the photo shows each class, 0..1, by ascending label; it is empty for a model
    without a tag head.
    `answers` has the content of a file in each format: "png", the mask, and the other requested formats.
    """

    mask: Pixels
    classes: tuple[str, ...]
    palette: Pixels
    version: str
    expected_ious: Mapping[str, float]
    low_confidence: bool
    tags: Mapping[str, float]
    answers: Mapping[str, bytes] = field(repr=False)

    @cached_property
    def present(self) -> tuple[str, ...]:
        """Classes that appear, without background, by ascending label."""
        counts = Image.fromarray(self.mask).histogram()  # NumPy's functions sort, or cast to int64
        return tuple(name for label, name in enumerate(self.classes) if label and counts[label])

    @property
    def expected_iou(self) -> float:
        """The intersection over union to expect of the mask: the mean over classes, 0..1; NaN if it is not known."""
        return mask_iou(self.expected_ious, self.classes[0])

    @property
    def unpainted(self) -> tuple[str, ...]:
        """Given tags that appear nowhere in the mask, by ascending label."""
        return tuple(name for name in self.expected_ious if name not in (self.classes[0], *self.present))

    def mask_of(self, name: str) -> NDArray[np.bool_]:
        """The pixels of class `name`, in any spelling: (H, W) bool. Raises KeyError, listing the classes."""
        known = find_class(name, self.classes)
        if known is None:
            raise KeyError(f"no class {name!r}; model {self.version} has {', '.join(self.classes)}")
        return self.mask == self.classes.index(known)

    @cached_property
    def confidence(self) -> Pixels:
        """Probability of each pixel's class: (H, W) uint8, 255 = certain. Raises KeyError unless it was requested."""
        return _pixels(self._answer("confidence"))

    @cached_property
    def overlay(self) -> Pixels:
        """The photo tinted by its masks, with a legend: (h, w, 3) uint8 RGB, at most 2048 pixels long.

        Raises KeyError unless it was requested.
        """
        return _pixels(self._answer("overlay"))

    def document(self, format: str) -> Any:
        """The JSON of "coco", "polygons", "label-studio", "cvat" or "json". Raises KeyError unless it was requested."""
        return json.loads(self._answer(format))

    def _answer(self, name: str) -> bytes:
        if name not in self.answers:
            raise KeyError(f"{name!r} was not requested; call segment(…, formats=[{name!r}])")
        return self.answers[name]


def read_result(answers: Mapping[str, bytes]) -> Result:
    """The Result of `answers` by format, "png" among them. Raises what Pillow or JSON raises."""
    with PngImageFile(BytesIO(answers["png"])) as image:  # `Image.open` refuses masks of large photos
        names: dict[str, str] = json.loads(image.info["classes"])
        classes = tuple(names[str(label)] for label in range(len(names)))
        palette = np.array(image.getpalette(), dtype=np.uint8).reshape(-1, 3)[: len(classes)]
        ious, tags = (json.loads(image.info.get(name, "{}")) for name in ("expected_iou", "tags"))
        return Result(
            mask=np.array(image),
            classes=classes,
            palette=palette,
            version=image.info["model"],
            expected_ious={names[label]: iou for label, iou in ious.items()},
            low_confidence=image.info.get("low_confidence") == "true",
            tags={names[label]: probability for label, probability in tags.items()},
            answers=answers,
        )


def _pixels(png: bytes) -> Pixels:
    with PngImageFile(BytesIO(png)) as image:
        return np.array(image)
