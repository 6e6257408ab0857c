"""Where a run keeps what its stages write.

RUN/
  run.json             what was asked for: data digest, classes, settings
  photos.json          the photos that it learns from: where they lie, and their tags
  ledger.jsonl         a line for each finished stage
  superpixels/ID.png   16-bit, value = superpixel
  saliency/ID.png      8-bit
  round-0/             the tag classifier
    localizer/         its weights.pt
    maps/ID.npy        (K, h, w) float16: where each tag is
    features/ID.npy    (R, F) float16: a row a superpixel
  round-1/             one bottom-up and top-down pass
    seeds/ID.npy       (R,) uint8: label of each superpixel, 255 = void
    regionnet/         its weights.pt
    regions/ID.npy     (R, L) float16: probability of each of the photo's labels
    refined/ID.png     8-bit probability of the object, single-tag photos of the first round
    labels/ID.png      palette mask that PixelNet learns from
    localizer/         PixelNet's weights.pt
    maps/, features/   as in round 0, for the next round
    seen/ID.npy        (labels,) float32: share of pixels a label has when no tags are given
  model.onnx           the best round's PixelNet
  report.html          what `tagmask report` tells of the run
"""

from dataclasses import dataclass
from pathlib import Path

BYTES_PER_PHOTO = 1_100_000
"""Disk space of a run with default settings, by photo; the features of four localizers are nine tenths of it."""


@dataclass(frozen=True)
class Round:
    """The folder of one round; round 0 holds the tag classifier."""

    root: Path

    @property
    def localizer(self) -> Path:
        return self.root / "localizer" / "weights.pt"

    @property
    def regionnet(self) -> Path:
        return self.root / "regionnet" / "weights.pt"

    def maps(self, photo: str) -> Path:
        return self.root / "maps" / f"{photo}.npy"

    def features(self, photo: str) -> Path:
        return self.root / "features" / f"{photo}.npy"

    def seen(self, photo: str) -> Path:
        return self.root / "seen" / f"{photo}.npy"

    def seeds(self, photo: str) -> Path:
        return self.root / "seeds" / f"{photo}.npy"

    def regions(self, photo: str) -> Path:
        return self.root / "regions" / f"{photo}.npy"

    def refined(self, photo: str) -> Path:
        return self.root / "refined" / f"{photo}.png"

    def labels(self, photo: str) -> Path:
        return self.root / "labels" / f"{photo}.png"


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

    def superpixels(self, photo: str) -> Path:
        return self.root / "superpixels" / f"{photo}.png"

    def saliency(self, photo: str) -> Path:
        return self.root / "saliency" / f"{photo}.png"

    def round(self, number: int) -> Round:
        return Round(self.root / f"round-{number}")
