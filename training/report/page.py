"""The page: fills page.html with all figures and pictures of a run."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, combinations
from typing import Any

from markupsafe import Markup

from tagmask.masks import BACKGROUND, PALETTE, VOID
from training.datasets.photos import TaggedPhotos
from training.report.charts import Curve, draw_chart
from training.report.classes import NOTHING, UNSURE, Matrix, class_rows, matrix
from training.report.measured import Measurements
from training.report.story import Story
from training.report.strips import Strip
from training.report.summary import cards, masks_name, sentences
from training.report.templates import environment
from training.report.validation import Validation
from training.stages import BEFORE_ROUNDS, EACH_ROUND
from training.stages.network import NetworkStage

PAIRS_SHOWN = 8
"""Pairs of tags that are listed."""


@dataclass(frozen=True)
class Figure:
    """A chart with title and caption; `legend` names its curves in order of their colours."""

    title: str
    caption: str
    chart: Markup
    legend: tuple[str, ...] = ()


@dataclass(frozen=True)
class Heat:
    """A matrix with title and caption; `rows` and `columns` describe the axes, `unit` names what is counted."""

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
    measured: Measurements | None,
    validation: Validation | None,
    strips: Sequence[Strip],
) -> str:
    """The HTML of the report of the run `name`."""
    rows = class_rows(story, data, measured, validation)
    values: dict[str, Any] = {
        "name": name,
        "story": story,
        "data": data,
        "measured": measured,
        "validation": validation,
        "cards": cards(story, measured, validation),
        "sentences": sentences(story, rows),
        "judged": masks_name(story),
        "rows": rows,
        "tags_per_photo": sorted(Counter(len(photo.tags) for photo in data.photos).items()) if data else (),
        "pairs": _pairs(data) if data else (),
        "figures": [*_quality_figures(story), *_loss_figures(story)],
        "heats": _heats(story, measured, validation),
        "strips": strips,
        "names": (BACKGROUND, *story.description.classes),
        "palette": PALETTE,
        "void": VOID,
    }
    return environment().get_template("page.html").render(values)


def _pairs(data: TaggedPhotos) -> list[tuple[str, int]]:
    """The pairs of tags that occur together most often, with their photos."""
    together = Counter(pair for photo in data.photos for pair in combinations(photo.tags, 2))
    often = sorted(together.items(), key=lambda item: (-item[1], item[0]))
    return [(" + ".join(pair), photos) for pair, photos in often[:PAIRS_SHOWN]]


def _quality_figures(story: Story) -> list[Figure]:
    """Quality by round, as far as it was measured."""
    figures = []
    rounds = {number: f"round {number}" if number else "start" for number in range(story.rounds + 1)}
    measured = {
        "class maps, then PixelNet's masks": story.miou("masks", "class_maps"),
        "RegionNet's regions": story.miou("regions"),
        "labels, after DenseCRF": story.miou("labels"),
    }
    has_masks = any(measured.values())
    measured["estimate for PixelNet's masks"] = {
        line["round"]: line["estimate"]["miou"] for line in story.lines("decision") if "estimate" in line
    }
    if measured := {name: by_round for name, by_round in measured.items() if by_round}:
        against = "against the true masks of the training photos; the estimate needs none."
        caption = f"Percent, {against if has_masks else 'estimated without true masks.'}"
        curves = [Curve(name, tuple(each.items()), colour) for colour, (name, each) in enumerate(measured.items())]
        figures.append(Figure("mIoU by round", caption, draw_chart("mIoU by round", curves, rounds), tuple(measured)))
    decisions = list(story.lines("decision"))
    if decisions:
        caption = "Decides whether a round is kept. Needs no masks; a guard against collapse, not a measure of quality."
        names = ("consistency", "coverage", "agreement")
        curves = [
            Curve(name, tuple((line["round"], line[name]) for line in decisions), colour)
            for colour, name in enumerate(names)
        ]
        ticks = {number: label for number, label in rounds.items() if number}
        drawing = draw_chart("Quality by round", curves, ticks, 0, 1)
        figures.append(Figure("Quality without masks", caption, drawing, names))
    return figures


def _loss_figures(story: Story) -> list[Figure]:
    """The loss of each network by epoch, one round after the other."""
    return [
        Figure(f"Loss of {stage.network}", "By epoch.", _losses(stage.network, losses))
        for stage in (*BEFORE_ROUNDS, *EACH_ROUND)
        if issubclass(stage, NetworkStage) and (losses := story.losses(stage.name))
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
    return draw_chart(f"Loss of {name}", curves, ticks, 0)


def _heats(story: Story, measured: Measurements | None, validation: Validation | None) -> list[Heat]:
    """Confusion matrices: pixels of the validation, pixels of the training photos, tags."""
    heats = []
    if validation is not None:
        caption = "The network as exported, on photos that it did not learn from, without tags."
        counts = validation.without_tags.counts
        shares = matrix(counts, (BACKGROUND, *validation.classes), UNSURE)
        heats.append(Heat(f"Pixels of {validation.name}", caption, "true class", "labelled as", "pixels", shares))
    if measured is not None and measured.masks:
        caption = f"On the training photos: {masks_name(story)}."
        shares = matrix(measured.pixels.counts, (BACKGROUND, *story.description.classes), UNSURE)
        heats.append(Heat("Pixels of training photos", caption, "true class", "labelled as", "pixels", shares))
    if measured is not None and measured.tagged.any():
        caption = (
            "The classes that PixelNet sees in the photos of each tag, without tags as input; needs no masks. On the "
            "diagonal the tag itself, elsewhere classes that are not tags of the photo: confusions, or missing tags."
        )
        shares = matrix(measured.tags, story.description.classes, NOTHING, measured.tagged)
        heats.append(Heat("Tags against classes seen", caption, "photos tagged", "seen", "photos", shares))
    return heats
