"""The kinds of photos of `benchmarks.suite` in one picture.

    python -m benchmarks.chart OUT PICTURE.svg      # OUT: that of `benchmarks.suite`

Each row that has a ceiling is a pair of bars: mIoU on other photos, with tags given, of the exported network and of one
that was trained on true masks. A line marks the masks of the training photos, and a diamond what the run expected of
them.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import typer
from matplotlib import pyplot

TITLES = {
    "closeups": "close-ups of animals",
    "animals": "animals and people",
    "people": "people beside\nanimals, and alone",
    "plants": "carrots and weeds",
    "aerial": "satellite tiles",
    "land": "satellite tiles,\nno background",
    "tiles": "defects on\nmagnetic tiles",
    "clothes": "twelve garments",
    "drawn": "the demo's drawings",
}


class Figures(NamedTuple):
    """mIoU of a row, percent: on other photos by tags and by true masks, of the training photos, and as expected."""

    tags: float
    masks: float
    learned: float
    expected: float
    title: str


def main(out: Path, picture: Path) -> None:
    """Draw PICTURE, whose ending names its format."""
    figures = {path.parent.name: json.loads(path.read_text()) for path in out.glob("*/figures.json")}
    draw(sorted(read_figures(name, each) for name, each in figures.items() if each["ceiling"]), picture)


def read_figures(name: str, figures: dict[str, Any]) -> Figures:
    """Those of the round that was kept."""
    kept = figures["kept"]
    learned, expected = figures["stages"]["masks"][kept - 1], figures["estimate"][kept - 1]
    return Figures(figures["rounds"][str(kept)][1], figures["ceiling"][1], learned, expected, TITLES.get(name, name))


def draw(rows: list[Figures], picture: Path) -> None:
    """Draw `rows` from the bottom up."""
    matplotlib.use("Agg")
    matplotlib.rcParams.update({"svg.hashsalt": "tagmask", "font.size": 11})  # the same file each time
    tags, masks, learned, expected, titles = zip(*rows, strict=True)
    places = range(len(rows))
    figure, axes = pyplot.subplots(figsize=(8, 0.7 * len(rows) + 1.6), layout="constrained")
    axes.barh(places, masks, 0.62, color="#d9dde3", label="other photos, trained on true masks")
    axes.barh(places, tags, 0.34, color="#2563eb", label="other photos, trained on tags")
    for place, value in enumerate(tags):
        axes.text(1, place, f"{value:.0f}", color="white", fontweight="bold", va="center")
    label = "training photos, trained on tags"
    axes.plot(learned, places, "|", color="#111827", markersize=22, markeredgewidth=2, label=label)
    label = "estimate of these, without masks"
    axes.plot(expected, places, "D", color="#f59e0b", markersize=9, markeredgecolor="white", label=label)
    axes.set(xlim=(0, 100), xlabel="mIoU, tags given", yticks=places, yticklabels=titles)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    figure.savefig(picture, metadata={"Date": None} if picture.suffix == ".svg" else None)


if __name__ == "__main__":
    typer.run(main)
