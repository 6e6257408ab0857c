"""The method on one page: all stages one after the other, on photos drawn for the purpose.

    python -m examples.method_on_one_page --out method      # a few minutes on two CPU cores

Each function is one stage, with arrays in and arrays out. `tagmask train` runs the same stages from training/stages/,
which add files, resuming and several processes. docs/method.md explains the stages and names the papers.

In the shapes, a photo has H x W pixels, R superpixels with F features each, and L labels: background and its own tags.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.utils.data import Dataset

from examples.demo import drawing
from tagmask.crf import dense_crf
from tagmask.files import write_png
from tagmask.formats.overlay import tint
from tagmask.masks import VOID, read_mask
from tagmask.photos import read_photo
from training.config import TrainConfig, load_config
from training.datasets import load
from training.datasets.photos import Photo, TaggedPhotos
from training.evaluation.metrics import Confusion
from training.fitting.adjustment import label_counts, logit_offsets
from training.fitting.balance import balance
from training.fitting.evidence_odds import (
    BACKDROP,
    RegionScores,
    border_share,
    evidence_weights,
    level,
    object_share,
    offset_changes,
    saliency_odds,
    tag_offsets,
)
from training.fitting.inputs import MaskedCrops, PhotoSeeds, TaggedCrops, TaggedRegions, join_regions, join_seeds
from training.fitting.loop import fit
from training.fitting.pasting import paste_objects, pasting_offsets
from training.fitting.sampling import photo_shares
from training.fitting.settings import FitConfig
from training.networks.classifier import TagClassifier, tag_loss
from training.networks.localize import localize
from training.networks.pixelnet import PixelNet, pixel_loss
from training.networks.regionnet import RegionNet, region_loss
from training.networks.regiontagger import RegionTagger, region_tag_loss
from training.networks.weights import initial_weights
from training.stages import labels, refinement, saliency, seeds, superpixels
from training.stages.evidence import mask_odds
from training.stages.localization import region_colours, region_features, resize_maps
from training.stages.pooling import average


@dataclass(frozen=True)
class Run:
    """What all stages share."""

    data: TaggedPhotos
    config: TrainConfig
    folder: Path


@dataclass
class Example:
    """A training photo, and what the stages have made of it so far."""

    photo: Photo
    pixels: np.ndarray  # (H, W, 3) uint8 RGB
    labels: tuple[int, ...]  # (L,) background and the photo's own tags: all that its mask can contain
    regions: np.ndarray = field(init=False)  # (H, W) int32, the superpixel of each pixel
    salient: np.ndarray = field(init=False)  # (H, W) float, 0..1
    features: np.ndarray = field(init=False)  # (R, F), means over each superpixel
    evidence: np.ndarray = field(init=False)  # (R, L - 1), log odds of each tag
    seeds: np.ndarray = field(init=False)  # (R,) uint8, the label of each superpixel, 255 = void
    probabilities: np.ndarray = field(init=False)  # (R, L), of regions, then refined
    mask: np.ndarray = field(init=False)  # (H, W) uint8, labels to train PixelNet on, 255 = void
    maps: np.ndarray = field(init=False)  # (L, h, w), PixelNet's probabilities
    predicted: np.ndarray = field(init=False)  # (H, W) uint8, PixelNet's mask


def run_method(run: Run) -> PixelNet:
    """The method: preparation, then rounds that each start from the masks of the round before."""
    data, config = run.data, run.config
    torch.manual_seed(config.seed)
    examples = [
        Example(photo, read_photo(photo.path, config.long_side), photo.labels(data.classes)) for photo in data.photos
    ]
    for example in examples:
        cut_superpixels(example, config)
        find_salient(example, config)
    classifier = train_classifier(run)
    for example in examples:
        compute_features(example, classifier, config)

    pixelnet = PixelNet(len(data.classes) + 1, config.backbone, config.pixelnet.width, "random")
    pixelnet.backbone.load_state_dict(classifier.backbone.state_dict())  # it knows the classes already
    pixelnet.backbone.freeze_shallow()
    for number in range(1, config.rounds + 1):
        weigh_evidence(examples, train_regiontagger(examples, run, number), run, number)
        for example in examples:
            choose_seeds(example, config)
        regionnet = train_regionnet(examples, run, number)
        for example in examples:
            relabel_regions(example, regionnet)
            refine_regions(example, config)
            make_labels(example, config)
        train_pixelnet(pixelnet, examples, run, number)
        for example in examples:
            predict_masks(example, pixelnet, config)
        show(examples, run, number)
    return pixelnet


def cut_superpixels(example: Example, config: TrainConfig) -> None:
    """superpixels: the photo in small regions along its edges, by graph-based segmentation."""
    example.regions = superpixels.segment(example.pixels, config.superpixels)


def find_salient(example: Example, config: TrainConfig) -> None:
    """saliency: what differs from the regions along the border of the photo. It knows no classes."""
    example.salient = saliency.compute_saliency(example.pixels, example.regions, config.saliency) / 255


def train_classifier(run: Run) -> TagClassifier:
    """classifier: learns from the tags alone which classes a photo shows."""
    network = TagClassifier(len(run.data.classes), run.config.backbone, initial_weights(run.config.weights))
    crops = TaggedCrops(run.data, run.config.classifier.augment, run.config.long_side, run.config.seed)
    train(network, crops, tag_loss, run.config.classifier.fit, run, "classifier")
    return network


def compute_features(example: Example, network: TagClassifier, config: TrainConfig) -> None:
    """class_maps: the features of each superpixel; the same pass gives the class maps, which are only looked at."""
    _, features = localize(network, example.pixels, long_side=config.long_side, **config.class_maps.model_dump())
    example.features = region_features(example.pixels, example.regions, features)


def train_regiontagger(examples: list[Example], run: Run, number: int, *, contrast: bool = False) -> RegionTagger:
    """regiontagger: learns from the tags alone which superpixels show them, from all photos together; from what sets
    each superpixel apart from the rest of its photo, if `contrast`."""
    settings, by_id = run.config.regiontagger, {example.photo.id: example for example in examples}
    network = RegionTagger(examples[0].features.shape[1], len(run.data.classes), settings.width, settings.dropout)
    network.contrast = contrast
    items = TaggedRegions(run.data, lambda photo: by_id[photo.id].features)
    loss = partial(region_tag_loss, sharpness=settings.sharpness, contrast=contrast)
    train(network, items, loss, settings.fit, run, f"regiontagger-{number}", collate=join_regions)
    return network


def weigh_evidence(examples: list[Example], network: RegionTagger, run: Run, number: int) -> None:
    """evidence: the score of each superpixel, and as much of its saliency as agrees with the scores of all photos; in
    later rounds the masks of the round before, and the less of these two the more photos there are."""
    rarity = run.config.regiontagger.rarity
    photos, offsets = [], tag_offsets(run.data, rarity)  # (C,)
    for example in examples:
        tags = [label - 1 for label in example.labels[1:]]
        scores = network.scores(torch.from_numpy(example.features.astype(np.float32))).numpy()  # (R, C)
        salient = average(example.salient[None], example.regions)[:, 0]  # (R,)
        photos.append(RegionScores.of((scores - offsets)[:, tags], salient, example.regions))
    odds = saliency_odds(photos)
    if not network.contrast and border_share(photos, odds) > BACKDROP:  # the tag shows all over its photos
        weigh_evidence(examples, train_regiontagger(examples, run, number, contrast=True), run, number)
        return
    changes = offset_changes(run.data, photos, odds, rarity, object_share(photos, odds, rarity))  # (C,)
    for example, photo in zip(examples, photos, strict=True):
        tags = [label - 1 for label in example.labels[1:]]
        example.evidence = photo.scores - changes[tags] + odds[level(photo.saliency)][:, None]
        if number > 1:
            example.evidence *= evidence_weights(run.data)[tags]
            example.evidence += mask_odds(example.maps, example.regions)


def choose_seeds(example: Example, config: TrainConfig) -> None:
    """seeds: superpixels that are confidently one tag or background; all others are void."""
    chosen = seeds.choose(example.evidence, config.seeds)
    example.seeds = np.where(chosen < 0, VOID, np.array(example.labels)[chosen]).astype(np.uint8)


def train_regionnet(examples: list[Example], run: Run, number: int) -> RegionNet:
    """regionnet: learns from the seeds of all photos what the superpixels of each class have in common."""

    def seeds_of(index: int) -> tuple[np.ndarray, np.ndarray]:
        sure = examples[index].seeds != VOID
        return examples[index].features[sure], examples[index].seeds[sure]

    settings = run.config.regionnet
    network = RegionNet(examples[0].features.shape[1], len(run.data.classes) + 1, settings.width, settings.dropout)
    items = PhotoSeeds(len(examples), seeds_of)
    counts = label_counts((example.seeds for example in examples), len(run.data.classes) + 1)
    loss = partial(region_loss, offsets=logit_offsets(counts, settings.adjustment))
    train(network, items, loss, settings.fit, run, f"regionnet-{number}", collate=join_seeds)
    return network


def relabel_regions(example: Example, network: RegionNet) -> None:
    """regions: RegionNet labels every superpixel, among background and the photo's own tags."""
    example.probabilities = network.probabilities(example.features, example.labels)


def refine_regions(example: Example, config: TrainConfig) -> None:
    """refinement: each tag's own evidence, and with it saliency, corrects the regions, in Bayes form.

    What has the colours of a thing then belongs to it.
    """
    refined = refinement.refine(example.probabilities, example.evidence, config.refinement)
    colours, area = region_colours(example.features), np.bincount(example.regions.reshape(-1))
    example.probabilities = refinement.follow_colours(refined, colours, area, config.refinement)


def make_labels(example: Example, config: TrainConfig) -> None:
    """labels: DenseCRF moves the borders to the edges of the photo; pixels that stay unsure are void.

    A tag that it wipes out, or from which it takes pixels of strong and weak evidence alike, keeps its regions.
    """
    painted = example.probabilities[example.regions].transpose(2, 0, 1)  # (L, H, W)
    smooth = dense_crf(example.pixels, painted, config.crf)
    mask, regions = (np.array(example.labels, np.uint8)[each.argmax(axis=0)] for each in (smooth, painted))
    mask[smooth.max(axis=0) < config.labels.sure_above] = VOID
    odds = dict(zip(example.labels[1:], example.evidence.T[:, example.regions], strict=True))  # each (H, W)
    example.mask = labels.restore(mask, regions, odds, config.labels)


def train_pixelnet(network: PixelNet, examples: list[Example], run: Run, number: int) -> None:
    """pixelnet: the segmentation network learns from the labels of all photos, and goes on from round to round."""
    config, by_id = run.config, {example.photo.id: example for example in examples}
    settings = config.pixelnet.fit if number == 1 else config.pixelnet.later_fit
    crops = MaskedCrops(run.data, lambda photo: by_id[photo.id].mask, config.pixelnet.augment, config.long_side, number)
    counts = label_counts((example.mask for example in examples), len(run.data.classes) + 1)
    adjustment, pasted = config.pixelnet.adjustment, config.pixelnet.pasted
    offsets = logit_offsets(counts, adjustment) + pasting_offsets(counts, pasted)
    train(
        network, crops, lambda network, batch: pixel_loss(network, paste_objects(batch, pasted), offsets=offsets),
        settings, run, f"pixelnet-{number}",
    )  # fmt: skip
    balance(  # it would predict a smaller area in each round, and hardly any of rare classes
        network, run.data, learned=lambda photo: by_id[photo.id].mask, least=config.pixelnet.least,
        before=(lambda photo: by_id[photo.id].predicted) if number > 1 else None,
        long_side=config.long_side, **config.masks.model_dump(),
    )  # fmt: skip


def predict_masks(example: Example, network: PixelNet, config: TrainConfig) -> None:
    """masks: PixelNet's probabilities of background and the photo's own tags, from which the next round starts."""
    settings = {"long_side": config.long_side, **config.masks.model_dump()}
    scores, features = localize(network, example.pixels, **settings)  # (C + 1, h, w), logits
    example.maps = scores[list(example.labels)].softmax(dim=0).numpy()  # (L, h, w)
    maps = resize_maps(example.maps, example.regions.shape)  # (L, H, W)
    example.predicted = np.array(example.labels, np.uint8)[maps.argmax(axis=0)]
    example.features = region_features(example.pixels, example.regions, features)


def train(
    network: nn.Module, items: Dataset[Any], loss: Callable[..., Any], settings: FitConfig, run: Run, name: str,
    collate: Callable[..., Any] | None = None,
) -> None:  # fmt: skip
    """Common to all trainings: AdamW, with epochs in which frequent tags are subsampled."""
    shares = photo_shares(run.data.photos, settings.tag_photos)
    schedule, file = settings.among(round(shares.sum())), run.folder / f"{name}.pt"
    fit(network, items, loss, schedule, file, shares=shares, device=torch.device("cpu"), seed=0, collate=collate)
    network.eval()


def show(examples: list[Example], run: Run, number: int) -> None:
    """Write a row per photo (photo, saliency, seeds, labels, mask), and print mIoU against the hidden true masks."""
    confusion, rows = Confusion(len(run.data.classes) + 1), []
    for example in examples:
        if example.photo.mask:
            confusion.add(example.predicted, read_mask(example.photo.mask))
        salient = np.repeat((example.salient * 255).astype(np.uint8)[..., None], 3, axis=2)
        masks = (example.seeds[example.regions], example.mask, example.predicted)
        rows.append(np.hstack([example.pixels, salient, *(tint(example.pixels, each) for each in masks)]))
    write_png(run.folder / f"round-{number}.png", Image.fromarray(np.vstack(rows[:8])))
    print(f"round {number}: masks of {len(examples)} training photos, mIoU {confusion.miou():.1f}")


def main() -> None:
    """Draw photos and run the method on them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("method"), help="new folder for photos and pictures")
    options = parser.parse_args()
    drawing.make_demo_photos(options.out / "photos", photos=120, size=160)
    settings = Path(drawing.__file__).with_name("settings.toml")
    config = load_config(
        settings,
        {
            "rounds": 2,
            "long_side": 160,
            "pixelnet.fit.least_steps": 100,
            "pixelnet.later_fit.least_steps": 30,
        },
    )
    run_method(Run(load(options.out / "photos", split="train"), config, options.out))


if __name__ == "__main__":
    main()
