"""Classes that a model hardly ever paints: on how many photos with its tag a mask limited to the tags shows a class.

A class can lose all its pixels to one that is often beside it, or to background, while figures over all classes hardly
change.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

MARK = 0.001
"""A class counts as painted from this share of a photo's pixels: three cells of PixelNet's masks at default settings.

Thin and small things are rarely larger: sunglasses cover 0.1% to 0.5% of a photo, and nine of ten cracks less than 1%.
"""

RARE = 0.1
"""A class is hardly ever painted if it is on a smaller share of the photos with its tag."""

LOSS = 0.5
"""A class has vanished if it lost more than this part of the share of its photos on which it was painted …"""

FAIR = 0.2
"""… and if that share was at least this; less may be chance."""


class Painted:
    """Counts for each of `classes` the photos with its tag, and those of them on which it is painted."""

    def __init__(self, classes: Sequence[str]) -> None:
        self._classes = tuple(classes)
        self._tagged = Counter[str]()
        self._painted = Counter[str]()

    def add(self, mask: np.ndarray, tags: Sequence[str]) -> None:
        """Add a photo: `mask`, (h, w) uint8 labels of `classes` from 1 on, and its `tags`, which are among them."""
        for tag in tags:
            self._tagged[tag] += 1
            self._painted[tag] += bool((mask == self._classes.index(tag) + 1).mean() >= MARK)

    def shares(self) -> dict[str, float]:
        """The share of its photos, 0..1, on which each class is painted; classes without a photo are left out."""
        return {name: self._painted[name] / self._tagged[name] for name in self._classes if self._tagged[name]}


def vanished(before: Mapping[str, float], after: Mapping[str, float], loss: float = LOSS) -> dict[str, str]:
    """The classes that lost more than the part `loss` (0..1) of a FAIR share, each with both shares in words."""
    return {
        name: f"painted on {after[name]:.0%} of its photos, was {share:.0%}"
        for name, share in before.items()
        if share >= FAIR and name in after and after[name] < (1 - loss) * share
    }


def rarely_painted(painted: Mapping[str, float]) -> list[str]:
    """A warning, with the remedy, for each class that is hardly ever painted."""
    return [
        f"{name}: painted on {share:.0%} of the photos with its tag; add photos of it or photos that show nothing, or "
        "raise long_side (see docs/method.md#classes-that-vanish)"
        for name, share in painted.items()
        if share < RARE
    ]
