"""The region tagger: predicts a photo's tags from its superpixels, each by itself, so its scores say which show them.

Multiple-instance learning: a photo has a tag if some of its superpixels show it. Photo scores are a soft maximum of
region scores, as Pinheiro and Collobert pool pixels, "From Image-level to Pixel-level Labeling with Convolutional
Networks", CVPR 2015.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from tagmask.masks import VOID
from training.networks.regionnet import RegionNet


class RegionTagger(RegionNet):
    """RegionNet's two layers with one output per class, without background."""

    contrast = False
    """Whether it was trained on `contrast_features`."""

    @torch.inference_mode()
    def scores(self, features: Tensor) -> Tensor:
        """Features (R, F) float of a photo -> how far each superpixel speaks for each class: (R, C) float, logits."""
        seen = contrast_features(features) if self.contrast else features
        return self(seen.to(next(self.parameters()).device))


def contrast_features(features: Tensor) -> Tensor:
    """What sets each superpixel apart from the rest of its photo: features (R, F) float, standardized, (R, F)."""
    deviation, mean = torch.std_mean(features, dim=0, correction=0)
    return (features - mean) / (deviation + 1e-3)


def photo_scores(scores: Tensor, regions: Tensor, sharpness: float) -> Tensor:
    """Soft maximum of the superpixels of each photo: scores (N, C), regions per photo (B,) int64 -> (B, C).

    1 / r log mean exp(r score): the mean for a `sharpness` r near 0, the maximum for a great one.
    """
    photos = scores.split(regions.tolist())
    pooled = [(each * sharpness).logsumexp(dim=0) - math.log(len(each)) for each in photos]
    return torch.stack(pooled) / sharpness


def region_tag_loss(
    network: nn.Module,
    batch: tuple[Tensor, ...],
    *,
    sharpness: float,
    vouched_weight: float = 0.0,
    contrast: bool = False,
) -> Tensor:
    """Binary cross-entropy of photos: features (N, F) of superpixels, regions per photo (B,), tags (B, C) 0 or 1.

    With `contrast`, the network sees the `contrast_features` of each photo.
    A batch may have a fourth part, the vouched label of each superpixel, (N,) int64, 255 for none: their own binary
    cross-entropy is then added, times `vouched_weight`.
    """
    features, regions, tags, *vouched = batch
    if contrast:
        features = torch.cat([contrast_features(each) for each in features.split(regions.tolist())])
    network.train(len(features) > 1)  # batch norm has no statistics of one
    scores = network(features).float()
    loss = functional.binary_cross_entropy_with_logits(photo_scores(scores, regions, sharpness), tags)
    for labels in vouched:
        known = labels != VOID
        truth = functional.one_hot(labels[known], scores.shape[1] + 1)[:, 1:].to(scores)
        total = functional.binary_cross_entropy_with_logits(scores[known], truth, reduction="sum")
        loss = loss + vouched_weight * total / (known.sum() * scores.shape[1]).clamp(min=1)
    return loss
