"""Stage 1b and 8: where each tag is, by the tag classifier (first round) or by PixelNet (later rounds).

One pass of a network over a photo gives both its class maps and the features of every superpixel, pooled under its
mask. What is written for a photo:

    maps/ID.npy       (K, h, w) float16: class maps of the photo's labels, at the network's stride
    features/ID.npy   (R, F) float16: mean features of each superpixel
"""

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from tagmask import files
from tagmask.photos import read_photo
from training.config import LocalizeConfig, TrainConfig
from training.datasets.photos import Photo
from training.networks.classifier import TagClassifier, as_input
from training.networks.pixelnet import PixelNet
from training.run.layout import Layout
from training.stages import superpixels
from training.stages.pooling import pool_weights


def load_localizer(layout: Layout, number: int, classes: int, config: TrainConfig) -> TagClassifier | PixelNet:
    """The trained network of round `number`, in evaluation mode on the CPU: the tag classifier, or a PixelNet."""
    network = (
        TagClassifier(classes, config.backbone, "random")
        if number == 0
        else PixelNet(classes + 1, config.backbone, config.pixelnet.width, "random")
    )
    network.load_state_dict(torch.load(layout.round(number).localizer, map_location="cpu", weights_only=True))
    return network.to(memory_format=torch.channels_last).eval()


@torch.inference_mode()
def forward(
    network: TagClassifier | PixelNet, photo: np.ndarray, config: LocalizeConfig, device: torch.device
) -> tuple[Tensor, list[Tensor]]:
    """Class maps (C, h, w), logits, and feature maps [(F_i, h_i, w_i)] of `photo`, (H, W, 3) uint8 RGB."""
    size = tuple(max(32, round(side * config.scale)) for side in photo.shape[:2])
    pixels = torch.from_numpy(photo).to(device).permute(2, 0, 1)[None]  # (1, 3, H, W)
    pixels = functional.interpolate(pixels.float(), size, mode="bilinear", align_corners=False)
    maps, features = network.localize(as_input(pixels))
    if config.flip:
        mirrored, mirrored_features = network.localize(as_input(pixels.flip(3)))
        maps = (maps + mirrored.flip(3)) / 2
        features = [(one + two.flip(3)) / 2 for one, two in zip(features, mirrored_features, strict=True)]
    return maps[0], [each[0] for each in features]


def region_features(photo: np.ndarray, regions: np.ndarray, features: list[Tensor]) -> np.ndarray:
    """Mean features under each superpixel's mask, and its mean Lab colour: (R, F) float16."""
    pooled = []
    for each in features:
        weights = torch.from_numpy(pool_weights(regions, *each.shape[1:])).to(each.device)  # (R, h * w)
        pooled.append((weights @ each.flatten(1).T.float()).cpu().numpy())  # (R, F_i)
    lab = cv2.cvtColor(photo, cv2.COLOR_RGB2LAB).transpose(2, 0, 1).astype(np.float32) / 128 - 1
    pooled.append(superpixels.average(lab, regions))
    return np.concatenate(pooled, axis=1).astype(np.float16)


def localize(
    photo: Photo,
    *,
    layout: Layout,
    number: int,
    classes: tuple[str, ...],
    network: TagClassifier | PixelNet,
    config: LocalizeConfig,
    long_side: int,
    device: torch.device,
) -> None:
    """Write what the trained network of round `number`, in evaluation mode on `device`, finds in a photo.

    The tag classifier writes the raw maps of the photo's tags; PixelNet the probabilities of background and the tags
    among themselves, and what it sees when no tags are given.
    """
    here = layout.round(number)
    if here.features(photo.id).is_file():
        return
    labels = list(photo.labels(classes))
    pixels = read_photo(photo.path, long_side)
    maps, features = forward(network, pixels, config, device)
    if isinstance(network, TagClassifier):
        maps = maps[[label - 1 for label in labels[1:]]]
    else:
        found = maps.argmax(dim=0).flatten().bincount(minlength=len(maps)).float()
        files.write_array(here.seen(photo.id), (found / found.sum()).cpu().numpy())
        maps = maps[labels].float().softmax(dim=0)
    files.write_array(here.maps(photo.id), maps.cpu().numpy().astype(np.float16))
    regions = superpixels.read(layout.superpixels(photo.id))
    files.write_array(here.features(photo.id), region_features(pixels, regions, features))
