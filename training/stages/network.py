"""What all trainings have in common. Torch is imported only when a network is trained."""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from tagmask.progress import Advance, silent
from training.datasets.photos import Photo, TaggedPhotos
from training.fitting.sampling import photo_shares
from training.fitting.settings import FitConfig, FitResult
from training.stages.base import Stage, folder

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.utils.data import Dataset


@dataclass(frozen=True)
class EarlierRun:
    """A finished run to start from: its folder, the round that was kept, and the classes of its networks."""

    root: Path
    kept: int
    classes: tuple[str, ...]


@dataclass(frozen=True)
class TrainingContext:
    """What the trainings of a run share: the photos, the run's folder, the device ("cpu", "cuda:0") and the start.

    `held_out` are photos of `data` with the corrections that are held out.
    """

    data: TaggedPhotos
    run: Path
    device: str
    start: EarlierRun | None = None
    held_out: tuple[Photo, ...] = ()


@dataclass(frozen=True)
class NetworkStage(Stage):
    """A stage that trains a network on all photos. It starts from pretrained weights, from the network before it in
    the run, or from that of an earlier run, whose outputs are kept for the classes that are learned again.
    """

    seed: int

    needs_torch: ClassVar[bool] = True
    network: ClassVar[str]
    """Display name of the network: "RegionNet"."""
    light: ClassVar[bool] = False
    """Whether it trains in seconds, so that several processes would not speed it up."""

    @abstractmethod
    def fit_config(self, classes: tuple[str, ...], start: EarlierRun | None) -> FitConfig:
        """The settings of this training, which may start from `start`."""

    @abstractmethod
    def train(self, context: TrainingContext, advance: Advance = silent) -> FitResult | None:
        """Train the network and write its weights; None if they have been written before.

        Under `torchrun` every process calls this.
        """

    def fit(
        self,
        context: TrainingContext,
        network: "nn.Module",
        photos: "Dataset[Any]",
        loss: "Callable[[nn.Module, Any], Tensor]",
        advance: Advance,
        weights: Path | None = None,
        **options: Any,
    ) -> FitResult | None:
        """Train `network` by the settings and write its `weights`, to `weights_of` by default.

        `options` are those of `training.fitting.loop.fit`.
        """
        import torch

        from training.fitting.loop import fit

        config = self.schedule(context.data, context.start)
        return fit(
            network, photos, loss, config, weights or self.weights_of(context.run, self.round),
            shares=photo_shares(context.data.photos, config.tag_photos), device=torch.device(context.device),
            seed=self.fit_seed, advance=advance, **options,
        )  # fmt: skip

    def schedule(self, data: TaggedPhotos, start: EarlierRun | None) -> FitConfig:
        """`fit_config` with the number of epochs for `data`."""
        config = self.fit_config(data.classes, start)
        return config.among(_epoch_photos(data, config))

    def photos_shown(self, data: TaggedPhotos, start: EarlierRun | None) -> int:
        """The number of photos shown in all epochs."""
        config = self.schedule(data, start)
        return config.epochs * _epoch_photos(data, config)

    def photos_after(self, data: TaggedPhotos) -> int:
        """The number of photos that are worked on after the last epoch, as `train` counts them too."""
        return 0

    @classmethod
    def weights_of(cls, run: Path, number: int = 0) -> Path:
        """The state dict of the network trained in round `number`."""
        return folder(run, number, cls.name) / "weights.pt"

    @property
    def fit_seed(self) -> int:
        """The seed of sampling and augmentation."""
        return self.seed * 1000 + self.round


def _epoch_photos(data: TaggedPhotos, config: FitConfig) -> int:
    return round(photo_shares(data.photos, config.tag_photos).sum())
