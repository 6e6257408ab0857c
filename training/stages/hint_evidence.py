"""What hints say of the superpixels of a photo: the one place from which stages take it.

It has the form of saliency, a value for each superpixel that is worth as much as agrees with the scores of the region
tagger, see `training.fitting.evidence_odds`.
"""

from dataclasses import dataclass, replace
from pathlib import Path

from tagmask.classes import find_class
from training.datasets.photos import FOREGROUND, Photo
from training.fitting.evidence_odds import RegionScores
from training.stages import superpixels
from training.stages.pooling import average
from training.stages.vouched import left_open


@dataclass(frozen=True)
class HintEvidence:
    """What a hint says of one of its photo's tags, or of all of them by FOREGROUND: `name`.

    `places` are the positions of these tags among the photo's. `regions` has their scores, and as saliency the share of
    each superpixel that the hint shows.
    """

    name: str
    places: list[int]
    regions: RegionScores


def hint_evidence(photo: Photo, run: Path, classes: tuple[str, ...], scored: RegionScores) -> list[HintEvidence]:
    """What the hint of a photo says of each of its tags that it shows, or, if it shows none, of all by FOREGROUND.

    `scored` are the photo's superpixels. Of a pixel that the hint leaves open, each label that it allows has a part.
    Nothing without a hint.
    """
    if photo.hint is None:
        return []
    tags = [classes[label - 1] for label in photo.labels(classes)[1:]]
    places = {tag: [place] for place, tag in enumerate(tags) if find_class(tag, photo.hint.shown)}
    if not places and find_class(FOREGROUND, photo.hint.shown):
        places = {FOREGROUND: [*range(len(tags))]}
    if not places:
        return []
    regions = superpixels.read(photo, run)
    possible = left_open(photo.hint, [*places], regions.shape)
    shares = average(possible[1:] / possible.sum(axis=0), regions)  # (R, K)
    return [
        HintEvidence(name, place, replace(scored, scores=scored.scores[:, place], saliency=share))
        for (name, place), share in zip(places.items(), shares.T, strict=True)
    ]
