"""Objects pasted from photo to photo, so that PixelNet sees each of them before many backgrounds.

After Ghiasi et al., "Simple Copy-Paste is a Strong Data Augmentation Method", CVPR 2021, and ClassMix (Olsson et al.,
WACV 2021). Here labels, which know no single objects, tell what is pasted: all of a photo that is not background.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tagmask.masks import VOID


def paste_objects(batch: tuple[Tensor, Tensor], share: float) -> tuple[Tensor, Tensor]:
    """A batch in which each photo gets, with the probability `share`, what the photo before it shows.

    Photos are (B, 3, S, S), labels (B, S, S), or (B, S, S, K) by K sources, of which any may tell what is pasted; 255
    is void. Random numbers are torch's.
    """
    photos, labels = batch
    sources = labels.reshape(*labels.shape[:3], -1)  # (B, S, S, K)
    others, other_sources = photos.roll(1, 0), sources.roll(1, 0)
    pasted = ((other_sources > 0) & (other_sources != VOID)).any(3)  # (B, S, S)
    pasted &= (torch.rand(len(photos)) < share).to(labels.device)[:, None, None]
    mixed = torch.where(pasted[..., None], other_sources, sources)
    return torch.where(pasted[:, None], others, photos), mixed.reshape(labels.shape)


def pasting_offsets(counts: NDArray[np.float64], share: float) -> Tensor:
    """What pasting adds to the log odds of each label against background, (labels,) float.

    `counts` (labels,) are the pixels of each label before pasting, background first. Added to the logits in training,
    it keeps the network from taking objects for as frequent as pasting makes them.
    """
    objects = (1 + counts)[1:].sum() / (1 + counts).sum()
    offsets = np.full(len(counts), np.log1p(share * (1 - objects)) - np.log1p(-share * objects))
    offsets[0] = 0
    return torch.from_numpy(offsets).float()
