"""How much a score of the region tagger, and a level of saliency, say about what is an object.

A score is worth what it says beyond the frequency of its tag. Saliency is right where one thing stands out and wrong
where nothing does, so it counts only as far as it agrees with what is common to a tag's photos. In Bayes form: log
odds(object | score, saliency) = score + log p(saliency | object) / p(saliency | background). Both densities are
histograms over all photos, weighted by the posterior of the step before (expectation maximization).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from training.datasets.photos import TaggedPhotos

LEVELS = 10
"""Levels of saliency that are told apart."""

STEPS = 4
"""Steps of expectation maximization; the odds hardly change after them."""

SMOOTHING = 0.05
"""Share of each histogram that is spread evenly over the levels, so that an empty level has finite odds."""

LEAST = 1e-3
"""Least share of photos with or without a tag, so that a tag that all photos carry has finite odds."""

SCENE = 0.55
"""Photos of several tags are scenes, covered by these, if more than this share of them is. Where true masks showed less
than a third, up to 0.45 was found."""

THING = 0.45
"""Greatest share of its photos, on average, that a class covers which is their only tag."""

BACKDROP = 0.3
"""A tag shows all over its photos, in what surrounds things too, if the evidence gives it more than this share of their
borders. Where it did not, up to 0.14 was found; where it did, 0.34 to 0.48."""

BORDER = 30
"""The border of a photo is as wide as this part of its shorter side."""

HALF = 40
"""With masks of a network that learned a class from so many photos, the evidence of one photo counts half."""

SHARE_STEPS = 30
"""Steps of expectation maximization until the share of objects hardly changes."""

Array = NDArray[np.float64]


class HintOdds(BaseModel, frozen=True):
    """What the hints for a class, or FOREGROUND, say.

    `odds` (LEVELS,) are log odds of an object by the share that they show, `agreement` is that of `saliency_agreement`.
    """

    odds: tuple[float, ...]
    agreement: float | None


class EvidenceOdds(BaseModel, frozen=True):
    """How much scores, saliency and hints say; what an earlier version of Tagmask did not write has its default.

    `offsets` (C,) are subtracted from scores; `saliency` (LEVELS,) are log odds of an object by level of saliency, see
    `saliency_odds`. `weights` (C,) are those of `evidence_weights`; none: all counts in full. `agreement` is that of
    `saliency_agreement`; `object_share` and `border_share` are those of the functions of these names, the latter of the
    network that saw more than contrast. `hints` are by class, or FOREGROUND.
    """

    offsets: tuple[float, ...]
    saliency: tuple[float, ...]
    weights: tuple[float, ...] = ()
    agreement: float | None = None
    object_share: float | None = None
    border_share: float = 0.0
    hints: dict[str, HintOdds] = Field(default_factory=dict)


def tag_offsets(data: TaggedPhotos, rarity: float) -> NDArray[np.float32]:
    """What to subtract from scores: (C,) log odds of each tag for any photo, plus `rarity`."""
    shares = np.array(list(data.photos_per_class().values())) / len(data.photos)
    shares = shares.clip(LEAST, 1 - LEAST)
    return (np.log(shares / (1 - shares)) + rarity).astype(np.float32)


@dataclass(frozen=True)
class RegionScores:
    """The superpixels of one photo: `scores` (R, K) log odds of its tags, `saliency` (R,) 0..1, `area` (R,) pixels.

    `border` (R,) are those of its pixels that are near the border of the photo.
    """

    scores: NDArray[np.float32]
    saliency: NDArray[np.float32]
    area: NDArray[np.int64]
    border: NDArray[np.int64]

    @classmethod
    def of(cls, scores: NDArray[np.float32], saliency: NDArray[np.float32], regions: NDArray[np.int32]) -> Self:
        """Those of `regions`, (H, W), the superpixel of each pixel."""
        inner = np.zeros(regions.shape, dtype=bool)
        width = max(1, min(regions.shape) // BORDER)
        inner[width:-width, width:-width] = True
        count = len(scores)
        area, border = (np.bincount(each, minlength=count) for each in (regions.reshape(-1), regions[~inner]))
        return cls(scores, saliency, area, border)


def saliency_odds(photos: Sequence[RegionScores]) -> Array:
    """(LEVELS,) log p(saliency | object) / p(saliency | background), the least level of saliency first.

    Each photo counts alike. Zeros where the photos tell no object from background, as without any tag.
    """
    levels = [level(photo.saliency) for photo in photos]
    areas = [photo.area / photo.area.sum() for photo in photos]
    odds = np.zeros(LEVELS)
    for _ in range(STEPS):
        inside, outside = np.zeros(LEVELS), np.zeros(LEVELS)
        for photo, of_region, area in zip(photos, levels, areas, strict=True):
            best = photo.scores.max(axis=1, initial=-np.inf)
            objects = _probability(best + odds[of_region])  # (R,)
            inside += np.bincount(of_region, area * objects, LEVELS)
            outside += np.bincount(of_region, area * (1 - objects), LEVELS)
        odds = np.log(_density(inside)) - np.log(_density(outside))
    return odds


def offset_changes(
    data: TaggedPhotos, photos: Sequence[RegionScores], odds: Array, rarity: float, share: float
) -> NDArray[np.float64]:
    """What to add to `tag_offsets` of the same `rarity`, (C,), so that classes cover as much of their photos as is
    likely.

    `photos` are those of `data`, their scores beyond these offsets; `odds` (LEVELS,) are those of `saliency_odds`. In
    scenes, classes get the `share` of `object_share`. Elsewhere, a class that most of its photos have as their only tag
    covers at most the share THING of these, on average: where it covers more, their background speaks for it as well,
    as where each kind of photo was taken in another place.
    """
    if share > SCENE:
        return np.full(len(data.classes), -np.log(share / (1 - share)) - rarity)
    changes = np.zeros(len(data.classes))
    for place, (name, count) in enumerate(data.photos_per_class().items()):
        alone = [each for photo, each in zip(data.photos, photos, strict=True) if photo.tags == (name,)]
        if 2 * len(alone) > count:
            evidence = np.concatenate([each.scores[:, 0] + odds[level(each.saliency)] for each in alone])
            areas = np.concatenate([each.area / each.area.sum() for each in alone])
            least = np.quantile(evidence, 1 - THING, weights=areas, method="inverted_cdf")
            changes[place] = max(0, least)
    return changes


def object_share(photos: Sequence[RegionScores], odds: Array, rarity: float) -> float:
    """The share of tagged photos that shows their tags, 0..1, on average; 0 if fewer than half have several.

    `photos`, `odds` and `rarity` are those of `offset_changes`. Expectation maximization of the prior, as in Saerens,
    Latinne and Decaestecker, "Adjusting the outputs of a classifier to new a priori probabilities" (Neural Computation
    2002).
    """
    tagged = [photo for photo in photos if photo.scores.shape[1]]
    if not tagged or _mostly_alone(photos):
        return 0.0
    ratios = [photo.scores.max(axis=1) + odds[level(photo.saliency)] + rarity for photo in tagged]
    areas = [photo.area / photo.area.sum() for photo in tagged]
    prior = -rarity
    for _ in range(SHARE_STEPS):
        shares = [float(area @ _probability(ratio + prior)) for ratio, area in zip(ratios, areas, strict=True)]
        share = float(np.clip(np.mean(shares), LEAST, 1 - LEAST))
        prior = np.log(share / (1 - share))
    return share


def evidence_weights(data: TaggedPhotos) -> NDArray[np.float64]:
    """How much the evidence of a photo counts beside the masks of the round before, (C,), 0..1.

    These come from a network that learned from all photos: the more there are of a class, the less it repeats what the
    evidence got wrong in one of them.
    """
    return 1 / (1 + np.array(list(data.photos_per_class().values())) / HALF)


def border_share(photos: Sequence[RegionScores], odds: Array) -> float:
    """The share of the borders of photos of one tag that the evidence gives to it, 0..1, on average.

    0 if most tagged photos have several. `photos` and `odds` are those of `offset_changes`.
    """
    if not _mostly_alone(photos):
        return 0.0
    alone = [photo for photo in photos if photo.scores.shape[1] == 1]
    objects = (_probability(photo.scores[:, 0] + odds[level(photo.saliency)]) for photo in alone)
    return float(
        np.mean([share @ photo.border / photo.border.sum() for share, photo in zip(objects, alone, strict=True)])
    )


def saliency_agreement(photos: Sequence[RegionScores]) -> float | None:
    """How often the object is more salient than the background, by the scores alone, 0..1: the median over photos.

    0.5 if saliency says nothing about where the tags are. It is the area under the ROC curve, where each superpixel
    counts as object with its probability. None without a photo with tags and several superpixels.
    """
    found = []
    for photo in photos:
        objects = _probability(photo.scores.max(axis=1, initial=-np.inf))  # (R,)
        inside, outside = (
            np.bincount(level(photo.saliency), photo.area * share, LEVELS) for share in (objects, 1 - objects)
        )
        if photo.scores.shape[1] and inside.any() and outside.any():
            below = outside.cumsum() - outside / 2  # of equal levels, half
            found.append(inside @ below / (inside.sum() * outside.sum()))
    return float(np.median(found)) if found else None


def level(saliency: NDArray[np.float32]) -> NDArray[np.int64]:
    """The level, 0..LEVELS - 1, of each saliency, 0..1."""
    return np.minimum((saliency * LEVELS).astype(np.int64), LEVELS - 1)


def _mostly_alone(photos: Sequence[RegionScores]) -> bool:
    """Whether most tagged photos have one tag."""
    tags = np.array([photo.scores.shape[1] for photo in photos])
    return bool(2 * (tags == 1).sum() > (tags > 0).sum())


def _probability(log_odds: NDArray[Any]) -> NDArray[Any]:
    return 1 / (1 + np.exp(-log_odds.clip(-30, 30)))


def _density(weights: Array) -> Array:
    return (1 - SMOOTHING) * weights / max(weights.sum(), 1e-9) + SMOOTHING / LEVELS
