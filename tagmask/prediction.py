"""From the pixels that the network sees to masks at the photo's own size."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tagmask import photos, upsampling
from tagmask.colours import follow_colours
from tagmask.crf import CrfConfig, dense_crf
from tagmask.expected_iou import expected_ious
from tagmask.metadata import Metadata
from tagmask.segmentation import Pixels, Planes
from tagmask.smoothing import smooth
from tagmask.tag_weights import raise_given

TagProbabilities = NDArray[np.float32]
"""The probability that the photo shows each class except background: (labels - 1,), 0..1."""


@dataclass(frozen=True)
class Prediction:
    """The network's output for one photo, at the size of its input.

    `pixels` (h, w, 3) uint8 RGB, `probabilities` (labels, h, w) float32 summing to 1 over labels, the photo's own
    `size` (H, W) in pixels, and of a network with a tag head the probabilities of `tags`, (labels - 1,) float32, with
    the `weights` of the labels that follow from them, (labels,) float32; see `tagmask.tag_weights`. `least_areas`
    (labels - 1,), 0..1, are the parts of a photo that given tags cover at least, if that is known.
    """

    pixels: Pixels
    probabilities: Planes
    size: tuple[int, int]
    tags: TagProbabilities | None = None
    weights: NDArray[np.float32] | None = None
    least_areas: NDArray[np.float64] | None = None

    def select(self, labels: Sequence[int], *, tagged: bool) -> Planes:
        """Probabilities of `labels` alone, (len(labels), h, w) float32 summing to 1.

        Unless they are those of given tags, as `tagged` says, the tags that the network sees count too. Given tags are
        taken to be somewhere in the photo.
        """
        planes = self.probabilities
        if self.weights is not None and not tagged:
            planes = planes * self.weights[:, None, None]
        selected = upsampling.select_labels(planes, labels)
        if self.least_areas is not None and tagged:
            return raise_given(selected, labels, self.least_areas)
        return selected

    def refine(self, probabilities: Planes, crf: CrfConfig | None = None) -> tuple[Planes, Planes]:
        """`probabilities` of labels, (labels, h, w) float32, as the photo's colours have them, and these smoothed, or
        with `crf` refined by DenseCRF.
        """
        coloured = follow_colours(self.pixels, probabilities)
        return coloured, dense_crf(self.pixels, coloured, crf) if crf else smooth(self.pixels, coloured)

    def mask(
        self,
        labels: Sequence[int],
        size: tuple[int, int] | None = None,
        crf: CrfConfig | None = None,
        *,
        tagged: bool = False,
    ) -> Pixels:
        """The strongest of `labels` at each pixel: (H, W) uint8 of `size`, by default the photo's own.

        `tagged` is that of `select`. The probabilities are those of `refine`, at the size of the network's input, which
        its distances are meant for.
        """
        _, refined = self.refine(self.select(labels, tagged=tagged), crf)
        return upsampling.enlarge_mask(refined, labels, size or self.size)


@dataclass(frozen=True)
class WholeMask:
    """As `TiledMask`, of a photo of `size` (H, W) that the network sees as a whole; enlarged when first needed.

    `probabilities` (labels, h, w) float32 make the mask, and those before edges refined them, `coloured`, the expected
    IoU.
    """

    probabilities: Planes
    coloured: Planes
    labels: Sequence[int]
    size: tuple[int, int]

    @cached_property
    def mask(self) -> Pixels:
        """(H, W) uint8, value = label."""
        return upsampling.enlarge_mask(self.probabilities, self.labels, self.size)

    @property
    def confidence(self) -> Pixels:
        """The probability of each pixel's own label: (H, W) uint8, 255 = certain."""
        return upsampling.enlarge_confidence(self.probabilities, self.labels, self.mask)

    @property
    def ious(self) -> NDArray[np.float64]:
        """The expected IoU of each label: (labels,), 0..1."""
        # DenseCRF makes pixels too certain
        return expected_ious(self.coloured, upsampling.find_strongest(self.probabilities))


def to_working_size(pixels: Pixels, metadata: Metadata) -> Pixels:
    """`pixels` with the working size as longer side, as in training, and sides below the least stretched to it."""
    return photos.scale_to(pixels, metadata.working_size, metadata.smallest_size)
