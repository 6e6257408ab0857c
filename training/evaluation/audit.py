"""Tags that may be wrong: each photo's tags against what a bundle sees in it without tags, and against its copies.

The network is sure of a class by the mean probability of the SUREST pixels, 0..1. A tag is not found when the network
is less sure of it than SEEN; a class is not tagged when it is surer of it. The score of both is the mean of two doubts,
0..1: how little sure it is of the tag (for a class that is not tagged: of the photo's least sure tag), and how sure it
is of the class (for a tag that is not found: of the surest class that is no tag). So a tag in place of another, which
gives both signs, comes before a tag too many or too few. A tag that is found has a score below all of these, so that a
photo with right tags and a confident mask never comes before one with a tag that is painted nowhere.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tagmask.classes import class_name, spell
from tagmask.errors import DataError, Fault
from tagmask.photos import read_photo
from tagmask.progress import Advance, silent
from tagmask.segmentation import Planes
from tagmask.segmenter import Segmenter
from training.datasets.near_duplicates import Fingerprint, fingerprint, near_duplicates
from training.datasets.photos import Photo, TaggedPhotos

SUREST = 0.002
"""Share of a photo's pixels by which a class is judged: a patch of 12 x 12 in 320 x 240."""

SEEN = 0.5
"""A class that is the strongest nowhere has at most this probability at each pixel."""

Kind = Literal["found", "not found", "not tagged", "duplicate"]


@dataclass(frozen=True)
class Sight:
    """What the network sees in a photo without tags, and what the photo looks like.

    `sure` (labels,) float64, 0..1, is how sure it is of each label, `shares` (labels,) the share of pixels of each
    label in its mask.
    """

    photo: Photo
    sure: NDArray[np.float64]
    shares: NDArray[np.float64]
    fingerprint: Fingerprint


@dataclass(frozen=True)
class Finding:
    """A tag of a photo, or a class that may be missing from its tags, and how doubtful that is.

    `kind` is "found" for a tag of the photo that the network sees, and so is not doubtful; "not found" for one that it
    does not see; "not tagged" for a class that it sees and that is no tag; and "duplicate" for a `tag` that only one of
    two photos has that look the same, of which `photo` is the one that the network contradicts, and `twin` the id of
    the other. `score` is 0..1, below 0.25 for what is found, 1 for the most certain errors; `share`, 0..1, is that of
    the pixels painted as `tag` without tags.
    """

    photo: Photo
    tag: str
    kind: Kind
    score: float
    share: float = 0.0
    twin: str | None = None

    def __str__(self) -> str:
        if self.kind == "found":
            return f"found, on {self.share:.1%} of the photo"
        if self.kind == "not found":
            unsure = f"found with little confidence, on {self.share:.1%} of the photo"
            return unsure if self.share >= 0.001 else "not found"
        if self.kind == "not tagged":
            return f"not tagged, but seen on {self.share:.1%} of the photo"
        return f"{'not tagged' if self.tag not in self.photo.tags else 'tagged'}, unlike its copy {self.twin}"

    def to_json(self) -> dict[str, Any]:
        """Its fields as JSON values; `photo` is the id."""
        return {
            "photo": self.photo.id,
            "path": str(self.photo.path),
            "tags": list(self.photo.tags),
            "tag": self.tag,
            "finding": self.kind,
            "score": round(self.score, 4),
            "share": round(self.share, 4),
            "twin": self.twin,
        }


@dataclass(frozen=True)
class Audit:
    """Findings, the most doubtful first: all tags that the model knows, and what is missing from the photos' tags.

    `photos` is the number of photos examined, `faults` are photos and tags left out.
    """

    findings: tuple[Finding, ...]
    photos: int
    faults: tuple[Fault, ...]

    @cached_property
    def suspicions(self) -> tuple[Finding, ...]:
        """The findings by which a tag may be wrong or missing."""
        return tuple(each for each in self.findings if each.kind != "found")

    @cached_property
    def suspects(self) -> dict[Photo, list[Finding]]:
        """The suspicions about each photo that has any, in the order of their most doubtful ones."""
        grouped: dict[Photo, list[Finding]] = {}
        for each in self.suspicions:
            grouped.setdefault(each.photo, []).append(each)
        return grouped


def suggested_tags(photo: Photo, suspicions: Iterable[Finding]) -> tuple[str, ...]:
    """The photo's tags if all `suspicions` about it are right, sorted."""
    return tuple(sorted({*photo.tags} ^ {each.tag for each in suspicions}))


def audit(
    segmenter: Segmenter, data: TaggedPhotos, *, classes: Sequence[str] | None = None, advance: Advance = silent
) -> Audit:
    """Examine every photo of `data`, by default for all classes of the model.

    Photos that cannot be read and tags that the model does not know are left out, with one fault each; such tags are
    still compared between copies, unless `classes` leaves them out. `advance(1)` follows each photo. Raises DataError
    for a class in `classes` that the model does not know, and when it knows no tag of `data`.
    """
    data = data.respelled(segmenter.classes)
    audited = _audited(segmenter, data, classes)
    unknown = [] if classes else [name for name in data.classes if name not in audited]
    faults = [*data.faults]
    faults += [Fault(name, "the model does not know this tag; not examined, train with it") for name in unknown]
    sights = []
    for photo in data.photos:
        try:
            sights.append(look_at(photo, segmenter))
        except DataError as fault:
            faults.append(Fault(photo.id, str(fault).removeprefix(f"{photo.path}: ")))
        advance(1)
    return Audit(tuple(rank(sights, segmenter.classes, [*audited, *unknown])), len(sights), tuple(faults))


def look_at(photo: Photo, segmenter: Segmenter) -> Sight:
    """Run the network on a photo, without tags. Raises DataError for a photo that cannot be read."""
    pixels = read_photo(photo.path, segmenter.metadata.working_size)
    probabilities = segmenter.predict(pixels).select(segmenter.labels_of(()), tagged=False)
    painted = np.bincount(probabilities.argmax(axis=0).ravel(), minlength=len(probabilities))
    return Sight(photo, sureness(probabilities), painted / painted.sum(), fingerprint(pixels))


def rank(sights: Sequence[Sight], labels: Sequence[str], classes: Iterable[str]) -> list[Finding]:
    """The findings in `sights`, the most doubtful first; `labels` names their labels, `classes` what is audited."""
    audited = set(classes)
    found = [each for sight in sights for each in _compare_tags(sight, labels, audited)]
    found += _compare_copies(sights, labels, audited)
    return sorted(found, key=lambda each: (-each.score, each.photo.id, each.kind, each.tag))


def _audited(segmenter: Segmenter, data: TaggedPhotos, classes: Sequence[str] | None) -> tuple[str, ...]:
    known = segmenter.classes[1:]
    audited = spell(map(class_name, classes), known) if classes else known
    for name in audited:
        if name not in known:
            remedy = "name those to examine with --classes"
            raise DataError(f"class {name!r} is unknown to the model, known are {', '.join(known)}; {remedy}")
    if not set(data.classes) & set(known):
        raise DataError(
            f"{data.name}: the model knows none of the tags; it knows {', '.join(known)}: use another model"
        )
    return audited


def sureness(probabilities: Planes) -> NDArray[np.float64]:
    """Mean of the SUREST pixels of each of `probabilities` (labels, h, w): (labels,), 0..1."""
    planes = probabilities.reshape(len(probabilities), -1)
    rest = planes.shape[1] - max(1, round(SUREST * planes.shape[1]))
    surest = np.partition(planes, rest, axis=1)[:, rest:]
    return np.asarray(surest.mean(axis=1, dtype=np.float64).clip(0, 1))  # half precision goes a little beyond


def _compare_tags(sight: Sight, labels: Sequence[str], audited: set[str]) -> list[Finding]:
    """A photo's tags with what the network sees in it."""
    judged = [(label, name) for label, name in enumerate(labels) if label and name in audited]
    missing = {label: 1 - float(sight.sure[label]) for label, name in judged if name in sight.photo.tags}
    extra = {label: float(sight.sure[label]) for label, name in judged if name not in sight.photo.tags}
    findings = []
    sides: list[tuple[Kind, dict[int, float], dict[int, float]]]
    sides = [("not found", missing, extra), ("not tagged", extra, missing)]
    for kind, doubts, others in sides:
        for label, doubt in doubts.items():
            name, share = labels[label], float(sight.shares[label])
            if doubt >= SEEN:
                score = (doubt + max(others.values(), default=0.0)) / 2
                findings.append(Finding(sight.photo, name, kind, score, share))
            elif kind == "not found":
                findings.append(Finding(sight.photo, name, "found", doubt / 2, share))
    return findings


def _compare_copies(sights: Sequence[Sight], labels: Sequence[str], audited: set[str]) -> list[Finding]:
    """The tags of photos that look the same."""
    tags = [audited.intersection(sight.photo.tags) for sight in sights]
    prints = [sight.fingerprint for sight in sights]
    findings: dict[tuple[str, str], Finding] = {}
    for first, second, similarity in near_duplicates(prints, list(map(frozenset, tags))):
        for tag in tags[first] ^ tags[second]:
            has, lacks = (sights[at] for at in ((first, second) if tag in tags[first] else (second, first)))
            label = labels.index(tag) if tag in labels else 0
            doubts = (1 - has.sure[label], lacks.sure[label]) if label else (1.0, 0.0)
            if max(doubts) < SEEN:
                continue
            photo, twin = (has, lacks) if doubts[0] >= doubts[1] else (lacks, has)
            share = float(photo.shares[label]) if label else 0.0
            finding = Finding(photo.photo, tag, "duplicate", similarity, share, twin.photo.id)
            findings.setdefault((photo.photo.id, tag), finding)
    return list(findings.values())
