"""A run in TensorBoard: what its ledger says of each stage, and some photos after each round.

    loss/STAGE              by epoch, from 1
    STAGE/FIGURE            by round: seconds, mIoU if true masks are known, and what else the stage reports
    estimate/CLASS, painted/CLASS   by round, and estimate/mIoU
    photos/ID               after each round, stage by stage, as in the report
    settings                as JSON

The event files of a run are written anew when it is resumed, so that nothing is there twice.
"""

import io
import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from PIL import Image

from tagmask.disk import writable
from tagmask.errors import ConfigError
from training.config import TrainConfig
from training.datasets.photos import TaggedPhotos
from training.report.measured import UNREADABLE
from training.report.panels import draw_strip
from training.report.strips import select
from training.run.layout import Layout
from training.run.ledger import Line

PHOTOS = 6
"""Photos that are shown."""

EVENTS = "events.out.tfevents.*"
"""Names of event files."""


class TensorBoard:
    """Writes a run's event files to `folder`; a context manager. Needs no torch.

    Raises ConfigError if TensorBoard is not installed, and RunError if the folder cannot be written.
    """

    def __init__(self, folder: Path, layout: Layout, data: TaggedPhotos, config: TrainConfig) -> None:
        writer = event_file_writer()
        self._layout, self._data, self._config = layout, data, config
        self._photos = select(data.photos, {}, PHOTOS)
        with writable(folder):
            remove_events(folder)
            self._file = writer(str(folder))

    def __enter__(self) -> Self:
        from tensorboard.plugins.text.summary_v2 import text_pb

        settings = json.dumps(self._config.model_dump(mode="json"), indent=2)
        self._write(0, text_pb("settings", f"```json\n{settings}\n```"))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._file.close()

    def add(self, line: Line) -> None:
        """Write the figures of a finished stage and, after the last of a round, the photos."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        for tag, step, value in scalars(line):
            self._write(step, Summary(value=[Summary.Value(tag=tag, simple_value=value)]))
        if line["stage"] == "decision":
            self._add_photos(line["round"])
        self._file.flush()

    def _add_photos(self, number: int) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        for photo in self._photos:
            try:
                pixels = draw_strip(photo, self._layout, self._config, self._data.classes)
            except UNREADABLE:
                continue
            png = io.BytesIO()
            Image.fromarray(pixels).save(png, "PNG")
            height, width, colours = pixels.shape
            image = Summary.Image(height=height, width=width, colorspace=colours, encoded_image_string=png.getvalue())
            self._write(number, Summary(value=[Summary.Value(tag=f"photos/{photo.id}", image=image)]))

    def _write(self, step: int, summary: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        self._file.add_event(Event(wall_time=time.time(), step=step, summary=summary))


def event_file_writer() -> type[Any]:
    """TensorBoard's class of this name. Raises ConfigError if TensorBoard is not installed."""
    try:
        from tensorboard.summary.writer.event_file_writer import EventFileWriter
    except ModuleNotFoundError as error:
        raise ConfigError("tensorboard: it is not installed; run pip install 'tagmask[tensorboard]'") from error
    return EventFileWriter


def scalars(line: Line) -> Iterator[tuple[str, int, float]]:
    """Tag, step and value of each figure of a line of the ledger."""
    number, stage = line["round"], line["stage"]
    title = f"round-{number}-{stage}" if number else stage
    for epoch, loss in enumerate(line.get("losses", ()), start=1):
        yield f"loss/{title}", epoch, loss
    estimate: Mapping[str, Any] = line.get("estimate", {})
    if estimate:
        yield "estimate/mIoU", number, estimate["miou"]
    for group, values in (("estimate", estimate.get("iou", {})), ("painted", line.get("painted", {}))):
        for name, value in values.items():
            yield f"{group}/{name}", number, value
    for name, value in line.items():
        if isinstance(value, int | float) and not isinstance(value, bool) and name not in ("round", "photos"):
            yield f"{stage}/{name}", number, value


def remove_events(folder: Path) -> None:
    """Remove the event files of a run."""
    for path in folder.glob(EVENTS):
        path.unlink()
