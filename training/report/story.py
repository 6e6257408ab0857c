"""What the folder of a run contains: settings, progress, and the quality and cost of each round."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import isfinite

from pydantic import BaseModel

from tagmask.scores import Measured
from training.config import TrainConfig, walk
from training.run.description import Description, read_description
from training.run.layout import Layout
from training.run.ledger import Ledger, Line
from training.run.plan import run_stages
from training.stages.base import MaskStage
from training.stages.decision import Decision
from training.stages.masks import Masks


@dataclass(frozen=True)
class Setting:
    """A setting that is not the default of this version: dotted name, value, default, and its meaning."""

    name: str
    value: str
    default: str
    meaning: str


@dataclass(frozen=True)
class Cost:
    """Seconds of one stage by round from 0, None where it did not run; `photos` is the total over rounds."""

    stage: str
    seconds: tuple[float | None, ...]
    photos: int

    @property
    def total(self) -> float:
        return sum(each or 0.0 for each in self.seconds)


@dataclass(frozen=True)
class Story:
    """A run by its run.json and its ledger. `done` of `steps` stages have a line, `waiting` names the next one."""

    description: Description
    ledger: tuple[Line, ...]
    done: int
    steps: int
    waiting: str | None

    @property
    def rounds(self) -> int:
        """The last round that was begun."""
        return max((line["round"] for line in self.ledger), default=0)

    @property
    def kept(self) -> int | None:
        """The last round that was kept; None before the first has ended."""
        return max((line["round"] for line in self.lines("decision") if line["kept"]), default=None)

    @property
    def exported(self) -> int | None:
        """The round that the bundle holds; None before the export."""
        return next((line["round"] for line in self.lines("export")), None)

    @property
    def measured(self) -> Measured | None:
        """The accuracy of the bundle on held-out corrections; None before the export, and without any."""
        values = next((line["measured"] for line in self.lines("export") if "measured" in line), None)
        return Measured.from_json(values) if values else None

    @property
    def dropped(self) -> Line | None:
        """The decision that ended the run, if one did."""
        return next((line for line in self.lines("decision") if not line["kept"]), None)

    @property
    def decision(self) -> Line:
        """The decision that kept the round; empty while no round has finished."""
        return self.find(self.kept or 0, "decision")

    @property
    def judged(self) -> MaskStage | None:
        """The stage whose masks the run is judged by: those of the kept round, else the latest that are not sparse."""
        config = self.description.settings
        if self.kept is not None:
            return Masks.of(config, self.kept)
        finished = [stage for stage in run_stages(config) if self.find(*stage.id) and isinstance(stage, MaskStage)]
        return next((stage for stage in reversed(finished) if not stage.sparse), None)

    @property
    def seconds(self) -> float:
        """Total seconds of all stages."""
        return sum(cost.total for cost in self.costs())

    @property
    def saliency(self) -> str:
        """How saliency was computed, in words: "unsupervised", or the network and its normalization."""
        network, line = self.description.settings.saliency.network, self.find(0, "saliency")
        if network is None:
            return "unsupervised"
        return f"{network.name}, normalization {line['normalization']}" if "normalization" in line else network.name

    def find(self, number: int, stage: str) -> Line:
        """The line of a stage of a round; empty if it has none."""
        return next((line for line in self.lines(stage) if line["round"] == number), {})

    def lines(self, stage: str) -> Iterator[Line]:
        """The lines of a stage, by round."""
        return (line for line in self.ledger if line["stage"] == stage)

    def miou(self, *stages: str) -> dict[int, float]:
        """mIoU, 0..100, by round, of the first of `stages` that was measured in the round."""
        figures: dict[int, float] = {}
        for line in (line for stage in stages for line in self.lines(stage)):
            if "miou" in line and isfinite(line["miou"]):
                figures.setdefault(line["round"], line["miou"])
        return dict(sorted(figures.items()))

    def losses(self, stage: str) -> dict[int, list[float]]:
        """Loss of each epoch of a network's training, by round."""
        return {line["round"]: line["losses"] for line in self.lines(stage) if line.get("losses")}

    def costs(self) -> list[Cost]:
        """The cost of each stage, in the order in which stages first ran."""
        lines: dict[str, dict[int, Line]] = {}
        for line in self.ledger:
            if "seconds" in line:
                lines.setdefault(line["stage"], {})[line["round"]] = line
        return [
            Cost(
                stage,
                tuple(by_round[number]["seconds"] if number in by_round else None for number in range(self.rounds + 1)),
                sum(line.get("photos", 0) for line in by_round.values()),
            )
            for stage, by_round in lines.items()
        ]

    def changed(self) -> list[Setting]:
        """The settings that are not this version's defaults."""
        both = zip(walk(self.description.settings), walk(TrainConfig()), strict=True)
        return [
            Setting(name, _text(value), _text(default), meaning)
            for (name, value, meaning), (_, default, _) in both
            if value != default and not isinstance(value, BaseModel)
        ]


def read_story(layout: Layout) -> Story:
    """Read the folder of a run. Raises RunError if it holds no run, or cannot be read."""
    description, ledger = read_description(layout), Ledger(layout.ledger)
    done, waiting = 0, None
    planned = list(run_stages(description.settings))
    for stage in planned:
        line = ledger.find(*stage.id)
        if line is None:
            waiting = stage.title
            break
        done += 1
        if isinstance(stage, Decision) and not line["kept"]:
            break
    return Story(description, tuple(ledger), done, len(planned), waiting)


def _text(value: object) -> str:
    return "none" if value is None else str(value)
