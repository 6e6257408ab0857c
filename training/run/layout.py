"""What is in the folder of a run.

RUN/
  .lock                  held by the training that writes here
  run.json               data digest, classes, settings
  photos.json            the photos that it learns from: their files and tags
  ledger.jsonl           a line for each finished stage
  superpixels/           a folder for each stage that comes before the rounds …
  saliency/
  classifier/
  class_maps/
  round-1/               … and in each round
    regiontagger/
    evidence/
    seeds/
    regionnet/
    regions/
    refinement/
    labels/
    pixelnet/
    masks/
  samples.txt            digests of the photos that it learned from: training/run/learned.py
  corrected.txt          digests of those whose corrections it learned from
  model.onnx             PixelNet of the round that is kept
  report.html            written by `tagmask report`

A stage's own files are described in its module, `training.stages.NAME`.
"""

from pathlib import Path

BYTES_PER_PHOTO = 1_100_000
"""Disk space per photo of a run with default settings; superpixel features are nine tenths of it."""


class Layout:
    """The folder of one run, and its files."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.lock = root / ".lock"
        self.description = root / "run.json"
        self.ledger = root / "ledger.jsonl"
        self.photos = root / "photos.json"
        self.samples = root / "samples.txt"
        self.corrected = root / "corrected.txt"
        self.report = root / "report.html"
        self.model = root / "model.onnx"
