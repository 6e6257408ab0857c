"""The report of a run: one HTML file that shows what was learned, how well, in what time, and what to look at.

    story.py        what run.json and the ledger tell
    measured.py     what going through the photos tells: confusion of pixels and of tags, the worst photos
    validation.py   the bundle on photos that it did not learn from
    classes.py      figures of each class, and what it is taken for
    summary.py      the run in a few figures and sentences
    charts.py       line charts, as SVG
    strips.py       photos through all stages, as pictures in the page
    page.py         joins these; page.html is the page, page.css its style

Whatever comes from files is escaped, and the page neither loads nor runs anything. The same run gives the same page.
"""

from dataclasses import replace
from pathlib import Path

from tagmask import files
from tagmask.errors import DataError
from tagmask.progress import Progress, Silent
from training.datasets.photos import TaggedPhotos
from training.report import strips
from training.report.measured import survey
from training.report.page import render
from training.report.story import read_story
from training.report.validation import Validation
from training.run.layout import Layout


def write_report(
    layout: Layout,
    out: Path,
    data: TaggedPhotos | None = None,
    *,
    validation: Validation | None = None,
    photos: int = strips.PHOTOS,
    workers: int = 1,
    progress: Progress | None = None,
) -> None:
    """Write what there is to tell of a run, finished or not, to the file `out`, atomically.

    `data` are the photos that it learns from; without them their tags, confusions and pictures are left out. `photos`
    are shown at most, and `workers` processes go through all of them. Raises RunError when `layout` is no run's, or its
    files are damaged.
    """
    story = read_story(layout)
    shows = progress or Silent()
    found, pictures = None, []
    if data is not None and story.shown is not None:
        with shows.stage("measuring", len(data.photos)) as advance:
            found = survey(data, layout, story.shown, workers=workers, advance=advance)
    if data is not None:
        scores = (found.iou or found.f1) if found else {}
        chosen = strips.chosen(data.photos, scores, photos)
        with shows.stage("drawing", len(chosen)) as advance:
            for strip in strips.strips(chosen, data, layout, story.asked.settings):
                pictures.append(strip)
                advance(1)
    text = render(layout.root.resolve().name, story, data, found, validation, pictures)
    files.write_text(out, text)


def photos_of(layout: Layout, data: TaggedPhotos) -> TaggedPhotos:
    """Those photos of `data` that the run in `layout` has begun with: all, if it has cut none into superpixels yet.

    Raises DataError when it has cut others.
    """
    there = tuple(photo for photo in data.photos if layout.superpixels(photo.id).is_file())
    if not there and layout.ledger.is_file():
        raise DataError(f"{data.root}: holds no photo of the run {layout.root}; name the photos that it learned from")
    return replace(data, photos=there or data.photos)
