"""How much PixelNet paints: as much as PixelNet of the round before.

Seeds are sure of background more often than of objects, DenseCRF takes thin parts away, and PixelNet is unsure of
these, of outlines, and of objects larger than in its training crops: each time background, which is most of what there
is, wins. What is missed once is missing from the next round's labels too, so that objects would shrink from round to
round. PixelNet's bias for the background is therefore moved until it paints as much as what the round started from, as
outputs are moved to known shares of classes in Saerens, Latinne and Decaestecker, "Adjusting the outputs of a
classifier to new a priori probabilities" (Neural Computation 2002).
"""

from collections.abc import Callable

import cv2
import numpy as np
import torch

from tagmask.masks import VOID
from tagmask.photos import read_photo
from training.config import LocalizeConfig
from training.datasets.photos import Photo, TaggedPhotos
from training.networks.pixelnet import PixelNet
from training.stages.localization import forward

PHOTOS = 128
"""Photos that are looked at, at most."""

LIMIT = 1.5
"""Greatest move, in logits."""


def balance(
    network: PixelNet,
    data: TaggedPhotos,
    mask: Callable[[Photo], np.ndarray],
    config: LocalizeConfig,
    *,
    long_side: int,
    device: torch.device,
) -> float:
    """Move the bias of `network`, which is on `device`, for the background, at most by LIMIT.

    Photos of `data`, evenly spread, are shown as `config` says, with their tags given; thereafter as many of their
    pixels are painted as `mask(photo)`, (H, W) uint8 labels with 255 void, paints. Returns by how many logits the
    background went down.
    """
    network.eval()
    places = np.linspace(0, len(data.photos) - 1, min(PHOTOS, len(data.photos)), dtype=int)
    leads, painted = [np.zeros(0, np.float32)], 0
    for photo in (data.photos[place] for place in places):
        scores, _ = forward(network, read_photo(photo.path, long_side), config, device)  # (labels, h, w)
        tags = list(photo.labels(data.classes))[1:]
        lead = (scores[0] - scores[tags].amax(dim=0)).float().cpu().numpy()  # (h, w), of the background
        labels = cv2.resize(mask(photo), lead.shape[::-1], interpolation=cv2.INTER_NEAREST)  # (h, w)
        leads.append(lead[labels != VOID])
        painted += int(((labels != 0) & (labels != VOID)).sum())
    every = np.concatenate(leads)
    if not every.size:  # labels of nothing but void
        return 0.0
    moved = float(np.clip(np.quantile(every, painted / every.size), -LIMIT, LIMIT))
    assert network.labels.bias is not None
    with torch.no_grad():
        network.labels.bias[0] -= moved
    return moved
