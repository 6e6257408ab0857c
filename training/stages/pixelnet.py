"""PixelNet's training: the segmentation network, trained on the labels of the round.

Reads labels, the tags in doubt, and the network that it starts from: the tag classifier in the first round, PixelNet of
the round before in later ones, which then paints no less than that round's masks do. Writes
round-N/pixelnet/weights.pt, the network of training.networks.pixelnet, and least_areas.json.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, Field

from tagmask.classes import find_class
from tagmask.masks import BACKGROUND, VOID
from tagmask.progress import Advance, silent
from training.datasets.photos import Photo, TaggedPhotos
from training.fitting.augmentation import AugmentConfig
from training.fitting.settings import BALANCED, FitConfig, FitResult
from training.stages import labels, least_areas
from training.stages.base import StageId
from training.stages.classifier import ClassifierTraining
from training.stages.doubts import leave_out_doubts
from training.stages.localization import LocalizationConfig
from training.stages.masks import small_mask
from training.stages.network import EarlierRun, NetworkStage, TrainingContext
from training.stages.vouched import known_shares, vouched_labels

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from training.networks.pixelnet import PixelNet


class PixelNetConfig(BaseModel, frozen=True, extra="forbid"):
    """PixelNet's width, and its training in the first round and in later rounds, which continue from the one before."""

    width: int = Field(128, ge=8, le=1024, description="channels of the head")
    adjustment: float = Field(0.3, ge=0, le=2, description="how far labels of few pixels are evened out; 1: fully")
    known_adjustment: float = Field(0.6, ge=0, le=2, description="the same, where corrections tell how large they are")
    vouched_weight: float = Field(4, ge=0, le=100, description="weight of a vouched pixel; that of others is 1")
    pasted: float = Field(0.5, ge=0, le=1, description="share of the crops that get the objects of another one")
    least: float = Field(0.5, ge=0, le=1, description="part of its labels that is painted of each class at least")
    fit: FitConfig = FitConfig(epochs=5, least_steps=150, batch=16, learning_rate=1e-3)
    later_fit: FitConfig = FitConfig(epochs=3, least_steps=120, batch=16, learning_rate=7e-4)
    augment: AugmentConfig = AugmentConfig(crop=256, smallest=0.8, largest=1.7)


@dataclass(frozen=True)
class PixelNetTraining(NetworkStage):
    """Trains PixelNet on labels."""

    masks: LocalizationConfig
    long_side: int
    backbone: str
    weights: str | None
    settings: PixelNetConfig

    name = "pixelnet"
    network = "PixelNet"

    @property
    def reads(self) -> tuple[StageId, ...]:
        if self.round == 1:
            return (1, "labels"), (1, "regiontagger"), (0, "classifier")
        return (
            (self.round, "labels"),
            (self.round, "regiontagger"),
            (self.round - 1, "pixelnet"),
            (self.round - 1, "masks"),
        )

    def fit_config(self, classes: tuple[str, ...], start: EarlierRun | None) -> FitConfig:
        """That of later rounds, also if an earlier run knows all classes; new classes need a full training."""
        warm = self.round > 1 or (start is not None and all(find_class(name, start.classes) for name in classes))
        return self.settings.later_fit if warm else self.settings.fit

    def photos_after(self, data: TaggedPhotos) -> int:
        return min(BALANCED, len(data.tagged(data.classes)))

    def train(self, context: TrainingContext, advance: Advance = silent) -> FitResult | None:
        label = partial(labels.read, run=context.run, number=self.round)
        before = partial(small_mask, run=context.run, number=self.round - 1, classes=context.data.classes)
        context = replace(context, data=leave_out_doubts(context.data, context.run, self.round))
        return self.train_on(context, label, before if self.round > 1 else None, advance)

    def train_on(
        self,
        context: TrainingContext,
        label: Callable[[Photo], np.ndarray],
        before: Callable[[Photo], np.ndarray] | None,
        advance: Advance = silent,
    ) -> FitResult | None:
        """Train on `label(photo)`, (H, W) uint8, 255 void.

        The trained network then paints no less than `before(photo)`, masks like these of any size, if it is not None,
        and enough of each class; see `training.fitting.balance`.
        """
        from training.fitting.balance import balance
        from training.fitting.devices import world
        from training.fitting.inputs import MaskedCrops
        from training.fitting.pasting import paste_objects
        from training.networks.pixelnet import pixel_loss

        data, network, settings = context.data, self._initial(context), self.settings
        finish = partial(
            balance, network, data, learned=label, least=settings.least, before=before,
            long_side=self.long_side, advance=advance, **self.masks.model_dump(),
        )  # fmt: skip
        masks = partial(_by_source, label=label, classes=data.classes) if data.corrected else label
        weights = (1, settings.vouched_weight) if data.corrected else (1,)
        counts = _count(data, masks)  # (N, K, labels)
        least_areas.write(context.run, self.round, least_areas.measure(counts.sum(axis=1)))
        # A crop that is alone in its step has no other to take objects from.
        together = min(self.fit_config(data.classes, context.start).batch, len(data.photos))
        pasted = settings.pasted if together >= 2 * world() else 0.0
        loss = partial(pixel_loss, offsets=self._offsets(data, counts.sum(axis=0), pasted), weights=weights)
        crops = MaskedCrops(data, masks, settings.augment, self.long_side, self.fit_seed)
        return self.fit(
            context, network, crops, lambda network, batch: loss(network, paste_objects(batch, pasted)),
            advance, finish=finish,
        )  # fmt: skip

    def _offsets(self, data: TaggedPhotos, counts: "NDArray[np.float64]", pasted: float) -> "Tensor":
        """What is added to the logits of labels by the K sources, whose pixels are `counts` (K, labels): (K, labels).

        `pasted` is the share of the crops that get the objects of another one.
        """
        from training.fitting.adjustment import logit_offsets, source_offsets
        from training.fitting.pasting import pasting_offsets

        settings = self.settings
        if data.corrected:
            offsets = source_offsets(
                counts, *known_shares(data, self.long_side),
                strength=settings.adjustment, known_strength=settings.known_adjustment,
            )  # fmt: skip
        else:
            offsets = logit_offsets(counts[0], settings.adjustment)
        return offsets + pasting_offsets(counts.sum(axis=0), pasted)

    def _initial(self, context: TrainingContext) -> "PixelNet":
        """The network before its training."""
        import torch

        from training.networks.backbones import read_state
        from training.networks.classifier import TagClassifier
        from training.networks.pixelnet import PixelNet
        from training.networks.warm_start import load_by_name

        data, start = context.data, context.start
        torch.manual_seed(self.seed + self.round)
        network = PixelNet(len(data.classes) + 1, self.backbone, self.settings.width, "random")
        if self.round > 1:
            network.load_state_dict(read_state(PixelNetTraining.weights_of(context.run, self.round - 1)))
        elif start is not None:
            state = read_state(PixelNetTraining.weights_of(start.root, start.kept))
            load_by_name(network, state, PixelNet.HEAD, (BACKGROUND, *start.classes), (BACKGROUND, *data.classes))
        else:  # the tag classifier's backbone knows the classes already
            classifier = TagClassifier.load(ClassifierTraining.weights_of(context.run), self.backbone)
            network.backbone.load_state_dict(classifier.backbone.state_dict())
        if self.weights != "random":
            network.backbone.freeze_shallow()
        return network


def _count(data: TaggedPhotos, masks: Callable[[Photo], np.ndarray]) -> "NDArray[np.float64]":
    """The pixels of each label in each photo, (N, K, labels); `masks` gives (H, W), or (H, W, K) of K sources."""
    from training.fitting.adjustment import label_counts

    labels = len(data.classes) + 1
    each = (np.atleast_3d(masks(photo)).transpose(2, 0, 1) for photo in data.photos)
    return np.array([[label_counts([mask], labels) for mask in sources] for sources in each])


def _by_source(photo: Photo, label: Callable[[Photo], np.ndarray], classes: tuple[str, ...]) -> np.ndarray:
    """The labels of a photo that were mined, and those that a person vouches for: (H, W, 2) uint8, 255 void."""
    mask = label(photo)
    vouched = vouched_labels(photo, classes, mask.shape)
    return np.dstack([np.where(vouched == VOID, mask, VOID), vouched])
