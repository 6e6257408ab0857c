"""The IoU to expect of masks, estimated from photos and tags alone.

Good masks paint what indicates the tag: superpixels that speak for it, by `training.stages.evidence`, and no others.
How far masks agree with them is close to their IoU. The lines are least-squares fits to true masks of several kinds of
photos; `benchmarks/estimate.py` makes them, and checks them on kinds that the fit left out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tagmask.masks import BACKGROUND
from tagmask.wording import some

WHOLE = 0.9
"""A class covers a whole photo from this share of its pixels."""

ERROR = 7
"""Root mean square error of the estimated mIoU on kinds of photos that the fit left out, in points."""

UNSUPPORTED = 0.25
"""Below this agreement with the evidence, masks of a class mark something else than its tag."""

NAMED = 5
"""Most classes that a remark names."""

Numbers = NDArray[np.floating] | NDArray[np.integer]


@dataclass(frozen=True)
class Signs:
    """What speaks for or against the masks of a class, each 0..1.

    `supported`: soft IoU of masks and evidence. `whole`: of the photos with the tag, those that are covered from edge
    to edge.
    """

    supported: float
    whole: float


@dataclass(frozen=True)
class Line:
    """IoU in percent, as a line over `supported`."""

    constant: float
    slope: float

    def iou(self, signs: Signs) -> float:
        """Percent, 0..100."""
        return float(np.clip(self.constant + self.slope * signs.supported, 0, 100))


OF_CLASSES = Line(constant=-4.0, slope=107.0)
OF_BACKGROUND = Line(constant=-0.1, slope=101.5)


class SignCounter:
    """Reads the signs of background and C classes photo by photo."""

    def __init__(self, classes: int) -> None:
        self._both, self._either = np.zeros(classes + 1), np.zeros(classes + 1)
        self._photos, self._whole = np.zeros(classes + 1), np.zeros(classes + 1)

    def add(self, labels: Sequence[int], area: Numbers, odds: Numbers, shares: Numbers) -> None:
        """Add a photo with R superpixels and its L `labels`, background first.

        `area` (R,) in any unit; `odds` (R, L - 1) the log odds of its tags; `shares` (R, C + 1) what its mask gives of
        each superpixel to each label, 0..1, the rest being void.
        """
        from scipy.special import softmax  # the command line need not wait for SciPy

        weight = area / area.sum()
        of_labels = np.pad(odds.astype(np.float64), ((0, 0), (1, 0)))  # (R, L), those of background are 0
        expected = softmax(of_labels, axis=1)  # (R, L)
        for label, probability in zip(labels, expected.T, strict=True):
            painted = shares[:, label].astype(np.float64)
            both = float(weight @ (painted * probability))
            self._both[label] += both
            self._either[label] += float(weight @ (painted + probability)) - both
            self._photos[label] += 1
            self._whole[label] += weight @ painted > WHOLE

    def signs(self) -> list[Signs]:
        """The signs of background and each class, C + 1."""
        supported, whole = self._both / self._either.clip(1e-12), self._whole / self._photos.clip(1)
        return [Signs(*each) for each in zip(supported.tolist(), whole.tolist(), strict=True)]


@dataclass(frozen=True)
class Estimate:
    """What to expect of masks that are limited to the tags of their photos, percent.

    `miou`, with the root mean square error `error`; `iou` by class, background first; `remarks` on what is wrong.
    """

    miou: float
    error: float
    iou: Mapping[str, float]
    remarks: Sequence[str]


def estimate(signs: Sequence[Signs], classes: Sequence[str]) -> Estimate:
    """The estimate for `signs` of background and `classes`."""
    iou = [OF_BACKGROUND.iou(signs[0]), *(OF_CLASSES.iou(each) for each in signs[1:])]
    named = dict(zip(classes, signs[1:], strict=True))
    whole = [name for name, each in named.items() if each.whole > 0.5]
    other = [name for name, each in named.items() if each.whole <= 0.5 and each.supported < UNSUPPORTED]
    remarks = [f"masks cover whole photos of {some(whole, NAMED)}"] if whole else []
    remarks += [f"masks mark little of what indicates {some(other, NAMED)}"] if other else []
    return Estimate(float(np.mean(iou)), ERROR, dict(zip((BACKGROUND, *classes), iou, strict=True)), remarks)


def sentence(values: Mapping[str, Any]) -> str:
    """The fields of an Estimate in words."""
    remarks = f": {'; '.join(values['remarks'])}" if values["remarks"] else ""
    return f"estimated mIoU {values['miou']:.0f} ± {values['error']:.0f} with tags given{remarks}"
