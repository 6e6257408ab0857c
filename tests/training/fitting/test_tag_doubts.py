from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from training.datasets.photos import Photo, TaggedPhotos
from training.fitting import tag_doubts
from training.fitting.tag_doubts import PART, doubted, tag_probabilities

CLASSES = ("cat", "cow", "dog")


def photos_of(tags: Sequence[str]) -> TaggedPhotos:
    photos = tuple(Photo(f"{place:04}", Path("none"), (tag,)) for place, tag in enumerate(tags))
    return TaggedPhotos(root=Path(), classes=CLASSES, photos=photos)


def tagged(data: TaggedPhotos) -> np.ndarray:
    return np.array([[name in photo.tags for name in data.classes] for photo in data.photos])


def features_like(classes: Sequence[str], noise: float):
    """Features, by photo, that show a class and `noise`."""
    random = np.random.default_rng(0)
    values = np.array([[3.0 * (name == shown) for name in CLASSES] for shown in classes])
    values = (values + random.normal(0, noise, values.shape)).astype(np.float32)
    return lambda photo: values[int(photo.id)]


@pytest.mark.parametrize("fitted", [10_000, 60])
def test_tags_that_their_photos_contradict_are_in_doubt(monkeypatch: pytest.MonkeyPatch, fitted: int):
    """Of 200 photos, 6 have another class's tag; regressions that are fitted to 60 photos judge the others too."""
    monkeypatch.setattr(tag_doubts, "REGRESSED", fitted)
    shown = [CLASSES[place % 3] for place in range(200)]
    tags = list(shown)
    wrong = range(5, 200, 37)
    for place in wrong:
        tags[place] = CLASSES[(place + 1) % 3]
    data = photos_of(tags)
    doubts = doubted(tag_probabilities(data, features_like(shown, 0.3)), tagged(data), 0.05)
    found = set(np.flatnonzero(doubts.any(axis=1)).tolist())
    assert found <= set(wrong)
    assert len(found) >= 5
    assert not (doubts & ~tagged(data)).any()


@pytest.mark.filterwarnings("error")
def test_no_tag_of_a_lone_photo_is_in_doubt():
    data = photos_of(["cat"])
    probabilities = tag_probabilities(data, features_like(["cat"], 0))
    assert probabilities.shape == (1, 3)
    assert not doubted(probabilities, tagged(data), 0.05).any()


def test_a_photo_is_judged_by_others():
    """What only the photo itself tells does not make its tag probable."""
    data = photos_of([CLASSES[place % 3] for place in range(30)])
    own = np.eye(30, dtype=np.float32)
    probabilities = tag_probabilities(data, lambda photo: own[int(photo.id)])
    assert np.ptp(probabilities[tagged(data)]) < 0.01
    assert probabilities.max() < 0.5


def test_features_that_tell_nothing_put_no_tag_in_doubt():
    data = photos_of([CLASSES[place % 3] for place in range(200)])
    noise = features_like(["none"] * 200, 3)
    assert not doubted(tag_probabilities(data, noise), tagged(data), 0.05).any()


def test_a_class_whose_low_probabilities_are_often_wrong_has_no_tag_in_doubt():
    has = np.zeros((100, 2), dtype=bool)
    has[:50] = True
    probabilities = np.where(has, 0.9, 0.01)
    probabilities[:2, 0] = probabilities[:5, 1] = 0.01  # 2 and 5 of some 50 photos of low probability have the tag
    assert np.argwhere(doubted(probabilities, has, 0.05)).tolist() == [[0, 0], [1, 0]]


def test_rare_classes_keep_their_tags():
    """Each tag of a rare class is improbable; only those far below the class's share are in doubt, and not many."""
    has = np.zeros((1000, 1), dtype=bool)
    has[:10] = True
    probabilities = np.full((1000, 1), 0.001)
    probabilities[:10, 0] = 0.004
    assert not doubted(probabilities, has, 0.05).any()
    probabilities[:10, 0] = np.arange(10) / 1e5
    assert np.flatnonzero(doubted(probabilities, has, 0.05)).tolist() == [0, 1] == list(range(int(PART * 10)))


def test_no_tag_is_in_doubt_below_0():
    has = np.eye(10, dtype=bool)
    assert not doubted(np.zeros((10, 10)), has, 0.0).any()
