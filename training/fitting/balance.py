"""Balance: PixelNet paints as many pixels as PixelNet of the round before did.

Seeds are more often sure of background than of objects, DenseCRF removes thin parts, and PixelNet is unsure of thin
parts, of outlines, and of objects larger than in its training crops. Each time background, the most frequent label,
wins; a pixel that is missed once is missing from the next round's labels too, so objects would shrink from round to
round. PixelNet's background bias is therefore moved until it paints as much as the masks the round started from, as
outputs are adjusted to known class shares in Saerens, Latinne and Decaestecker, "Adjusting the outputs of a classifier
to new a priori probabilities" (Neural Computation 2002).
"""

from collections.abc import Callable

import cv2
import numpy as np
import torch

from tagmask.masks import VOID
from tagmask.photos import read_photo
from tagmask.progress import Advance, silent
from training.datasets.photos import Photo, TaggedPhotos
from training.fitting.settings import BALANCED
from training.networks.localize import localize
from training.networks.pixelnet import PixelNet

LIMIT = 1.5
"""Greatest change of the bias, in logits."""


def balance(
    network: PixelNet,
    data: TaggedPhotos,
    mask: Callable[[Photo], np.ndarray],
    *,
    long_side: int,
    scale: float,
    flip: bool,
    advance: Advance = silent,
) -> float:
    """Move the background bias of `network`, at most by LIMIT, until it paints as many pixels as `mask` does.

    `mask(photo)` returns (H, W) uint8 labels, 255 void. Compared are up to BALANCED tagged photos of `data`, evenly
    spread, each limited to its own tags; `scale` and `flip` are those of `localize`. `advance(1)` follows each photo.
    Returns by how many logits the bias fell.
    """
    network.eval()
    tagged = data.tagged(data.classes)
    places = np.linspace(0, len(tagged) - 1, min(BALANCED, len(tagged)), dtype=int)
    leads, painted = [np.zeros(0, np.float32)], 0
    for photo in (tagged[place] for place in places):
        scores, _ = localize(network, read_photo(photo.path, long_side), scale=scale, flip=flip)  # (labels, h, w)
        tags = list(photo.labels(data.classes))[1:]
        lead = (scores[0] - scores[tags].amax(dim=0)).float().cpu().numpy()  # (h, w), of the background
        labels = cv2.resize(mask(photo), lead.shape[::-1], interpolation=cv2.INTER_NEAREST)  # (h, w)
        leads.append(lead[labels != VOID])
        painted += int(((labels != 0) & (labels != VOID)).sum())
        advance(1)
    all_leads = np.concatenate(leads)
    if not all_leads.size:  # all labels are void
        return 0.0
    change = float(np.clip(np.quantile(all_leads, painted / all_leads.size), -LIMIT, LIMIT))
    assert network.labels.bias is not None
    with torch.no_grad():
        network.labels.bias[0] -= change
    return change
