"""The page itself: everything that is known of a run, put into page.html."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate, combinations
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from tagmask.masks import BACKGROUND, PALETTE, VOID
from tagmask.wording import count, printable
from training.datasets.photos import TaggedPhotos
from training.report.charts import Curve, chart
from training.report.classes import NOTHING, UNSURE, Matrix, class_rows, matrix
from training.report.measured import Measured
from training.report.story import Story
from training.report.strips import Strip
from training.report.summary import cards, masks_name, sentences
from training.report.validation import Validation
from training.run.duration import duration
from training.run.ledger import remark

FAULTS_SHOWN = 20
"""Photos left out that are named one by one."""

PAIRS_SHOWN = 8
"""Pairs of tags that are named."""

NETWORKS = {"classifier": "the tag classifier", "regionnet": "RegionNet", "pixelnet": "PixelNet"}


@dataclass(frozen=True)
class Figure:
    """A chart, what it shows, and how to read it; `legend` names its curves in order of their colours."""

    title: str
    caption: str
    chart: Markup
    legend: tuple[str, ...] = ()


@dataclass(frozen=True)
class Heat:
    """A matrix, what it shows, and how to read it; `rows` and `columns` say what those are, `unit` what is counted."""

    title: str
    caption: str
    rows: str
    columns: str
    unit: str
    matrix: Matrix


def render(
    name: str,
    story: Story,
    data: TaggedPhotos | None,
    found: Measured | None,
    validation: Validation | None,
    strips: Sequence[Strip],
) -> str:
    """The HTML of the report of the run `name`."""
    rows = class_rows(story, data, found, validation)
    known: dict[str, Any] = {
        "name": name,
        "story": story,
        "data": data,
        "found": found,
        "validation": validation,
        "cards": cards(story, found, validation),
        "sentences": sentences(story, rows),
        "judged": masks_name(story),
        "rows": rows,
        "tags_a_photo": sorted(Counter(len(photo.tags) for photo in data.photos).items()) if data else (),
        "pairs": _pairs(data) if data else (),
        "figures": [*_quality_figures(story), *_loss_figures(story)],
        "heats": _heats(story, found, validation),
        "strips": strips,
        "names": (BACKGROUND, *story.asked.classes),
    }
    return _environment().get_template("page.html").render(known)


@cache
def _environment() -> Environment:
    """Escapes what is put in, and spells out characters that no text should hold."""
    environment = Environment(
        loader=PackageLoader("training.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: printable(value) if type(value) is str else value,
    )
    environment.filters |= {"count": count, "duration": duration, "remark": remark}
    environment.globals |= {"palette": PALETTE, "void": VOID, "faults_shown": FAULTS_SHOWN}
    return environment


def _pairs(data: TaggedPhotos) -> list[tuple[str, int]]:
    """The tags that stand together most often, and in how many photos."""
    together = Counter(pair for photo in data.photos for pair in combinations(photo.tags, 2))
    often = sorted(together.items(), key=lambda item: (-item[1], item[0]))
    return [(" + ".join(pair), photos) for pair, photos in often[:PAIRS_SHOWN]]


def _quality_figures(story: Story) -> list[Figure]:
    """How quality went from round to round, as far as it was measured."""
    figures = []
    rounds = {number: f"round {number}" if number else "start" for number in range(story.rounds + 1)}
    measured = {
        "class maps, then PixelNet's masks": story.miou("masks", "maps"),
        "RegionNet's regions": story.miou("regions"),
        "labels, after DenseCRF": story.miou("labels"),
    }
    if any(measured.values()):
        told = "Against the true masks of the training photos, in percent. PixelNet learns from the labels."
        curves = [Curve(name, tuple(each.items()), colour) for colour, (name, each) in enumerate(measured.items())]
        figures.append(Figure("mIoU by round", told, chart("mIoU by round", curves, rounds), tuple(measured)))
    judged = list(story.lines("decision"))
    if judged:
        told = (
            "What keeps or drops a round. Known without any mask, so it guards against collapse, and measures little."
        )
        names = ("consistency", "coverage", "agreement")
        curves = [
            Curve(name, tuple((line["round"], line[name]) for line in judged), colour)
            for colour, name in enumerate(names)
        ]
        ticks = {number: label for number, label in rounds.items() if number}
        figures.append(Figure("Quality without masks", told, chart("Quality by round", curves, ticks, 0, 1), names))
    return figures


def _loss_figures(story: Story) -> list[Figure]:
    """The loss of each network by epoch, one round after the other."""
    return [
        Figure(f"Loss of {name}", "By epoch.", _losses(name, losses))
        for stage, name in NETWORKS.items()
        if (losses := story.losses(stage))
    ]


def _losses(name: str, losses: Mapping[int, Sequence[float]]) -> Markup:
    before = accumulate((len(each) for each in losses.values()), initial=0)
    curves, ticks = [], {}
    for (number, each), start in zip(losses.items(), before, strict=False):
        label = f"round {number}" if number else "epoch"
        curves.append(Curve(label, tuple(enumerate(each, start=start + 1))))
        ticks[start + 1] = label
    if len(losses) == 1:
        ticks = {epoch: str(epoch) for epoch, _ in curves[0].points}
    return chart(f"Loss of {name}", curves, ticks, 0)


def _heats(story: Story, found: Measured | None, validation: Validation | None) -> list[Heat]:
    """Who is taken for whom: pixels of the validation, pixels of the training photos, tags."""
    heats = []
    if validation is not None:
        told = "The network as exported, on photos that it did not learn from, no tags given."
        counts = validation.without_tags.counts
        shares = matrix(counts, (BACKGROUND, *validation.classes), UNSURE)
        heats.append(Heat(f"Pixels of {validation.name}", told, "true class", "painted as", "pixels", shares))
    if found is not None and found.masks:
        told = f"On the training photos: {masks_name(story)}."
        shares = matrix(found.pixels.counts, (BACKGROUND, *story.asked.classes), UNSURE)
        heats.append(Heat("Pixels of training photos", told, "true class", "painted as", "pixels", shares))
    if found is not None and found.tagged.any():
        told = (
            "What PixelNet sees in the photos of each tag when no tags are given; no mask is needed to know it. On the "
            "diagonal the tag itself, elsewhere what is no tag of the photo: confusions, or tags that somebody forgot."
        )
        shares = matrix(found.tags, story.asked.classes, NOTHING, found.tagged)
        heats.append(Heat("Tags against seen classes", told, "photos tagged", "seen", "photos", shares))
    return heats
