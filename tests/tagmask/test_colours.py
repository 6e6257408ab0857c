import numpy as np

from tagmask.colours import follow_colours

GRASS, COAT, MUZZLE = (60, 140, 60), (150, 90, 40), (230, 220, 200)


def two_things() -> tuple[np.ndarray, np.ndarray]:
    """A photo (60, 80, 3) of a brown thing on grass, and where it is (60, 80)."""
    photo, there = np.full((60, 80, 3), GRASS, np.uint8), np.zeros((60, 80), dtype=bool)
    there[20:50, 20:70] = True
    photo[there] = COAT
    return photo, there


def planes(*objects: np.ndarray) -> np.ndarray:
    """Probabilities (labels, H, W) float32 of background and each of `objects` (H, W)."""
    raw = np.stack([1 - sum(objects), *objects])
    return raw.astype(np.float32)


def test_what_has_the_colour_of_the_sure_part_of_a_thing_belongs_to_it():
    photo, there = two_things()
    probabilities = planes(np.where(there, 0.4, 0.1))
    probabilities[:, 20:30, 20:40] = [[[0.1]], [[0.9]]]  # the network knows the head
    assert (probabilities.argmax(axis=0) == there).mean() < 0.8
    np.testing.assert_array_equal(follow_colours(photo, probabilities).argmax(axis=0), there)


def test_what_has_the_colour_of_the_background_is_background():
    photo, there = two_things()
    wide = there.copy()
    wide[:, 60:] = True
    assert (follow_colours(photo, planes(np.where(wide, 0.6, 0.05))).argmax(axis=0) == there).all()


def test_a_sure_part_of_another_colour_stays():
    photo, there = two_things()
    photo[30:36, 30:36] = MUZZLE
    np.testing.assert_array_equal(follow_colours(photo, planes(np.where(there, 0.8, 0.1))).argmax(axis=0), there)


def test_greys_that_labels_share_say_nothing():
    _, there = two_things()
    photo = np.random.default_rng(0).integers(80, 100, (60, 80, 1)).repeat(3, axis=2).astype(np.uint8)
    followed = follow_colours(photo, planes(np.where(there, 0.8, 0.1)))
    np.testing.assert_allclose(followed[:, 30, 50], [0.2, 0.8], atol=0.03)
    np.testing.assert_allclose(followed[:, 5, 5], [0.9, 0.1], atol=0.03)


def test_one_label_is_left_as_it_is():
    alone = np.ones((1, 4, 5), dtype=np.float32)
    assert follow_colours(np.zeros((4, 5, 3), np.uint8), alone) is alone
