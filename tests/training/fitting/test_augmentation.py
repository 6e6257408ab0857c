import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tagmask.masks import VOID
from training.fitting.augmentation import AugmentConfig, augment, generator

SIDES = st.integers(1, 90)
DRAWS = st.tuples(st.integers(0, 2**31 - 1), st.integers(0, 50), st.integers(0, 10_000))


def config(smallest: float = 0.5, largest: float = 2.0, colour: float = 0.0) -> AugmentConfig:
    return AugmentConfig(crop=32, smallest=smallest, largest=largest, colour=colour)


def halves(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """A photo that is white where its mask is 1, at the right, and black where it is 0."""
    mask = np.zeros((height, width), dtype=np.uint8)
    mask[:, width // 2 :] = 1
    return np.repeat(mask[..., None] * 255, 3, axis=2), mask


@settings(max_examples=60, deadline=None)
@given(SIDES, SIDES, DRAWS, st.floats(0, 1))
def test_any_photo_gives_a_crop_and_the_same_one_for_the_same_draw(height, width, draw, colour):
    photo, mask = halves(height, width)
    crop, labels = augment(photo, mask, config(colour=colour), generator(*draw))
    assert (crop.shape, crop.dtype) == ((32, 32, 3), np.uint8)
    assert (labels.shape, labels.dtype) == ((32, 32), np.uint8)
    again = augment(photo, mask, config(colour=colour), generator(*draw))
    assert (crop == again[0]).all()
    assert (labels == again[1]).all()


@settings(max_examples=60, deadline=None)
@given(st.integers(20, 90), st.integers(20, 90), DRAWS)
def test_photo_and_mask_stay_aligned(height, width, draw):
    crop, labels = augment(*halves(height, width), config(), generator(*draw))
    grey = crop[..., 0].astype(int)
    assert (grey[labels == 1] > 96).all()  # the mask changes where the blended photo passes mid-grey
    assert (grey[labels == 0] < 160).all()
    assert (crop[labels == VOID] == 127).all()


@settings(max_examples=40, deadline=None)
@given(st.integers(10, 90), st.integers(10, 90), DRAWS)
def test_void_is_just_where_the_photo_does_not_reach(height, width, draw):
    _, labels = augment(*halves(height, width), config(smallest=0.5, largest=0.5), generator(*draw))
    scale = 0.5 * 32 / max(height, width)
    reached = max(1, round(height * scale)) * max(1, round(width * scale))
    assert (labels != VOID).sum() == reached
    rows, columns = np.nonzero(labels != VOID)
    assert (rows.max() - rows.min() + 1) * (columns.max() - columns.min() + 1) == reached


def test_without_a_mask_all_is_void():
    photo, _ = halves(40, 50)
    crop, labels = augment(photo, None, config(), generator(0, 0, 0))
    assert (labels == VOID).all()
    assert set(np.unique(crop)) >= {0, 255}


def test_every_part_of_the_draw_matters():
    draws = {tuple(generator(*draw).integers(0, 2**32, 4)) for draw in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1))}
    assert len(draws) == 4


def test_photos_are_flipped_now_and_then():
    photo, mask = halves(64, 64)
    firsts = [augment(photo, mask, config(1.0, 1.0), generator(0, 0, i))[1][0, 0] for i in range(20)]
    assert set(firsts) == {0, 1}


def test_colour_changes_with_its_strength_alone():
    photo = np.full((32, 32, 3), (200, 100, 50), dtype=np.uint8)
    plain, _ = augment(photo, None, config(1.0, 1.0), generator(0, 0, 0))
    assert (plain == photo).all()
    changed = {tuple(augment(photo, None, config(1.0, 1.0, 0.5), generator(0, 0, i))[0][0, 0]) for i in range(5)}
    assert len(changed) == 5
