from pathlib import Path

import numpy as np
import pytest

from benchmarks.audit import figures, plant
from training.datasets.near_duplicates import Fingerprint
from training.datasets.photos import Photo
from training.evaluation.audit import Sight

LABELS = ("background", "cat", "dog", "owl")


@pytest.mark.parametrize("seed", [0, 1])
def test_a_network_that_sees_what_is_there_finds_every_planted_tag(seed: int):
    sights = []
    for index in range(100):
        label = 1 + index % 3
        sure = np.eye(4)[label]
        look = Fingerprint(0, np.full((64, 3), 100 * index, dtype=np.int16))
        sights.append(Sight(Photo(str(index), Path("a.jpg"), (LABELS[label],)), sure, sure, look))
    changed, planted = plant(sights, LABELS[1:], seed)
    before = {sight.photo.id: sight.photo.tags for sight in sights}
    assert {sight.photo.id for sight in changed if sight.photo.tags != before[sight.photo.id]} == planted
    assert len(planted) == 5
    assert plant(sights, LABELS[1:], seed)[1] == planted != plant(sights, LABELS[1:], seed + 2)[1]
    rows = figures(changed, planted, LABELS, LABELS[1:])
    assert rows["first 5%"] == rows["all suspected"] == (5, 1.0, 1.0)
    assert rows["first 20%"] == (20, 1.0, 0.25)
