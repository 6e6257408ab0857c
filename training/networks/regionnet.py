"""RegionNet: a classifier of superpixels by their pooled features."""

from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from training.networks.backbones import read_state


class RegionNet(nn.Module):
    """Two linear layers over a superpixel's pooled features."""

    HEAD = "layers.4"
    """Name of the module with one output per label."""

    def __init__(self, features: int, labels: int, width: int, dropout: float = 0.0) -> None:
        """`features` per superpixel; `labels` counts background and the classes; `width` hidden units."""
        super().__init__()
        self.layers = nn.Sequential(
            nn.BatchNorm1d(features, affine=False),
            nn.Linear(features, width),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(width, labels),
        )

    @classmethod
    def load(cls, file: Path) -> Self:
        """The trained network whose state dict is in `file`, in evaluation mode on the CPU."""
        state = read_state(file)
        width, features = state["layers.1.weight"].shape
        network = cls(features, len(state[f"{cls.HEAD}.weight"]), width)
        network.load_state_dict(state)
        return network.eval()

    def forward(self, features: Tensor) -> Tensor:
        """Features (R, F) float -> label scores (R, labels), logits."""
        return self.layers(features)

    @torch.inference_mode()
    def probabilities(self, features: np.ndarray, labels: tuple[int, ...]) -> np.ndarray:
        """Features (R, F) -> probability of each of the photo's `labels` alone: (R, len(labels)) float32."""
        device = next(self.parameters()).device
        scores = self(torch.from_numpy(features.astype(np.float32)).to(device))[:, list(labels)]
        return scores.softmax(dim=1).cpu().numpy()


def region_loss(network: nn.Module, batch: tuple[Tensor, Tensor], *, offsets: Tensor) -> Tensor:
    """L = -sum_ij sum_c L_ij(c) log f_c(S_ij), averaged over a batch of seeds: features (N, F), labels (N,) int64.

    `offsets` (labels,), of `training.fitting.adjustment`, are added to the logits in training alone.
    """
    features, labels = batch
    network.train(len(labels) > 1)  # batch norm has no statistics of one
    scores = network(features).float() + offsets.to(features.device)
    total = functional.cross_entropy(scores, labels, reduction="sum")
    return total / max(1, len(labels))
