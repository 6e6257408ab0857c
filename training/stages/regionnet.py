"""RegionNet's training: mines common object features by classifying superpixels, all photos together.

What is common to a tag's seeds over many photos outvotes what one photo's class map got wrong.

Reads seeds, the tags in doubt, and superpixel features of the localization before. Writes
round-N/regionnet/weights.pt, the network of training.networks.regionnet.
"""

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from pydantic import BaseModel, Field

from tagmask.masks import BACKGROUND, VOID
from tagmask.progress import Advance, silent
from training.fitting.settings import FitConfig, FitResult
from training.stages import seeds
from training.stages.base import StageId
from training.stages.doubts import leave_out_doubts
from training.stages.localization import features_file, localization_id
from training.stages.network import EarlierRun, NetworkStage, TrainingContext


class RegionNetConfig(BaseModel, frozen=True, extra="forbid"):
    """RegionNet's width and training."""

    width: int = Field(256, ge=8, le=4096, description="hidden units")
    dropout: float = Field(0.5, ge=0, lt=1, description="share of hidden units left out in training")
    adjustment: float = Field(0.3, ge=0, le=2, description="how far labels with few seeds are evened out; 1: fully")
    fit: FitConfig = FitConfig(epochs=8, batch=32, learning_rate=1e-3)


@dataclass(frozen=True)
class RegionNetTraining(NetworkStage):
    """Trains RegionNet on seeds."""

    settings: RegionNetConfig

    name = "regionnet"
    network = "RegionNet"
    light = True

    @property
    def reads(self) -> tuple[StageId, ...]:
        return (self.round, "seeds"), (self.round, "regiontagger"), localization_id(self.round - 1)

    def fit_config(self, classes: tuple[str, ...], start: EarlierRun | None) -> FitConfig:
        return self.settings.fit

    def train(self, context: TrainingContext, advance: Advance = silent) -> FitResult | None:
        import torch

        from training.fitting.adjustment import label_counts, logit_offsets
        from training.fitting.inputs import PhotoSeeds, join_seeds
        from training.networks.backbones import read_state
        from training.networks.regionnet import RegionNet, region_loss
        from training.networks.warm_start import load_by_name

        run, start = context.run, context.start
        data = leave_out_doubts(context.data, run, self.round)

        def seeded(index: int) -> tuple[np.ndarray, np.ndarray]:
            """Features (n, F) and labels (n,) of the superpixels of photo `index` that are seeds."""
            photo = data.photos[index]
            labels = seeds.read(photo, run, self.round)
            sure = labels != VOID
            return np.load(features_file(photo, run, self.round - 1), mmap_mode="r")[sure], labels[sure]

        features = np.load(features_file(data.photos[0], run, self.round - 1), mmap_mode="r").shape[1]
        torch.manual_seed(self.seed + 1000 + self.round)
        network = RegionNet(features, len(data.classes) + 1, self.settings.width, self.settings.dropout)
        if start is not None and (earlier := RegionNetTraining.weights_of(start.root, self.round)).is_file():
            known, learned = (BACKGROUND, *start.classes), (BACKGROUND, *data.classes)
            load_by_name(network, read_state(earlier), RegionNet.HEAD, known, learned)
        all_seeds = (seeds.read(photo, run, self.round) for photo in data.photos)
        offsets = logit_offsets(label_counts(all_seeds, len(data.classes) + 1), self.settings.adjustment)
        loss = partial(region_loss, offsets=offsets)
        return self.fit(
            replace(context, data=data),
            network,
            PhotoSeeds(len(data.photos), seeded),
            loss,
            advance,
            collate=join_seeds,
        )
