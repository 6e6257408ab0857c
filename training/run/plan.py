"""What a run consists of: its steps in order, what each reads of those before it, and all that decides its result.

Whoever runs the steps, one after the other (`training.run.rounds`) or spread over machines, goes by this list.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import reduce
from typing import Any, Literal

from training.config import FitConfig, TrainConfig
from training.datasets.photos import TaggedPhotos
from training.fitting.sampling import shares
from training.networks.start import Start
from training.run.ledger import Line

Kind = Literal["photos", "network", "decision"]
"""One photo at a time; all photos into a network; a round's judgement."""

Name = tuple[int, str]
"""Round and stage."""

TORCH = frozenset({"maps", "regions", "masks"})
"""Stages of one photo at a time that a network does; their code imports torch."""


_PHOTO = ("datasets.photos",)
_FIT = ("fitting.loop", "fitting.sampling", "fitting.augmentation", "networks.backbones")


@dataclass(frozen=True)
class Step:
    """One stage of one round.

    `reads` names the steps whose results it reads. `folders`, below the run's, are what it writes. `settings`, plain
    JSON values, and the code of `modules` decide what that is, beside the photos, what it reads, and for networks the
    weights that they start from. `tagged` says whether the photos' tags matter too; a step of untagged photos gives
    each photo the same in every data set.
    """

    round: int
    stage: str
    kind: Kind
    reads: tuple[Name, ...]
    folders: tuple[str, ...]
    settings: dict[str, Any]
    modules: tuple[str, ...]
    tagged: bool = True

    @property
    def name(self) -> Name:
        return self.round, self.stage

    @property
    def title(self) -> str:
        """For people: "round 2: labels"."""
        return self.stage if self.round == 0 else f"round {self.round}: {self.stage}"


def steps(config: TrainConfig) -> Iterator[Step]:
    """Every step of a run in order, if no round is dropped."""
    yield from preparation(config)
    for number in range(1, config.rounds + 1):
        yield from one_round(config, number)


def in_order(config: TrainConfig, do: Callable[[Step], Line]) -> int:
    """`do` each step, whose line of the ledger it gives, until all rounds are done or one is dropped.

    Returns the number of the round that is kept.
    """
    kept = 0
    for step in preparation(config):
        do(step)
    for number in range(1, config.rounds + 1):
        for step in one_round(config, number):
            line = do(step)
        if not line["kept"]:
            break
        kept = number
    return kept


def preparation(config: TrainConfig) -> tuple[Step, ...]:
    """Superpixels, saliency, the tag classifier and its class maps: all that does not change from round to round."""
    photo, fit = (
        ("datasets.photos",),
        ("fitting.loop", "fitting.sampling", "fitting.augmentation", "networks.backbones"),
    )
    return (
        Step(0, "superpixels", "photos", (), ("superpixels",), _settings(config, "long_side", "superpixels"),
             ("stages.superpixels", *photo), tagged=False),
        Step(0, "saliency", "photos", ((0, "superpixels"),), ("saliency",), _settings(config, "long_side", "saliency"),
             ("stages.saliency", *photo), tagged=False),
        Step(0, "classifier", "network", (), ("round-0/localizer",),
             _settings(config, "long_side", "backbone", "weights", "seed", "classifier.fit", "classifier.augment"),
             ("networks.classifier", *fit, *photo)),
        Step(0, "maps", "photos", ((0, "superpixels"), (0, "classifier")), ("round-0/maps", "round-0/features"),
             _settings(config, "long_side", "classifier.maps"), ("stages.localization", "stages.pooling", *photo)),
    )  # fmt: skip


def one_round(config: TrainConfig, number: int) -> tuple[Step, ...]:
    """One pass: seeds, RegionNet, refinement, DenseCRF, PixelNet, and PixelNet's masks for the next round."""
    first, photo, fit = number == 1, _PHOTO, _FIT
    located = (0, "maps") if first else (number - 1, "masks")
    cut, shown, mined, refined = (0, "superpixels"), (0, "saliency"), (number, "regions"), (number, "refined")
    start = (0, "classifier") if first else (number - 1, "pixelnet")
    here = f"round-{number}"
    refinement = Step(number, "refined", "photos", (cut, shown, mined), (f"{here}/refined",),
                      _settings(config, "long_side", "refine"), 
                      ("stages.work", "stages.refinement", *photo))  # fmt: skip
    return (
        Step(number, "seeds", "photos", (cut, shown, located) if first else (cut, located), (f"{here}/seeds",),
             _settings(config, "seeds"), ("stages.work", "stages.seeds", "stages.pooling")),
        Step(number, "regionnet", "network", ((number, "seeds"), located), (f"{here}/regionnet",),
             _settings(config, "seed", "regionnet"), ("networks.regionnet", "fitting.loop", "fitting.sampling")),
        Step(number, "regions", "photos", ((number, "regionnet"), located), (f"{here}/regions",), {},
             ("networks.regionnet",)),
        *((refinement,) if first else ()),
        Step(number, "labels", "photos", (cut, refined if first else mined), (f"{here}/labels",),
             _settings(config, "long_side", "crf"), ("stages.work", "tagmask.crf.dense", *photo)),
        Step(number, "pixelnet", "network", ((number, "labels"), start, *(() if first else (located,))),
             (f"{here}/localizer",),
             _settings(config, "long_side", "backbone", "weights", "seed", "pixelnet"),
             ("pixelnet", "balance", "localize", *fit, *photo)),
        Step(number, "masks", "photos", (cut, (number, "pixelnet")),
             (f"{here}/maps", f"{here}/features", f"{here}/seen"),
             _settings(config, "long_side", "pixelnet.maps"), ("stages.localization", "stages.pooling", *photo)),
        Step(number, "decision", "decision", ((number, "masks"), (1, "labels") if first else (number - 1, "masks")),
             (), _settings(config, "keep"), ("evaluation.measure", "run.decision")),
    )  # fmt: skip


def fit_config(step: Step, config: TrainConfig, data: TaggedPhotos, start: Start | None) -> FitConfig:
    """How the network of `step` is trained on `data`, going on from `start` or beginning anew.

    A PixelNet that has a class to learn from nothing takes as long as a first one.
    """
    fit = _fit_config(step, config, warm=start is not None and start.knows(data.classes))
    return fit.among(_epoch(fit, data))


def photos_shown(step: Step, config: TrainConfig, data: TaggedPhotos, start: Start | None) -> int:
    """How many photos all epochs of a network's `step` show; arguments as of `fit_config`."""
    fit = fit_config(step, config, data, start)
    return fit.epochs * _epoch(fit, data)


def _fit_config(step: Step, config: TrainConfig, *, warm: bool) -> FitConfig:
    if step.stage == "classifier":
        return config.classifier.fit
    if step.stage == "regionnet":
        return config.regionnet.fit
    return config.pixelnet.later_fit if warm or step.round > 1 else config.pixelnet.fit


def _epoch(fit: FitConfig, data: TaggedPhotos) -> int:
    """Photos of an epoch."""
    return round(shares(data.photos, fit.tag_photos).sum())


def _settings(config: TrainConfig, *names: str) -> dict[str, Any]:
    """The named settings, dotted names reaching inside."""
    values = config.model_dump(mode="json")
    return {name: reduce(lambda inside, part: inside[part], name.split("."), values) for name in names}
