"""`tagmask look`: the output of a run's stages as pictures."""

from typing import Annotated

import typer

from tagmask.cli.segment import check_replaces_no_photo
from tagmask.cli.terminal import Bars, tell
from tagmask.disk import writable
from tagmask.errors import DataError
from tagmask.wording import count
from training.cli.data import DataFormat, Nothing, Split
from training.cli.label import Out
from training.cli.report import Run, RunData, read_run_photos


def look(
    run: Run,
    out: Out,
    data: RunData = None,
    split: Split = None,
    none: Nothing = None,
    photos: Annotated[int, typer.Option(min=1, help="Number of photos, spread over all.")] = 12,
    format: DataFormat = None,
) -> None:
    """Draw the output of every stage in every round for some photos, one picture per photo."""
    from PIL import Image

    from tagmask import files
    from training.report.panels import draw_strip
    from training.run.description import read_description
    from training.run.layout import Layout

    layout = Layout(run)
    tagged = read_run_photos(layout, data, split, none, format)
    if tagged is None:
        raise DataError(f"{run} has not recorded its photos; name them: tagmask look {run} DATA --out {out}")
    settings = read_description(layout).settings
    chosen = tagged.photos[:: max(1, len(tagged.photos) // photos)][:photos]
    pictures = {out / f"{photo.id}.png": photo for photo in chosen}
    check_replaces_no_photo(pictures, (photo.path for photo in tagged.photos))
    with writable(out), Bars().stage("drawing", len(chosen)) as advance:
        for path, photo in pictures.items():
            picture = draw_strip(photo, layout, settings, tagged.classes)
            files.write_png(path, Image.fromarray(picture))
            advance(1)
    tell(f"{count(len(chosen), 'picture')} in {out}")
