"""`tagmask look`: the output of a run's stages as pictures."""

from pathlib import Path
from typing import Annotated

import typer

from tagmask.cli.segment import check_replaces_no_photo
from tagmask.cli.terminal import Bars, listed, tell
from tagmask.disk import writable
from tagmask.wording import count
from training.cli.data import Data, DataFormat, Nothing, Split
from training.cli.label import Out


def look(
    run: Annotated[Path, typer.Argument(help="Folder of a run, finished or not.", metavar="RUN")],
    data: Data,
    out: Out,
    split: Split = None,
    none: Nothing = None,
    photos: Annotated[int, typer.Option(min=1, help="Number of photos, spread over the data set.")] = 12,
    format: DataFormat = None,
) -> None:
    """Draw the output of every stage in every round for some photos, one picture per photo."""
    from PIL import Image

    from tagmask import files
    from training.datasets import load
    from training.report.panels import draw_strip
    from training.run.description import read_description
    from training.run.layout import Layout

    layout = Layout(run)
    description = read_description(layout)
    tagged = load(data, split=split, classes=description.classes, none=listed(none), format=format)
    chosen = tagged.photos[:: max(1, len(tagged.photos) // photos)][:photos]
    pictures = {out / f"{photo.id}.png": photo for photo in chosen}
    check_replaces_no_photo(pictures, (photo.path for photo in tagged.photos))
    with writable(out), Bars().stage("drawing", len(chosen)) as advance:
        for path, photo in pictures.items():
            picture = draw_strip(photo, layout, description.settings, tagged.classes)
            files.write_png(path, Image.fromarray(picture))
            advance(1)
    tell(f"{count(len(chosen), 'picture')} in {out}")
