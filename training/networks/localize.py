"""One pass of a network over a photo: its class maps and its feature maps."""

from collections.abc import Mapping
from functools import cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from training.networks.backbones import as_input
from training.networks.classifier import TagClassifier
from training.networks.pixelnet import PixelNet


@torch.inference_mode()
def localize(
    network: TagClassifier | PixelNet, photo: np.ndarray, *, long_side: int, scale: float, flip: bool
) -> tuple[Tensor, list[Tensor]]:
    """Class maps (C, h, w), logits, and feature maps [(F_i, h_i, w_i)] of `photo`, (H, W, 3) uint8 RGB; all float32.

    `scale` is the longer side of the input / `long_side`, that of the photo unless it is smaller; with `flip` the
    result is averaged with that of the mirrored photo. `network` is in evaluation mode; the result is on its device.
    """
    factor = scale * long_side / max(photo.shape[:2])
    size = tuple(max(32, round(side * factor)) for side in photo.shape[:2])
    device = next(network.parameters()).device
    pixels = torch.from_numpy(photo).to(device).permute(2, 0, 1)[None]  # (1, 3, H, W)
    pixels = functional.interpolate(pixels.float(), size, mode="bilinear", align_corners=False)
    maps, features = network.localize(as_input(pixels))
    if flip:
        mirrored, mirrored_features = network.localize(as_input(pixels.flip(3)))
        maps = (maps + mirrored.flip(3)) / 2
        features = [(one + two.flip(3)) / 2 for one, two in zip(features, mirrored_features, strict=True)]
    return maps[0].float(), [each[0].float() for each in features]


def half_precision() -> torch.autocast:
    """A context in which networks on a processor that computes in bfloat16 do, in about 0.6 of the time of float32."""
    return torch.autocast("cpu", torch.bfloat16, enabled=has_bfloat16())


@cache
def has_bfloat16() -> bool:
    """Whether the processor computes in bfloat16, as far as torch knows, which reports it from version 2.11 on.

    Others emulate it, in more time than float32 takes.
    """
    capabilities: Mapping[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
