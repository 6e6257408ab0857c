"""Stage 5, saliency refinement: the mined regions of a photo with one tag, corrected by saliency in Bayes form.

p(obj|v) = p(obj) p(v|obj) / (p(obj) p(v|obj) + p(bg) p(v|bg)), prior = saliency, likelihoods = Lab colour histograms
inside and outside the mined regions (Wang et al., CVPR 2018, section 3.4; the histogram form after Xie, Lu and Yang,
"Bayesian Saliency via Low and Mid Level Cues", TIP 2013).
"""

import cv2
import numpy as np

from training.config import RefineConfig


def object_posterior(photo: np.ndarray, inside: np.ndarray, saliency: np.ndarray, bins: int) -> np.ndarray:
    """p(obj|v) at each pixel: (H, W) float32, 0..1.

    `photo` (H, W, 3) uint8 RGB; `inside` (H, W) float, probability 0..1 that a pixel lies in the mined regions, by
    which pixels enter the two histograms; `saliency` (H, W) float 0..1.
    """
    lab = cv2.cvtColor(photo, cv2.COLOR_RGB2LAB).astype(np.int64)
    low = lab.min(axis=(0, 1))
    steps = np.maximum((lab.max(axis=(0, 1)) - low + 1) / bins, 1e-6)
    binned = ((lab - low) / steps).astype(np.int64)  # (H, W, 3), 0..bins-1
    likelihood = np.ones((2, *inside.shape))
    for weights, row in ((inside, 0), (1 - inside, 1)):
        for channel in range(3):
            histogram = np.bincount(binned[..., channel].reshape(-1), weights=weights.reshape(-1), minlength=bins)
            likelihood[row] *= ((histogram + 1) / (histogram.sum() + bins))[binned[..., channel]]
    prior = saliency.clip(0.02, 0.98)
    joint = prior * likelihood[0]
    return (joint / (joint + (1 - prior) * likelihood[1])).astype(np.float32)


def refine(photo: np.ndarray, probabilities: np.ndarray, saliency: np.ndarray, config: RefineConfig) -> np.ndarray:
    """Refine a single-tag photo's `probabilities`, (2, H, W) of background and object: (2, H, W) float32."""
    posterior = object_posterior(photo, probabilities[1], saliency, config.bins)
    shown = (1 - config.weight) * probabilities[1] + config.weight * posterior
    return np.stack([1 - shown, shown]).astype(np.float32)
