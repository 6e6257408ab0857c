"""Tags in doubt: those that the photos with other tags contradict.

After confident learning (Northcutt, Jiang, Chuang, "Confident learning: estimating uncertainty in dataset labels", JAIR
2021): regressions of the tags on features, fitted without the photo that is judged, say how probable a tag is. Where so
low a probability is often wrong, the regression cannot tell the class, and none of its tags is in doubt.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from training.datasets.photos import Photo, TaggedPhotos, spread
from training.fitting.inputs import tag_vector
from training.fitting.settings import REGRESSED
from training.fitting.tag_regression import regress

FOLDS = 5

RATIO = 4
"""By how much a tag in doubt is less probable than it is frequent, at least."""

WRONG = 0.06
"""Greatest part of the photos of so low a probability that may have the tag."""

PART = 0.2
"""Greatest part of a class's tags that is in doubt: the least probable ones."""


def tag_probabilities(data: TaggedPhotos, features: Callable[[Photo], NDArray[np.float32]]) -> NDArray[np.float64]:
    """How probable each class is in each photo of `data`, judged by other photos: (N, C), 0..1.

    `features(photo)` is (F,). Each of FOLDS regressions is fitted to all but one part of up to REGRESSED photos, evenly
    spread, and judges that part; they share the other photos. Of a lone photo, every class is certain.
    """
    sample = spread(data.photos, REGRESSED)
    if len(sample) < 2:
        return np.ones((len(data.photos), len(data.classes)))
    part = {photo.id: place % FOLDS for place, photo in enumerate(sample)}
    inputs = torch.from_numpy(np.stack([features(photo) for photo in sample]))  # (n, F)
    tags = torch.stack([tag_vector(photo, data.classes) for photo in sample])  # (n, C)
    parts = torch.tensor(list(part.values()))
    regressions = [regress(inputs[parts != fold], tags[parts != fold]) for fold in range(FOLDS)]
    known = dict(zip(part, inputs, strict=True))
    probabilities = np.empty((len(data.photos), len(data.classes)))
    for place, photo in enumerate(data.photos):
        regression = regressions[part.get(photo.id, place % FOLDS)]
        own = known[photo.id] if photo.id in known else torch.from_numpy(features(photo))  # (F,)
        with torch.inference_mode():
            probabilities[place] = regression(own).sigmoid().numpy()
    return probabilities


def doubted(probabilities: NDArray[np.float64], tagged: NDArray[np.bool_], below: float) -> NDArray[np.bool_]:
    """Which tags are in doubt: (N, C).

    `probabilities` and `tagged` are (N, C). A tag in doubt has a probability under `below`, and under a quarter of the
    share of photos with the tag.
    """
    doubts = np.zeros(tagged.shape, dtype=np.bool_)
    for label, (values, has) in enumerate(zip(probabilities.T, tagged.T, strict=True)):
        low = values < min(below, has.mean() / RATIO)
        if (low & has).sum() <= WRONG * low.sum():
            order = np.argsort(np.where(low & has, values, np.inf), kind="stable")
            doubts[order[: int(PART * has.sum())], label] = True
            doubts[:, label] &= low & has
    return doubts
