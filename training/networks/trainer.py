"""The three trainings, from files to files: each builds its network, gives it what it starts from, and fits it.

A network starts from the backbone's pretrained weights, from the network before it in the run, or, in a run that goes
on from an earlier one, from that one's: of its classes those that are learned again keep their outputs.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tagmask.masks import BACKGROUND, VOID, read_mask
from tagmask.progress import Advance, silent
from training.config import FitConfig, TrainConfig
from training.datasets.photos import Photo, TaggedPhotos
from training.fitting.balance import balance
from training.fitting.loop import FitResult
from training.networks.backbones import Weights
from training.networks.classifier import TagClassifier, train_classifier
from training.networks.pixelnet import PixelNet, train_pixelnet
from training.networks.regionnet import RegionNet, train_regionnet
from training.networks.start import Start
from training.run.layout import Layout
from training.run.plan import Step, fit_config, photos_shown


@dataclass(frozen=True)
class Trainer:
    """What all trainings of a run share."""

    data: TaggedPhotos
    layout: Layout
    config: TrainConfig
    weights: Weights
    device: torch.device
    start: Start | None = None

    def fit_config(self, step: Step) -> FitConfig:
        """How long and how fast the network of `step` learns."""
        return fit_config(step, self.config, self.data, self.start)

    def photos_shown(self, step: Step) -> int:
        """How many photos all epochs of `step` show."""
        return photos_shown(step, self.config, self.data, self.start)

    def train(self, step: Step, advance: Advance = silent) -> FitResult | None:
        """Train the network of `step` and write its weights; None when they were there. See `fit`.

        Under `torchrun` every process calls this.
        """
        if step.stage == "classifier":
            return self._train_classifier(step, advance)
        if step.stage == "regionnet":
            return self._train_regionnet(step, advance)
        here = self.layout.round(step.round)
        # The first round's labels may reach beyond the objects, and PixelNet does well to paint less.
        painted = partial(self._painted, step.round - 1) if step.round > 1 else None
        return self.train_pixelnet(step, lambda photo: read_mask(here.labels(photo.id)), painted, advance)

    def train_pixelnet(
        self,
        step: Step,
        mask: Callable[[Photo], np.ndarray],
        painted: Callable[[Photo], np.ndarray] | None,
        advance: Advance = silent,
    ) -> FitResult | None:
        """Train PixelNet on `mask(photo)`, (H, W) uint8 labels; later rounds go on from the round before.

        It then paints as much as `painted(photo)`, masks like these, where they are given; see `balance`.
        """
        config, number = self.config.pixelnet, step.round
        torch.manual_seed(self.config.seed + number)
        network = PixelNet(len(self.data.classes) + 1, self.config.backbone, config.width, "random")
        if number > 1:
            network.load_state_dict(_read(self.layout.round(number - 1).localizer))
        elif self.start is not None:
            state = _read(self.start.layout.round(self.start.kept).localizer)
            grow(network, state, "labels", self._labels(self.start.classes), self._labels(self.data.classes))
        else:
            # The tag classifier's backbone knows the classes already.
            classifier = TagClassifier(len(self.data.classes), self.config.backbone, "random")
            classifier.load_state_dict(_read(self.layout.round(0).localizer))
            network.backbone.load_state_dict(classifier.backbone.state_dict())
        if self.weights != "random":
            network.backbone.freeze_shallow()
        localizer = self.layout.round(number).localizer
        shared: dict[str, Any] = {"long_side": self.config.long_side, "device": self.device}

        def finish() -> None:
            if painted is not None:
                balance(network, self.data, painted, config.maps, **shared)

        return train_pixelnet(
            network, self.data, mask, localizer, self.fit_config(step), config.augment,
            seed=self._seed(step), finish=finish, advance=advance, **shared,
        )  # fmt: skip

    def _train_classifier(self, step: Step, advance: Advance) -> FitResult | None:
        torch.manual_seed(self.config.seed)
        network = TagClassifier(len(self.data.classes), self.config.backbone, self.weights)
        if self.start is not None:
            state = _read(self.start.layout.round(0).localizer)
            grow(network, state, "maps", self.start.classes, self.data.classes)
        return train_classifier(
            network, self.data, self.layout.round(0).localizer, self.config.classifier,
            long_side=self.config.long_side, device=self.device, seed=self._seed(step), advance=advance,
        )  # fmt: skip

    def _train_regionnet(self, step: Step, advance: Advance) -> FitResult | None:
        here, before = self.layout.round(step.round), self.layout.round(step.round - 1)
        config, photos = self.config.regionnet, self.data.photos

        def seeds(index: int) -> tuple[np.ndarray, np.ndarray]:
            labels = np.load(here.seeds(photos[index].id))
            sure = labels != VOID
            return np.load(before.features(photos[index].id), mmap_mode="r")[sure], labels[sure]

        features = np.load(before.features(photos[0].id), mmap_mode="r").shape[1]
        torch.manual_seed(self.config.seed + 1000 + step.round)
        network = RegionNet(features, len(self.data.classes) + 1, config)
        if self.start is not None and (earlier := self.start.layout.round(step.round).regionnet).is_file():
            old, new = self._labels(self.start.classes), self._labels(self.data.classes)
            grow(network, _read(earlier), RegionNet.HEAD, old, new)
        train = partial(train_regionnet, network, photos, seeds, here.regionnet, config)
        return train(device=self.device, seed=self._seed(step), advance=advance)

    def _painted(self, number: int, photo: Photo) -> np.ndarray:
        """What PixelNet of round `number` painted of a photo, among its tags: (h, w) uint8 labels, small."""
        maps = np.load(self.layout.round(number).maps(photo.id))  # (labels of the photo, h, w)
        return np.array(photo.labels(self.data.classes), dtype=np.uint8)[maps.argmax(axis=0)]

    def _seed(self, step: Step) -> int:
        return self.config.seed * 1000 + step.round

    def _labels(self, classes: Sequence[str]) -> tuple[str, ...]:
        return (BACKGROUND, *classes)


def grow(
    network: nn.Module, state: Mapping[str, Tensor], head: str, known: Sequence[str], learned: Sequence[str]
) -> None:
    """Load `state`, of a network whose module `head` gives an output each of `known`, into one that gives `learned`.

    Outputs go by name: those that are new stay as they were drawn, those that are gone are left out.
    """
    loaded = dict(state)
    for name, drawn in network.state_dict().items():
        if name.startswith(f"{head}."):
            rows = drawn.clone()
            for row, label in enumerate(learned):
                if label in known:
                    rows[row] = state[name][known.index(label)]
            loaded[name] = rows
    network.load_state_dict(loaded)


def _read(path: Path) -> dict[str, Tensor]:
    state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return state
