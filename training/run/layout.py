"""What is in the folder of a run.

RUN/
  run.json               data digest, classes, settings
  photos.json            the photos that it learns from: their files and tags
  ledger.jsonl           a line for each finished stage
  superpixels/           a folder for each stage that comes before the rounds …
  saliency/
  classifier/
  class_maps/
  round-1/               … and in each round
    seeds/
    regionnet/
    regions/
    refinement/          first round only
    labels/
    pixelnet/
    masks/
  model.onnx             PixelNet of the round that is kept
  report.html            written by `tagmask report`

A stage's own files are described in its module, `training.stages.NAME`.
"""

from dataclasses import dataclass
from pathlib import Path

BYTES_PER_PHOTO = 1_100_000
"""Disk space per photo of a run with default settings; superpixel features are nine tenths of it."""


@dataclass(frozen=True)
class Layout:
    """The folder of one run."""

    root: Path

    @property
    def description(self) -> Path:
        return self.root / "run.json"

    @property
    def ledger(self) -> Path:
        return self.root / "ledger.jsonl"

    @property
    def photos(self) -> Path:
        return self.root / "photos.json"

    @property
    def report(self) -> Path:
        return self.root / "report.html"

    @property
    def model(self) -> Path:
        return self.root / "model.onnx"
