"""One pass of a network over a photo: its class maps and its feature maps."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from training.networks.backbones import as_input
from training.networks.classifier import TagClassifier
from training.networks.pixelnet import PixelNet


@torch.inference_mode()
def localize(
    network: TagClassifier | PixelNet, photo: np.ndarray, *, scale: float, flip: bool
) -> tuple[Tensor, list[Tensor]]:
    """Class maps (C, h, w), logits, and feature maps [(F_i, h_i, w_i)] of `photo`, (H, W, 3) uint8 RGB.

    `scale` is input size / photo size; with `flip` the result is averaged with that of the mirrored photo. `network` is
    in evaluation mode; the result is on its device.
    """
    size = tuple(max(32, round(side * scale)) for side in photo.shape[:2])
    device = next(network.parameters()).device
    pixels = torch.from_numpy(photo).to(device).permute(2, 0, 1)[None]  # (1, 3, H, W)
    pixels = functional.interpolate(pixels.float(), size, mode="bilinear", align_corners=False)
    maps, features = network.localize(as_input(pixels))
    if flip:
        mirrored, mirrored_features = network.localize(as_input(pixels.flip(3)))
        maps = (maps + mirrored.flip(3)) / 2
        features = [(one + two.flip(3)) / 2 for one, two in zip(features, mirrored_features, strict=True)]
    return maps[0], [each[0] for each in features]
