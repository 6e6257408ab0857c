"""Classes that a model hardly ever paints: on how many photos with its tag a mask limited to the tags shows a class.

A class can lose all its pixels to one that is often beside it, or to background, while figures over all classes hardly
change.
"""

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


FEW = 0.05
"""Part of the photos on which a class is painted that may have less of it than its least area."""


class Painted:
    """How much of the photos with its tag each of `classes` covers."""

    def __init__(self, classes: Sequence[str]) -> None:
        self._areas: dict[str, list[float]] = {name: [] for name in classes}

    def add(self, mask: np.ndarray, tags: Sequence[str]) -> None:
        """Add a photo: `mask`, (h, w) uint8 labels of `classes` from 1 on, and its `tags`, which are among them."""
        for label, (name, areas) in enumerate(self._areas.items(), start=1):
            if name in tags:
                areas.append(float((mask == label).mean()))

    def shares(self) -> dict[str, float]:
        """The share of its photos, 0..1, on which each class is painted; classes without a photo are left out."""
        return {name: float(np.mean(np.array(areas) >= MARK)) for name, areas in self._areas.items() if areas}

    def least_areas(self) -> dict[str, float]:
        """The part of a photo, 0..1, that each class covers at least, but on FEW of the photos on which it is painted;
        0 for a class that is painted nowhere.
        """
        painted = {name: [area for area in areas if area >= MARK] for name, areas in self._areas.items()}
        return {name: float(np.quantile(areas or [0.0], FEW)) for name, areas in painted.items()}


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
