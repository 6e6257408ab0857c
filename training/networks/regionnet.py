"""Stage 4, RegionNet: mines common object features by classifying superpixels, all photos together.

Trained with cross-entropy on seeds, it then relabels every superpixel; what is common to a tag's seeds over many
photos outvotes what one photo's class map got wrong.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset

from tagmask import files
from tagmask.progress import Advance, silent
from training.config import RegionNetConfig
from training.datasets.photos import Photo
from training.fitting.loop import Draw, FitResult, fit
from training.fitting.sampling import shares
from training.run.layout import Layout


class RegionNet(nn.Module):
    """Two linear layers over a superpixel's pooled features."""

    HEAD = "layers.4"
    """Name of the module that gives an output a label."""

    def __init__(self, features: int, labels: int, config: RegionNetConfig) -> None:
        """`features` per superpixel; `labels` counts background and the classes."""
        super().__init__()
        self.layers = nn.Sequential(
            nn.BatchNorm1d(features, affine=False),
            nn.Linear(features, config.width),
            nn.ReLU(),
            nn.Dropout(config.dropout),
            nn.Linear(config.width, labels),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Features (R, F) float -> label scores (R, labels), logits."""
        return self.layers(features)

    @torch.inference_mode()
    def probabilities(self, features: np.ndarray, labels: tuple[int, ...]) -> np.ndarray:
        """Features (R, F) -> probability of each of the photo's `labels` alone: (R, len(labels)) float32."""
        device = next(self.parameters()).device
        scores = self(torch.from_numpy(features.astype(np.float32)).to(device))[:, list(labels)]
        return scores.softmax(dim=1).cpu().numpy()


class _SeededRegions(Dataset[tuple[Tensor, Tensor]]):
    """A photo's seeds: features (n, F) float and labels (n,) int64."""

    def __init__(self, photos: int, seeds: Callable[[int], tuple[np.ndarray, np.ndarray]]) -> None:
        self.photos, self.seeds = photos, seeds

    def __len__(self) -> int:
        return self.photos

    def __getitem__(self, draw: Draw) -> tuple[Tensor, Tensor]:
        features, labels = self.seeds(draw[1])
        return torch.from_numpy(features.astype(np.float32)), torch.from_numpy(labels.astype(np.int64))


def _join(photos: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    features, labels = zip(*photos, strict=True)
    return torch.cat(features), torch.cat(labels)


def _region_loss(network: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """L = -sum_ij sum_c L_ij(c) log f_c(S_ij), averaged over the batch's seeds."""
    features, labels = batch
    network.train(len(labels) > 1)  # batch norm has no statistics of one
    lost = functional.cross_entropy(network(features).float(), labels, reduction="sum")
    return lost / max(1, len(labels))


def train_regionnet(
    network: RegionNet,
    photos: Sequence[Photo],
    seeds: Callable[[int], tuple[np.ndarray, np.ndarray]],
    weights: Path,
    config: RegionNetConfig,
    *,
    device: torch.device,
    seed: int,
    advance: Advance = silent,
) -> FitResult | None:
    """Train on `seeds(i)` of photo i: (features (n, F), labels (n,)); write `weights`; see `fit`."""
    return fit(
        network, _SeededRegions(len(photos), seeds), _region_loss, config.fit, weights,
        shares=shares(photos, config.fit.tag_photos), device=device, seed=seed, collate=_join, advance=advance,
    )  # fmt: skip


def load_regionnet(path: Path, config: RegionNetConfig) -> RegionNet:
    """The trained network whose weights are at `path`, in evaluation mode."""
    state = torch.load(path, map_location="cpu", weights_only=True)
    width, labels = state["layers.1.weight"].shape[1], state[f"{RegionNet.HEAD}.weight"].shape[0]
    network = RegionNet(width, labels, config)
    network.load_state_dict(state)
    return network.eval()


def relabel(photo: Photo, *, layout: Layout, number: int, classes: tuple[str, ...], network: RegionNet) -> None:
    """Write RegionNet's probabilities of every superpixel, among background and the photo's own tags."""
    path = layout.round(number).regions(photo.id)
    if not path.is_file():
        features = np.load(layout.round(number - 1).features(photo.id))
        files.write_array(path, network.probabilities(features, photo.labels(classes)).astype(np.float16))
