import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tagmask.masks import read_mask
from tests.training.report.conftest import CONFIG, Finished, fill_ledger, without_masks
from training.evaluation.metrics import Confusion
from training.report.classes import MATRIX_CLASSES, OTHERS, class_rows, matrix
from training.report.measured import measure_photos
from training.report.story import read_story
from training.report.validation import Validation
from training.stages.masks import Masks

LAST = Masks.of(CONFIG, 2)


def test_the_weakest_comes_first_with_what_it_is_mixed_up_with(run: Finished):
    truth = read_mask(run.data.photos[1].mask)  # type: ignore[arg-type]
    half = truth.copy()
    half[:, : half.shape[1] * 3 // 4] = 0
    run.paint(1, 2, half)  # a part of the dog is missed
    dog, cat, background = class_rows(
        read_story(run.layout), run.data, measure_photos(run.data, run.layout.root, LAST), None
    )
    assert (dog.name, cat.name, background.name) == ("dog", "cat", "background")
    assert (dog.photos, cat.photos, background.photos) == (2, 2, None)
    assert dog.pixels is not None
    pixels = sum((read_mask(photo.mask) == 2).sum() for photo in run.data.photos if photo.mask)
    missed = 100 * ((truth == 2) & (half == 0)).sum() / pixels
    assert dog.pixels.missed == ("background", pytest.approx(missed))
    assert (dog.pixels.precision, dog.pixels.spilled) == (100, None)
    assert dog.pixels.recall == dog.pixels.iou == pytest.approx(100 - missed)
    assert background.pixels is not None
    assert background.pixels.spilled is not None
    assert background.pixels.spilled[0] == "dog"
    assert len(dog.rounds) == 3


def test_without_masks_the_weakest_are_those_that_are_not_seen(run: Finished):
    run.cut(0)
    run.see(1, 2, 1)  # a cat in the photo of a dog
    found = measure_photos(without_masks(run.data), run.layout.root, LAST)
    rows = class_rows(read_story(run.layout), without_masks(run.data), found, None)
    assert [row.name for row in rows] == ["dog", "cat", "background"]
    dog, cat = rows[0].tags, rows[1].tags
    assert dog is not None
    assert cat is not None
    assert (dog.recall, dog.precision, dog.extra) == (50, 100, ("cat", 50))
    assert (cat.recall, cat.extra) == (100, None)
    assert cat.precision == pytest.approx(200 / 3)
    assert rows[0].quality == pytest.approx(2 * 50 * 100 / 150)


def test_a_run_whose_photos_are_not_at_hand_has_the_figures_of_its_ledger(run: Finished):
    rows = class_rows(read_story(run.layout), None, None, None)
    assert [row.name for row in rows] == ["cat", "dog", "background"]
    assert all(row.iou == row.rounds[-1] and row.photos is None for row in rows)


def test_a_class_is_judged_by_the_round_that_was_kept(run: Finished):
    run.layout.ledger.unlink()
    fill_ledger(run.layout, CONFIG, 2, kept=False, why="vanished: dog")
    for row in class_rows(read_story(run.layout), None, None, None):
        _, first, second = row.rounds
        assert row.iou == first != second


def test_a_validation_goes_by_names(run: Finished):
    without_tags, with_tags = Confusion(2), Confusion(2)
    without_tags.counts[:] = [[5, 5, 0], [0, 5, 0]]
    with_tags.counts[:] = [[10, 0, 0], [0, 5, 0]]
    validation = Validation("val", 1, ("dog",), without_tags, with_tags)
    rows = {row.name: row for row in class_rows(read_story(run.layout), None, None, validation)}
    assert (rows["dog"].without_tags, rows["dog"].with_tags) == (50, 100)
    assert (rows["cat"].without_tags, rows["cat"].with_tags) == (None, None)


@given(arrays(np.int64, st.integers(1, 40).map(lambda n: (n, n + 1)), elements=st.integers(0, 50)))
def test_rows_of_a_matrix_are_whole_and_the_weakest_are_there(counts: np.ndarray):
    names = [f"c{index}" for index in range(len(counts))]
    found = matrix(counts, names, "rest")
    totals = counts.sum(axis=1)
    assert len(found.rows) == min(len(names), MATRIX_CLASSES)
    assert found.columns[: len(found.rows)] == found.rows
    assert (OTHERS in found.columns) == bool(found.left_out) == (len(names) > MATRIX_CLASSES)
    for name, shares, total in zip(found.rows, found.shares, found.totals, strict=True):
        row = counts[int(name[1:])]
        assert total == row.sum()
        assert len(shares) == len(found.columns)
        if total:
            assert sum(share or 0 for share in shares) == pytest.approx(100)
        else:
            assert set(shares) == {None}
    hits = {name: counts[index, index] / totals[index] for index, name in enumerate(names) if totals[index]}
    left = [share for name, share in hits.items() if name not in found.rows]
    assert not left or min(left) >= max(hits[name] for name in found.rows)
