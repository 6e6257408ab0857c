"""A bundle at work: photos in, probabilities and masks out, by ONNX Runtime. Needs no torch.

predictor = Predictor.load(Path("model.onnx"))
mask = predictor.segment(read_photo(Path("dog.jpg")), tags=["dog"])
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tagmask.bundle import Metadata, read_metadata
from tagmask.errors import BundleError, DataError
from tagmask.photos import scaled_size
from tagmask.session import open_session
from training.config import CrfConfig

Pixels = NDArray[np.uint8]
Planes = NDArray[np.float32]


@dataclass(frozen=True)
class Prediction:
    """What the network says of one photo, at the size at which it saw it.

    `photo` (h, w, 3) uint8 RGB, `probabilities` (labels, h, w) float32 summing to 1 over labels, and the photo's own
    `size` (H, W) in pixels.
    """

    photo: Pixels
    probabilities: Planes
    size: tuple[int, int]

    def limited(self, labels: Sequence[int]) -> Planes:
        """Probabilities of `labels` alone: (len(labels), h, w) float32, summing to 1 again."""
        chosen = self.probabilities[list(labels)]
        total = chosen.sum(axis=0)
        rest = np.full_like(chosen, 1 / len(labels))
        return np.divide(chosen, total, out=rest, where=total > 0)

    def mask(self, labels: Sequence[int], crf: CrfConfig | None = None, size: tuple[int, int] | None = None) -> Pixels:
        """The strongest of `labels` at each pixel: `size` (H, W), else the photo's own, uint8.

        With `crf` DenseCRF runs at the size at which the network saw the photo, which its distances are meant for.
        """
        probabilities = self.limited(labels)
        if crf is not None:
            from tagmask.crf import dense_crf

            probabilities = dense_crf(self.photo, probabilities, crf)
        height, width = size or self.size
        mask = np.full((height, width), labels[0], dtype=np.uint8)
        best = _enlarged(probabilities[0], (height, width))
        for label, plane in zip(labels[1:], probabilities[1:], strict=True):  # two planes at full size, not all
            enlarged = _enlarged(plane, (height, width))
            mask[enlarged > best] = label
            np.maximum(best, enlarged, out=best)
        return mask


class Predictor:
    """A loaded bundle.

    Attributes: `metadata`, and `classes`, the names of labels 0, 1, …, background first.
    """

    def __init__(self, metadata: Metadata, session: Any) -> None:
        """Use `load`. `session` is an `onnxruntime.InferenceSession`."""
        self.metadata = metadata
        self.classes = metadata.classes
        self._session = session

    @classmethod
    def load(cls, path: Path, device: str = "auto", threads: int | None = None) -> "Predictor":
        """Load the bundle at `path`; `device` is "auto", "cpu" or "cuda", `threads` those of an operator on CPU.

        Raises BundleError for a file that is no bundle or cannot be run, ConfigError for the device.
        """
        metadata = read_metadata(path)
        session = open_session(path, device=device, threads=threads)
        promised = ([metadata.input.name], [metadata.output.name])
        found = ([port.name for port in session.get_inputs()], [port.name for port in session.get_outputs()])
        if promised != found:
            raise BundleError(
                f"{path}: its metadata promises input and output {promised[0] + promised[1]}, the network has "
                f"{found[0] + found[1]}; export the model again"
            )
        return cls(metadata, session)

    def labels(self, tags: Sequence[str] | None) -> tuple[int, ...]:
        """Labels of background and `tags`, ascending; all labels for None. Raises DataError for an unknown tag."""
        if tags is None:
            return tuple(range(len(self.classes)))
        for tag in tags:
            if tag not in self.classes[1:]:
                known = ", ".join(self.classes[1:])
                raise DataError(f"tag {tag!r} is not a class of the model; it knows {known}")
        return (0, *sorted({self.classes.index(tag) for tag in tags}))

    def predict(self, photo: Pixels) -> Prediction:
        """Run the network on `photo`, (H, W, 3) uint8 RGB.

        Its longer side is scaled to the working size, down or up; a side that is then below the network's least one
        is stretched to it.
        """
        height, width = photo.shape[:2]
        least = self.metadata.smallest_size
        size = scaled_size((width, height), self.metadata.working_size)
        size = max(size[0], least), max(size[1], least)
        if size != (width, height):  # as training does
            scaled = Image.fromarray(photo).resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
            small = np.asarray(scaled)
        else:
            small = photo
        image = np.ascontiguousarray(small.transpose(2, 0, 1)[None], dtype=np.float32)
        output = self._session.run([self.metadata.output.name], {self.metadata.input.name: image})[0]
        return Prediction(small, output[0], (height, width))

    def probabilities(self, photo: Pixels) -> Planes:
        """Probabilities of all labels at the size of `photo`, (H, W, 3) uint8 RGB: (labels, H, W) float32.

        They sum to 1 at each pixel, up to rounding. Takes 4 bytes a label and pixel; `segment` does not.
        """
        prediction = self.predict(photo)
        return np.stack([_enlarged(plane, prediction.size) for plane in prediction.probabilities])

    def segment(self, photo: Pixels, tags: Sequence[str] | None = None, crf: CrfConfig | None = None) -> Pixels:
        """The mask of `photo`, (H, W, 3) uint8 RGB: (H, W) uint8 labels, of background and `tags` if they are given.

        Raises DataError for a tag that the model does not know.
        """
        return self.predict(photo).mask(self.labels(tags), crf)


def _enlarged(plane: Planes, size: tuple[int, int]) -> Planes:
    """`plane` (h, w) at `size` (H, W), bilinear with pixel centres aligned."""
    height, width = size
    return np.asarray(cv2.resize(plane, (width, height), interpolation=cv2.INTER_LINEAR), dtype=np.float32)
