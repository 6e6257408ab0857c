"""Saliency networks from ONNX files, in place of the unsupervised saliency. Needs no torch."""

from pathlib import Path

import numpy as np
from PIL import Image

from tagmask import files
from tagmask.errors import ConfigError

IMAGENET_MEAN = np.array((0.485, 0.456, 0.406), np.float32)
IMAGENET_STD = np.array((0.229, 0.224, 0.225), np.float32)

DYNAMIC_SIDE = 320
"""Input side in pixels of a network of dynamic input size; U2-Net's own."""

EXPECTED = (
    "expected an ONNX saliency network with one float32 image input (1, 3, H, W) "
    "whose first output is a one-channel map (1, 1, H, W)"
)


class OnnxSaliency:
    """A saliency network from an ONNX file, such as U2-Net; runs on one CPU thread.

    The network has one float32 image input (1, 3, H, W), RGB, normalized by ImageNet's mean and standard deviation; a
    dynamic size is run at DYNAMIC_SIDE. Its first output is a one-channel map, as logits or probabilities; others are
    ignored.
    It is run once on construction, so that an unsuitable file fails before the first photo.
    Raises ConfigError, naming the file and what was expected.
    """

    def __init__(self, path: Path) -> None:
        from tagmask.session import open_session  # ONNX Runtime, which the unsupervised saliency does without

        self.path = path
        try:
            files.open_file(path).close()  # ONNX Runtime would wait for the writer of a pipe
            self._session = open_session(path, device="cpu", threads=1)
            self._input, self._size = self._image_input()
            self(np.zeros((*self._size, 3), np.uint8))
        except ConfigError:
            raise
        except OSError as fault:
            raise ConfigError(f"{path}: {files.read_fault(fault, EXPECTED)}") from fault
        except Exception as fault:  # ONNX Runtime has a dozen exceptions without a common base
            reason = " ".join(str(fault.__cause__ or fault).split())
            raise ConfigError(f"{path}: cannot be run ({reason}); {EXPECTED}") from fault

    def __call__(self, photo: np.ndarray) -> np.ndarray:
        """Saliency of an RGB photo (H, W, 3) uint8 as (H, W) float32, from 0 to 1 within the photo.

        All zero where the network's map is flat. Raises ConfigError for a map that is not finite.
        """
        height, width = self._size
        scaled = Image.fromarray(photo).resize((width, height), Image.Resampling.BILINEAR)
        image = (np.asarray(scaled, np.float32) / 255 - IMAGENET_MEAN) / IMAGENET_STD  # (h, w, 3)
        output = np.asarray(self._session.run(None, {self._input: image.transpose(2, 0, 1)[None]})[0])
        if output.ndim < 3 or output.size != output.shape[-2] * output.shape[-1]:
            raise ConfigError(f"{self.path}: its first output is {output.shape}; {EXPECTED}")
        if not np.isfinite(output).all():
            raise ConfigError(f"{self.path}: its output is not finite; use another network")
        saliency = Image.fromarray(output.reshape(output.shape[-2:]).astype(np.float32))
        size = (photo.shape[1], photo.shape[0])
        return stretch(np.asarray(saliency.resize(size, Image.Resampling.BILINEAR)))

    def _image_input(self) -> tuple[str, tuple[int, int]]:
        """Name and (height, width) in pixels of the only input; ConfigError where it takes no such photo."""
        inputs = self._session.get_inputs()
        shape = inputs[0].shape if len(inputs) == 1 else []
        fixed = [side if isinstance(side, int) and side > 0 else None for side in shape]
        if len(fixed) != 4 or fixed[0] not in (None, 1) or fixed[1] not in (None, 3):
            description = ", ".join(f"{one.type} {one.shape}" for one in inputs)
            raise ConfigError(f"{self.path}: its input is {description or 'absent'}; {EXPECTED}")
        return inputs[0].name, (fixed[2] or DYNAMIC_SIDE, fixed[3] or DYNAMIC_SIDE)


def stretch(values: np.ndarray) -> np.ndarray:
    """Values scaled linearly to 0..1; all 0 where they differ by rounding only."""
    low, high = values.min(), values.max()
    if high - low < 1e-6:
        return np.zeros_like(values)
    return (values - low) / (high - low)
