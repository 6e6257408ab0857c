"""The tag head of a trained PixelNet: logistic regression of the photos' tags on its pooled features.

Tags are the only clean labels, and PixelNet does not learn from them. Learned along with PixelNet, on crops, the same
head predicted tags worse (benchmarks/README.md).
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from tagmask.metadata import MIN_INPUT_SIDE
from tagmask.photos import read_photo, scale_to
from tagmask.progress import Advance, silent
from training.datasets.photos import TaggedPhotos, spread
from training.fitting.inputs import tag_vector
from training.fitting.settings import REGRESSED
from training.networks.backbones import as_input
from training.networks.pixelnet import PixelNet
from training.networks.taghead import TagHead, pool

PENALTY = 0.004
"""Of the squared norm of the weights, against the sum of the cross-entropy over photos."""

_ITERATIONS = 300


def fit_tag_head(network: PixelNet, data: TaggedPhotos, long_side: int, advance: Advance = silent) -> TagHead:
    """The tag head of `network`, which is in evaluation mode, for the classes of `data`.

    Up to REGRESSED photos, evenly spread, are scaled to `long_side` pixels as for the served network, and seen mirrored
    too. `advance(1)` follows each.
    """
    features, tags = [], []
    for photo in spread(data.photos, REGRESSED):
        pixels = scale_to(read_photo(photo.path, long_side), long_side, MIN_INPUT_SIDE)
        features.append(_features(network, pixels.copy()))  # (2, 2 F); Pillow's pixels are read-only
        tags.append(tag_vector(photo, data.classes).expand(2, -1))  # (2, C)
        advance(1)
    return TagHead(regress(torch.cat(features), torch.cat(tags))).eval()


@torch.inference_mode()
def _features(network: PixelNet, photo: NDArray[np.uint8]) -> Tensor:
    """Pooled features of a photo (H, W, 3) and of the mirrored one: (2, 2 F) float32, on the CPU."""
    pixels = torch.from_numpy(photo).permute(2, 0, 1)  # (3, H, W)
    both = torch.stack([pixels, pixels.flip(2)]).to(next(network.parameters()).device)
    return pool(network.backbone(as_input(both))[-1]).cpu()


def regress(features: Tensor, tags: Tensor) -> nn.Linear:
    """The logits of `tags` (N, C), 0 or 1, from `features` (N, F), by penalized logistic regression.

    Features are standardized for the penalty's sake.
    """
    inputs, tags = features.double(), tags.double()
    mean, deviation = inputs.mean(dim=0), inputs.std(dim=0, unbiased=False)
    scale = (deviation + 1e-6) * inputs.shape[1] ** 0.5
    inputs = (inputs - mean) / scale
    weight = torch.zeros(tags.shape[1], inputs.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(tags.shape[1], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=_ITERATIONS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        entropy = functional.binary_cross_entropy_with_logits(inputs @ weight.T + bias, tags, reduction="sum")
        value: Tensor = (entropy + PENALTY * weight.square().sum()) / len(inputs)
        value.backward()
        return value

    optimizer.step(loss)
    linear = nn.Linear(inputs.shape[1], tags.shape[1])
    with torch.no_grad():
        linear.weight.copy_(weight / scale)
        linear.bias.copy_(bias - (weight * (mean / scale)).sum(dim=1))
    return linear
