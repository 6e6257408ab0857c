import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagmask.masks import VOID
from training.evaluation.painted import Painted, rarely_painted, vanished

SHARES = st.fixed_dictionaries({"cat": st.floats(0, 1), "dog": st.floats(0, 1)})


def test_shares_are_of_the_photos_with_the_tag():
    painted = Painted(("cat", "dog", "sheep"))
    both, cats = np.array([[1, 2, 0, VOID]], dtype=np.uint8), np.array([[1, 1, 0, 0]], dtype=np.uint8)
    painted.add(both, ("cat", "dog"))
    painted.add(cats, ("cat", "dog"))
    painted.add(np.zeros_like(cats), ("dog",))
    painted.add(np.zeros_like(cats), ())
    assert painted.shares() == {"cat": 1, "dog": pytest.approx(1 / 3)}


@pytest.mark.parametrize(("pixels", "share"), [(0, 0), (2, 0), (3, 1), (2700, 1)])
def test_a_few_cells_are_paint(pixels: int, share: float):
    mask = np.zeros(2700, dtype=np.uint8)
    mask[:pixels] = 1
    painted = Painted(("crack",))
    painted.add(mask.reshape(45, 60), ("crack",))
    assert painted.shares() == {"crack": share}


@pytest.mark.parametrize(
    ("before", "after", "gone"),
    [(0.81, 0.0, True), (0.8, 0.4, False), (0.8, 0.39, True), (0.2, 0.09, True), (0.19, 0.0, False), (0.0, 0.0, False)],
)
def test_a_class_vanishes_from_a_fair_share(before: float, after: float, gone: bool):
    assert ("dog" in vanished({"cat": 1, "dog": before}, {"cat": 1, "dog": after}, 0.5)) == gone


def test_a_class_without_photos_has_not_vanished():
    assert vanished({"cat": 1, "dog": 1}, {"cat": 0.25}, 0.5) == {"cat": "painted on 25% of its photos, was 100%"}


@given(SHARES, SHARES, st.floats(0, 1))
def test_nothing_vanishes_by_growing(before: dict[str, float], after: dict[str, float], loss: float):
    assert not vanished(before, before, loss)
    assert not vanished(before, after, 1)
    grown = {name: max(share, after[name]) for name, share in before.items()}
    assert not vanished(before, grown, loss)


def test_a_class_that_is_hardly_ever_painted_is_named_with_the_remedy():
    (warning,) = rarely_painted({"cat": 0.1, "dog": 0.09})
    assert warning.startswith("dog: painted on 9% of the photos with its tag; add photos of it")
