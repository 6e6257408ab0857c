"""The per-photo stages, from files to files.

Each takes one photo, reads what the stages before it wrote for that photo, and writes its own file atomically; a file
that is there already is kept. None here needs torch, so they run in processes (see `training.parallel`);
`photo_work` names those that a network does too. What is inside a stage, as arrays, is in the module of its name.
"""

from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from tagmask import files, masks
from tagmask.crf import dense_crf
from tagmask.masks import VOID
from tagmask.photos import read_photo
from training.config import TrainConfig
from training.datasets.photos import Photo
from training.run.layout import Layout, Round
from training.run.plan import Step
from training.stages import refinement, seeds, superpixels
from training.stages.pooling import pool_weights
from training.stages.saliency import OnnxSaliency, compute_saliency


def photo_work(
    step: Step, layout: Layout, classes: tuple[str, ...], config: TrainConfig, device: str = "cpu"
) -> Callable[[Photo], None]:
    """What `step`, one of the kind "photos", does to each photo.

    For the stages that a network does (`training.run.plan.TORCH`) its weights are loaded, to `device`; for the others
    the function can be sent to another process.
    """
    shared: dict[str, Any] = {"layout": layout, "number": step.round, "classes": classes}
    match step.stage:
        case "superpixels":
            return partial(cut, layout=layout, config=config)
        case "saliency":
            return partial(stand_out, layout=layout, config=config)
        case "seeds":
            return partial(seed, **shared, config=config)
        case "refined":
            return partial(refine_regions, **shared, config=config)
        case "labels":
            return partial(smooth, **shared, config=config)
        case "regions":
            from training.networks.regionnet import load_regionnet, relabel

            network = load_regionnet(layout.round(step.round).regionnet, config.regionnet)
            return partial(relabel, **shared, network=network)
        case "maps" | "masks":
            import torch

            from training.stages.localization import load_localizer, localize

            localizer = load_localizer(layout, step.round, len(classes), config).to(device)
            maps = config.classifier.maps if step.round == 0 else config.pixelnet.maps
            return partial(localize, **shared, network=localizer, config=maps, long_side=config.long_side,
                           device=torch.device(device))  # fmt: skip
    raise ValueError(f"{step.title}: no stage of one photo at a time")


def cut(photo: Photo, *, layout: Layout, config: TrainConfig) -> None:
    """Superpixels."""
    path = layout.superpixels(photo.id)
    if not path.is_file():
        pixels = read_photo(photo.path, config.long_side)
        superpixels.write(path, superpixels.segment(pixels, config.superpixels))


def stand_out(photo: Photo, *, layout: Layout, config: TrainConfig) -> None:
    """Saliency, by the settings' network if they name one."""
    path = layout.saliency(photo.id)
    if not path.is_file():
        pixels = read_photo(photo.path, config.long_side)
        regions = superpixels.read(layout.superpixels(photo.id))
        network = _saliency_network(config.saliency.network) if config.saliency.network else None
        files.write_png(path, Image.fromarray(compute_saliency(pixels, regions, config.saliency, network)))


def seed(photo: Photo, *, layout: Layout, number: int, classes: tuple[str, ...], config: TrainConfig) -> None:
    """Seeds of round `number` from the localization of the round before."""
    path = layout.round(number).seeds(photo.id)
    if path.is_file():
        return
    labels = photo.labels(classes)
    regions = superpixels.read(layout.superpixels(photo.id))
    maps = np.load(layout.round(number - 1).maps(photo.id)).astype(np.float32)  # (K, h, w)
    if number == 1:
        weights = pool_weights(regions, *maps.shape[1:])  # (R, h * w)
        shown = superpixels.average(read_saliency(layout, photo)[None], regions)[:, 0]  # (R,)
        chosen = seeds.from_class_maps(weights @ maps.reshape(len(maps), -1).T, shown, config.seeds)
    else:
        probabilities = resize_maps(maps, regions.shape)  # (L, H, W)
        shares = superpixels.label_shares(probabilities.argmax(axis=0), regions, len(labels))
        chosen = seeds.from_masks(shares, superpixels.average(probabilities, regions), config.seeds)
    files.write_array(path, np.where(chosen < 0, VOID, np.array(labels)[chosen]).astype(np.uint8))


def refine_regions(photo: Photo, *, layout: Layout, number: int, classes: tuple[str, ...], config: TrainConfig) -> None:
    """Saliency refinement of the mined regions of a single-tag photo; for other photos nothing is written."""
    here = layout.round(number)
    path = here.refined(photo.id)
    if path.is_file() or len(photo.tags) != 1:
        return
    pixels = read_photo(photo.path, config.long_side)
    probabilities = refinement.refine(pixels, painted_regions(photo, layout, here), read_saliency(layout, photo),
                                  config.refine)  # fmt: skip
    files.write_png(path, Image.fromarray((probabilities[1] * 255).round().astype(np.uint8)))


def smooth(photo: Photo, *, layout: Layout, number: int, classes: tuple[str, ...], config: TrainConfig) -> None:
    """DenseCRF over the refined regions: the labels that PixelNet learns from; unsure pixels are void."""
    here = layout.round(number)
    path = here.labels(photo.id)
    if path.is_file():
        return
    pixels = read_photo(photo.path, config.long_side)
    probabilities = dense_crf(pixels, refined_regions(photo, layout, here), config.crf)
    mask = np.array(photo.labels(classes), dtype=np.uint8)[probabilities.argmax(axis=0)]
    mask[probabilities.max(axis=0) < config.crf.sure_above] = VOID
    masks.write_mask(path, mask)


def painted_class_maps(photo: Photo, layout: Layout, background: float = 0.3) -> np.ndarray:
    """The tag classifier's maps averaged over superpixels, each divided by its maximum, below `background` as first
    label: (L, H, W) float32. Only to look at and to measure.
    """
    regions = superpixels.read(layout.superpixels(photo.id))
    maps = np.load(layout.round(0).maps(photo.id)).astype(np.float32)
    strength = seeds.relative(pool_weights(regions, *maps.shape[1:]) @ maps.reshape(len(maps), -1).T)  # (R, K)
    whole = np.concatenate([np.full((len(strength), 1), background, dtype=np.float32), strength], axis=1)
    return whole[regions].transpose(2, 0, 1)


def painted_regions(photo: Photo, layout: Layout, here: Round) -> np.ndarray:
    """RegionNet's probabilities painted over the superpixels: (L, H, W) float32."""
    regions = superpixels.read(layout.superpixels(photo.id))
    return np.load(here.regions(photo.id)).astype(np.float32)[regions].transpose(2, 0, 1)


def refined_regions(photo: Photo, layout: Layout, here: Round) -> np.ndarray:
    """The refined probabilities where there are any, else RegionNet's: (L, H, W) float32."""
    path = here.refined(photo.id)
    if not path.is_file():
        return painted_regions(photo, layout, here)
    with Image.open(path) as image:
        shown = np.array(image, dtype=np.float32) / 255
    return np.stack([1 - shown, shown])


def read_saliency(layout: Layout, photo: Photo) -> np.ndarray:
    """Saliency (H, W) float32, 0..1."""
    with Image.open(layout.saliency(photo.id)) as image:
        return np.array(image, dtype=np.float32) / 255


@lru_cache(maxsize=1)
def _saliency_network(path: Path) -> OnnxSaliency:
    """Loaded once a process."""
    return OnnxSaliency(path)


def resize_maps(maps: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Bilinear resize of (K, h, w) float32 maps to (K, H, W)."""
    height, width = size
    return np.stack([cv2.resize(each, (width, height), interpolation=cv2.INTER_LINEAR) for each in maps])
