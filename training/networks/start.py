"""An earlier run to go on from. Needs no torch."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tagmask.errors import ConfigError, RunError
from training.config import TrainConfig
from training.run.description import read_description
from training.run.layout import Layout
from training.run.ledger import Ledger


@dataclass(frozen=True)
class Start:
    """An earlier run to go on from: where its networks lie, the round that was kept, and the classes they know."""

    layout: Layout
    kept: int
    classes: tuple[str, ...]
    config: TrainConfig

    def check(self, config: TrainConfig) -> None:
        """Raises ConfigError when networks of `config` are shaped otherwise, naming the setting."""
        for name, then, now in (
            ("backbone", self.config.backbone, config.backbone),
            ("pixelnet.width", self.config.pixelnet.width, config.pixelnet.width),
            ("regionnet.width", self.config.regionnet.width, config.regionnet.width),
        ):
            if then != now:
                raise ConfigError(
                    f"start {self.layout.root}: its {name} is {then}, this run's is {now}; make them equal, or start "
                    "from pretrained weights"
                )

    def knows(self, classes: Iterable[str]) -> bool:
        """Whether none of `classes` is new."""
        return set(classes) <= set(self.classes)

    def digest(self) -> str:
        """SHA-256 hex digest of the classes and of every network."""
        total = hashlib.sha256("\0".join(self.classes).encode())
        for file in self.files():
            total.update(f"\n{file.relative_to(self.layout.root)}\0".encode() + file.read_bytes())
        return total.hexdigest()

    def files(self) -> tuple[Path, ...]:
        """The networks that may be read, sorted."""
        rounds = [self.layout.round(number) for number in range(self.kept + 1)]
        found = {each for here in rounds for each in (here.localizer, here.regionnet) if each.is_file()}
        return tuple(sorted(found))


def read_start(layout: Layout) -> Start:
    """A finished run as one to go on from. Raises RunError when it is not finished, or cannot be read."""
    description, ledger = read_description(layout), Ledger(layout.ledger)
    kept = max((line["round"] for line in ledger if line["stage"] == "decision" and line["kept"]), default=0)
    if not kept or not layout.round(kept).localizer.is_file() or not layout.round(0).localizer.is_file():
        raise RunError(f"start {layout.root}: no finished round is there; finish that run, or leave the start out")
    return Start(layout, kept, description.classes, description.settings)
