import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from tagmask.errors import DataError
from tagmask.masks import VOID
from training.evaluation.metrics import Confusion, confusion, score_folders

CLASSES = ("background", "cat", "dog")
VALUES = st.sampled_from([0, 1, 2, VOID])
SHAPES = array_shapes(min_dims=2, max_dims=2, max_side=8)


def masks(count: int) -> st.SearchStrategy[tuple[np.ndarray, ...]]:
    """Masks of one shape, with values of CLASSES and void."""
    return SHAPES.flatmap(lambda shape: st.tuples(*[arrays(np.uint8, shape, elements=VALUES)] * count))


def scored(*pairs: tuple[np.ndarray, np.ndarray]) -> Confusion:
    total = Confusion(len(CLASSES))
    for prediction, truth in pairs:
        total.add(prediction, truth)
    return total


def write(folder: Path, name: str, values: list[list[int]]) -> None:
    path = folder / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.array(values, dtype=np.uint8)).save(path)


def test_worked_by_hand():
    truth = np.array([[0, 0, 0, 1], [1, 1, 2, VOID]], dtype=np.uint8)
    prediction = np.array([[0, 0, 1, 1], [1, 0, VOID, 2]], dtype=np.uint8)
    counts = confusion(prediction, truth, 3)
    assert counts.dtype == np.int64
    assert counts.tolist() == [[2, 1, 0, 0], [1, 2, 0, 0], [0, 0, 0, 1]]
    total = scored((prediction, truth))
    np.testing.assert_allclose(total.iou(), [50, 50, 0])
    np.testing.assert_allclose(total.precision(), [200 / 3, 200 / 3, np.nan])
    np.testing.assert_allclose(total.recall(), [200 / 3, 200 / 3, 0])
    assert total.miou() == pytest.approx(100 / 3)


def test_a_class_that_nobody_has_is_no_part_of_the_mean():
    mask = np.array([[0, 1]], dtype=np.uint8)
    total = scored((mask, mask))
    assert np.isnan(total.iou()[2])
    assert total.miou() == 100


def test_a_class_that_is_only_predicted_counts_as_zero():
    total = scored((np.array([[0, 2]], dtype=np.uint8), np.array([[0, 0]], dtype=np.uint8)))
    np.testing.assert_allclose(total.iou(), [50, np.nan, 0])
    assert total.miou() == 25


def test_nothing_to_score_has_no_mean():
    void = np.full((2, 2), VOID, dtype=np.uint8)
    assert np.isnan(scored((void, void)).miou())


@given(masks(2))
def test_agrees_with_sets_of_pixels(pair: tuple[np.ndarray, ...]):
    prediction, truth = pair
    pixels = [pixel for pixel in np.ndindex(truth.shape) if truth[pixel] != VOID]
    for label, found in enumerate(scored((prediction, truth)).iou()):
        predicted = {pixel for pixel in pixels if prediction[pixel] == label}
        true = {pixel for pixel in pixels if truth[pixel] == label}
        if predicted | true:
            assert found == pytest.approx(100 * len(predicted & true) / len(predicted | true))
        else:
            assert np.isnan(found)


@given(masks(1))
def test_a_perfect_prediction_scores_100(pair: tuple[np.ndarray, ...]):
    total = scored((pair[0], pair[0]))
    known = total.iou()[~np.isnan(total.iou())]
    assert (known == 100).all()
    assert len(known) == len(set(pair[0].ravel().tolist()) - {VOID})


@given(masks(2), st.permutations(range(3)))
def test_renaming_the_classes_renames_the_figures(pair: tuple[np.ndarray, ...], names: list[int]):
    table = np.arange(256, dtype=np.uint8)
    table[:3] = names
    renamed = scored((table[pair[0]], table[pair[1]]))
    np.testing.assert_array_equal(renamed.iou()[names], scored((pair[0], pair[1])).iou())


@given(masks(2), st.integers(0, 8))
def test_how_pixels_are_split_over_photos_changes_nothing(pair: tuple[np.ndarray, ...], cut: int):
    prediction, truth = pair
    parts = scored((prediction[:cut], truth[:cut]), (prediction[cut:], truth[cut:]))
    np.testing.assert_array_equal(parts.counts, scored((prediction, truth)).counts)


@pytest.mark.parametrize("value", [3, 254])
@pytest.mark.parametrize("wrong", ["prediction", "truth"])
def test_values_beyond_the_classes_are_refused(value: int, wrong: str):
    arguments = {name: np.array([[0, 1]], dtype=np.uint8) for name in ("prediction", "truth")}
    arguments[wrong][0, 0] = value
    with pytest.raises(ValueError, match=r"0\.\.2"):
        confusion(**arguments, classes=3)


def test_folders_are_scored_together_and_below(tmp_path: Path):
    write(tmp_path / "truth", "a", [[0, 1]])
    write(tmp_path / "truth", "more/b", [[1, VOID]])
    write(tmp_path / "found", "a", [[0, 0]])
    write(tmp_path / "found", "more/b", [[1, 2]])
    write(tmp_path / "found", "unasked", [[9]])
    scores = score_folders(tmp_path / "found", tmp_path / "truth", CLASSES)
    assert scores.iou == {"background": 50, "cat": 50, "dog": None}
    assert (scores.miou, scores.photos, scores.extra) == (50, 2, 1)
    assert json.loads(json.dumps(scores.to_json())) == {"miou": 50, "iou": scores.iou, "photos": 2, "missing": 0}


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ([[0, 1, 1]], r"b\.png: 3x1 pixels, but .*b\.png has 2x1"),
        ([[0, 3]], r"found.*b\.png: value 3 names no class"),
    ],
)
def test_a_fault_names_its_file(tmp_path: Path, found: list[list[int]], message: str):
    for name in "ab":
        write(tmp_path / "truth", name, [[0, 1]])
    write(tmp_path / "found", "a", [[0, 1]])
    write(tmp_path / "found", "b", found)
    with pytest.raises(DataError, match=message):
        score_folders(tmp_path / "found", tmp_path / "truth", CLASSES)


def test_truth_without_a_prediction_is_counted_not_scored(tmp_path: Path):
    for name in "ab":
        write(tmp_path / "truth", name, [[0, 1]])
    write(tmp_path / "found", "a", [[0, 1]])
    scores = score_folders(tmp_path / "found", tmp_path / "truth", CLASSES)
    assert (scores.miou, scores.photos, scores.missing) == (100, 1, 1)
    assert scores.to_json()["missing"] == 1


def test_unreadable_and_absent_masks_are_data_errors(tmp_path: Path):
    write(tmp_path / "truth", "a", [[0, 1]])
    (tmp_path / "found").mkdir()
    (tmp_path / "found" / "a.png").write_bytes(b"not a png")
    with pytest.raises(DataError, match=r"a\.png: not a readable mask"):
        score_folders(tmp_path / "found", tmp_path / "truth", CLASSES)
    with pytest.raises(DataError, match=r"nowhere: no such folder"):
        score_folders(tmp_path / "found", tmp_path / "nowhere", CLASSES)
