"""The tag classifier: learns which tags a photo has, from tags alone.

Reads the photos and their tags. Writes classifier/weights.pt, the network of training.networks.classifier.
"""

from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel

from tagmask.progress import Advance, silent
from training.choices import weights_file
from training.fitting.augmentation import AugmentConfig
from training.fitting.settings import FitConfig, FitResult
from training.stages.network import EarlierRun, NetworkStage, TrainingContext


class ClassifierConfig(BaseModel, frozen=True, extra="forbid"):
    """Training of the tag classifier."""

    fit: FitConfig = FitConfig(epochs=5, batch=16, learning_rate=2e-3)
    augment: AugmentConfig = AugmentConfig(crop=288, smallest=0.8, largest=1.5)


@dataclass(frozen=True)
class ClassifierTraining(NetworkStage):
    """Trains the tag classifier."""

    long_side: int
    backbone: str
    weights: str | None
    settings: ClassifierConfig

    name = "classifier"
    reads = ()
    network = "the tag classifier"

    def files(self) -> tuple[Path, ...]:
        file = weights_file(self.weights)
        return (file,) if file else ()

    def fit_config(self, classes: tuple[str, ...], start: EarlierRun | None) -> FitConfig:
        return self.settings.fit

    def train(self, context: TrainingContext, advance: Advance = silent) -> FitResult | None:
        import torch

        from training.fitting.inputs import TaggedCrops
        from training.networks.backbones import read_state
        from training.networks.classifier import TagClassifier, tag_loss
        from training.networks.warm_start import load_by_name
        from training.networks.weights import initial_weights

        data, start = context.data, context.start
        torch.manual_seed(self.seed)
        network = TagClassifier(len(data.classes), self.backbone, initial_weights(self.weights))
        if start is not None:
            state = read_state(ClassifierTraining.weights_of(start.root))
            load_by_name(network, state, TagClassifier.HEAD, start.classes, data.classes)
        crops = TaggedCrops(data, self.settings.augment, self.long_side, self.fit_seed)
        return self.fit(context, network, crops, tag_loss, advance)
