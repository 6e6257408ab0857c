"""The report of a run: one HTML file with the data, the quality, the time, and the photos to look at.

    story           the run by its run.json and ledger
    measured        figures over its photos: confusion of pixels and of tags, the worst photos
    validation      the bundle on photos that it did not learn from
    classes         figures of each class, and its confusions
    summary         the run in a few figures and sentences
    charts          line charts, as SVG
    panels, strips  photos stage by stage, as pictures
    page            combines them in page.html, styled by page.css
    audit           another page: the photos whose tags may be wrong
    suggestions     another page: the photos to correct first

Text from files is escaped, and the page neither loads nor runs anything. The same run gives the same page.
"""

from dataclasses import replace
from pathlib import Path

from tagmask import files
from tagmask.errors import DataError
from tagmask.progress import Progress, Silent
from training.datasets.photos import TaggedPhotos
from training.report import strips
from training.report.measured import measure_photos
from training.report.page import render
from training.report.story import read_story
from training.report.validation import Validation
from training.run.layout import Layout
from training.stages.superpixels import Superpixels


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
    """Write the report of a run, finished or not, to the file `out`, atomically.

    `data` are the photos that the run learns from; without them the report has no tags, confusions and pictures. All
    are measured, in `workers` processes, and at most `photos` are shown. Raises RunError if `layout` holds no run, or
    its files are damaged.
    """
    story = read_story(layout)
    progress = progress or Silent()
    measured, pictures = None, []
    if data is not None and story.judged is not None:
        with progress.stage("measuring", len(data.photos)) as advance:
            measured = measure_photos(data, layout.root, story.judged, workers=workers, advance=advance)
    if data is not None:
        scores = (measured.iou or measured.f1) if measured else {}
        selected = strips.select(data.photos, scores, photos)
        with progress.stage("drawing", len(selected)) as advance:
            for strip in strips.draw_strips(selected, data, layout, story.description.settings):
                pictures.append(strip)
                advance(1)
    text = render(layout.root.resolve().name, story, data, measured, validation, pictures)
    files.write_text(out, text)


def photos_of(layout: Layout, data: TaggedPhotos) -> TaggedPhotos:
    """The photos of `data` that the run in `layout` has cut into superpixels; all if it has cut none yet.

    Raises DataError if it has cut other photos.
    """
    photos = tuple(photo for photo in data.photos if Superpixels.file_of(photo, layout.root).is_file())
    if not photos and layout.ledger.is_file():
        raise DataError(f"{data.root}: holds no photo of the run {layout.root}; name the photos that it learned from")
    return replace(data, photos=photos or data.photos)
