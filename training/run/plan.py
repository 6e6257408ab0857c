"""The plan: the stages of a run, in order."""

from collections.abc import Iterator

from tagmask.inputs import Precision
from training.config import TrainConfig
from training.fitting.settings import REGRESSED
from training.networks.parity import export_count
from training.stages import BEFORE_ROUNDS, EACH_ROUND
from training.stages.base import Stage


def round_stages(config: TrainConfig, number: int) -> tuple[Stage, ...]:
    """The stages of round `number` in order; round 0 holds those before the rounds."""
    kinds = EACH_ROUND if number else BEFORE_ROUNDS
    return tuple(kind.of(config, number) for kind in kinds)


def run_stages(config: TrainConfig) -> Iterator[Stage]:
    """Every stage of a run in order, if no round is dropped."""
    for number in range(config.rounds + 1):
        yield from round_stages(config, number)


def export_steps(photos: int, held_out: int, precision: Precision) -> int:
    """Steps of the export of a run on so many photos: those that the tag head is fitted to, and the inputs it runs.

    The last of these are the photos whose corrections are held out.
    """
    return min(REGRESSED, photos) + export_count(photos, precision) + held_out


def find_stage(config: TrainConfig, number: int, name: str) -> Stage:
    """The stage called `name` of round `number`."""
    return next(stage for stage in round_stages(config, number) if stage.name == name)
