"""Saliency networks from ONNX files, in place of the unsupervised saliency. Needs no torch."""

from pathlib import Path

import numpy as np
from PIL import Image

from tagmask import files
from tagmask.errors import ConfigError
from training.networks.normalization import (
    FAMILIES,
    METADATA_REMEDY,
    NORMALIZATIONS,
    Choice,
    Normalization,
    normalization_in,
)

DYNAMIC_SIDE = 320
"""Input side in pixels of a network of dynamic input size; U2-Net's own."""

LOGIT = 0.1
"""How far a map must exceed 0..1 to be one of logits; maps of probabilities exceed it a little if they are resized."""

EXPECTED = (
    "expected an ONNX saliency network with one float32 image input (1, 3, H, W) "
    "whose first output is a one-channel map (1, 1, H, W)"
)


class OnnxSaliency:
    """A saliency network from an ONNX file, such as U2-Net or IS-Net; runs on one CPU thread.

    The network has one float32 image input (1, 3, H, W), RGB, normalized; a dynamic size is run at DYNAMIC_SIDE. Its
    first output is a one-channel map, as logits or probabilities; others are ignored.
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
            self._outputs = [output.name for output in self._session.get_outputs()]
            self(np.zeros((*self._size, 3), np.uint8), NORMALIZATIONS["unit"])
        except ConfigError:
            raise
        except OSError as fault:
            raise ConfigError(f"{path}: {files.read_fault(fault, EXPECTED)}") from fault
        except Exception as fault:  # ONNX Runtime has a dozen exceptions without a common base
            reason = " ".join(str(fault.__cause__ or fault).split())
            raise ConfigError(f"{path}: cannot be run ({reason}); {EXPECTED}") from fault

    def known_normalization(self) -> Choice | None:
        """Its normalization if the file's metadata give it, or the network is of a known family; None if not.

        Raises ConfigError for metadata that cannot be read.
        """
        try:
            in_file = normalization_in(self._session.get_modelmeta().custom_metadata_map)
        except ValueError as fault:
            raise ConfigError(f"{self.path}: in its metadata, {fault}; {METADATA_REMEDY}") from fault
        if in_file:
            return Choice("metadata", in_file, "given by the metadata of the file")
        if family := FAMILIES.get(len(self._outputs)):
            why = f"known by the {len(self._outputs)} outputs of the network"
            return Choice(family, NORMALIZATIONS[family], why)
        return None

    def __call__(self, photo: np.ndarray, normalization: Normalization) -> np.ndarray:
        """Saliency of an RGB photo (H, W, 3) uint8 as (H, W) float32, 0..1: the network's probabilities.

        Raises ConfigError for a map that is not finite.
        """
        scaled = Image.fromarray(photo).resize(self._size[::-1], Image.Resampling.BILINEAR)
        inputs = {self._input: normalization(np.asarray(scaled))}
        output = np.asarray(self._session.run(self._outputs[:1], inputs)[0])
        if output.ndim < 3 or output.size != output.shape[-2] * output.shape[-1]:
            raise ConfigError(f"{self.path}: its first output is {output.shape}; {EXPECTED}")
        if not np.isfinite(output).all():
            raise ConfigError(f"{self.path}: its output is not finite; use another network")
        saliency = Image.fromarray(probabilities(output.reshape(output.shape[-2:]).astype(np.float32)))
        size = (photo.shape[1], photo.shape[0])
        return np.asarray(saliency.resize(size, Image.Resampling.BILINEAR))

    def _image_input(self) -> tuple[str, tuple[int, int]]:
        """Name and (height, width) in pixels of the only input; ConfigError where it takes no such photo."""
        inputs = self._session.get_inputs()
        shape = inputs[0].shape if len(inputs) == 1 else []
        fixed = [side if isinstance(side, int) and side > 0 else None for side in shape]
        if len(fixed) != 4 or fixed[0] not in (None, 1) or fixed[1] not in (None, 3):
            description = ", ".join(f"{one.type} {one.shape}" for one in inputs)
            raise ConfigError(f"{self.path}: its input is {description or 'absent'}; {EXPECTED}")
        return inputs[0].name, (fixed[2] or DYNAMIC_SIDE, fixed[3] or DYNAMIC_SIDE)


def probabilities(values: np.ndarray) -> np.ndarray:
    """A map of probabilities, or of logits, as probabilities: float32, 0..1.

    It is not stretched: where nothing stands out, all of it is small.
    """
    if values.min() < -LOGIT or values.max() > 1 + LOGIT:
        from scipy.special import expit  # the command line need not wait for SciPy

        return np.asarray(expit(values), np.float32)
    return values.clip(0, 1)
