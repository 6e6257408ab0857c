"""Stage 6, DenseCRF over background and a photo's own labels.

Kraehenbuehl and Koltun, "Efficient Inference in Fully Connected CRFs with Gaussian Edge Potentials", NIPS 2011.
"""

import numpy as np
from pydensecrf import densecrf

from training.config import CrfConfig


def dense_crf(photo: np.ndarray, probabilities: np.ndarray, config: CrfConfig) -> np.ndarray:
    """Label probabilities after mean-field inference: (L, H, W) float32, summing to 1 at each pixel.

    `photo` (H, W, 3) uint8 RGB, `probabilities` (L, H, W) float of the photo's L labels.
    """
    labels, height, width = probabilities.shape
    if labels == 1:
        return np.ones_like(probabilities, dtype=np.float32)
    field = densecrf.DenseCRF2D(width, height, labels)
    unary = -np.log(probabilities.clip(1e-4, 1)).astype(np.float32).reshape(labels, -1)
    field.setUnaryEnergy(np.ascontiguousarray(unary))
    field.addPairwiseGaussian(sxy=config.smooth_spread, compat=config.smooth_weight)
    field.addPairwiseBilateral(
        sxy=config.space_spread,
        srgb=config.colour_spread,
        rgbim=np.require(photo, np.uint8, ["C", "W"]),  # pydensecrf takes no read-only memory
        compat=config.colour_weight,
    )
    return np.array(field.inference(config.steps), dtype=np.float32).reshape(labels, height, width)
