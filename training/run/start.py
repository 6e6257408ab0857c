"""An earlier run to start from. Needs no torch."""

import hashlib
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path

from tagmask.errors import ConfigError, RunError
from training.config import TrainConfig
from training.run.description import read_description
from training.run.layout import Layout
from training.run.ledger import Ledger
from training.run.plan import round_stages
from training.stages.classifier import ClassifierTraining
from training.stages.network import EarlierRun, NetworkStage
from training.stages.pixelnet import PixelNetTraining


@dataclass(frozen=True)
class Start(EarlierRun):
    """A finished run whose networks can be used, with the settings that they were built by."""

    config: TrainConfig

    def check(self, config: TrainConfig) -> None:
        """Raises ConfigError if networks of `config` have another shape, naming the setting."""
        for name in ("backbone", "pixelnet.width", "regionnet.width", "regiontagger.width"):
            then, now = map(attrgetter(name), (self.config, config))
            if then != now:
                raise ConfigError(
                    f"start {self.root}: its {name} is {then}, this run's is {now}; make them equal, or start "
                    "from pretrained weights"
                )

    def digest(self) -> str:
        """SHA-256 hex digest of the classes and of every network."""
        total = hashlib.sha256("\0".join(self.classes).encode())
        for file in self.files():
            total.update(f"\n{file.relative_to(self.root)}\0".encode() + file.read_bytes())
        return total.hexdigest()

    def files(self) -> tuple[Path, ...]:
        """The existing networks, sorted."""
        stages = (stage for number in range(self.kept + 1) for stage in round_stages(self.config, number))
        files = (stage.weights_of(self.root, stage.round) for stage in stages if isinstance(stage, NetworkStage))
        return tuple(sorted(file for file in files if file.is_file()))


def read_start(layout: Layout) -> Start:
    """A finished run to start from. Raises RunError if it is not finished, or cannot be read."""
    description, ledger = read_description(layout), Ledger(layout.ledger)
    kept = max((line["round"] for line in ledger if line["stage"] == "decision" and line["kept"]), default=0)
    needed = ClassifierTraining.weights_of(layout.root), PixelNetTraining.weights_of(layout.root, kept)
    if not kept or not all(file.is_file() for file in needed):
        raise RunError(f"start {layout.root}: no round of it is finished; finish that run, or leave the start out")
    return Start(layout.root, kept, description.classes, description.settings)
