"""Which photos are corrected, by what, and the table."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from benchmarks.corrections import choose, draw_strokes, table, write_corrections
from tagmask.masks import VOID
from training.datasets.correcting import correct
from training.datasets.listing import Listing
from training.datasets.photos import Photo, TaggedPhotos


@pytest.fixture
def learned(tmp_path: Path) -> TaggedPhotos:
    """Thirty photos, a cat above a dog in each, but one of nothing."""
    mask = tmp_path / "mask.png"
    Image.fromarray(np.repeat([[1], [2]], [20, 20], axis=0).repeat(40, axis=1).astype(np.uint8)).save(mask)
    photos = [Photo(f"{number:02}", tmp_path / f"{number:02}.png", ("cat", "dog"), mask) for number in range(30)]
    nothing = Photo("none", tmp_path / "none.png", ())
    return TaggedPhotos(tmp_path, ("cat", "dog"), (*photos, nothing), mask_classes=("background", "cat", "dog"))


@given(st.integers(0, 2**32 - 1), st.integers(1, 6))
def test_strokes_are_true_and_of_all_labels(seed: int, count: int):
    random = np.random.default_rng(seed)
    truth = np.full((60, 80), VOID, np.uint8)
    truth[:50] = random.integers(0, 3, (5, 8)).repeat(10, axis=0).repeat(10, axis=1)
    said = draw_strokes(truth, count, random)
    assert (said[said != VOID] == truth[said != VOID]).all()
    assert 0 < (said != VOID).sum() < (truth != VOID).sum()
    assert len(set(said[said != VOID])) == min(count, len(set(truth[truth != VOID])))


def test_draws_of_tagged_photos_differ_and_hold_smaller_ones(learned: TaggedPhotos, tmp_path: Path):
    drawn = {name: {photo.id for photo in choose(name, learned, tmp_path)} for name in ("5", "20", "20-b", "20-c")}
    assert [len(ids) for ids in drawn.values()] == [5, 20, 20, 20]
    assert drawn["5"] < drawn["20"]
    assert len({frozenset(drawn[name]) for name in ("20", "20-b", "20-c")}) == 3
    assert "none" not in set.union(*drawn.values())
    assert choose("20-strokes", learned, tmp_path) == choose("20", learned, tmp_path)


@pytest.mark.parametrize("strokes", [False, True])
def test_corrections_say_what_is_true(strokes: bool, learned: TaggedPhotos, tmp_path: Path):
    write_corrections(tmp_path / "corrections", learned.photos[:2], learned, strokes=strokes)
    listing = Listing(tmp_path, photos={photo.id: photo for photo in learned.photos})
    correct(listing, tmp_path / "corrections")
    assert not listing.faults
    assert [photo.id for photo in listing.photos.values() if photo.correction] == ["00", "01"]
    correction = listing.photos["01"].correction
    assert correction is not None
    said = correction.labels(("cat", "dog"))
    assert {int(each) for each in np.unique(said[:20])} <= {1, VOID}
    assert {int(each) for each in np.unique(said[20:])} <= {2, VOID}
    assert (said == VOID).any() == strokes


def test_rows_of_the_table(tmp_path: Path):
    figures = {"stages": {"labels": [50.0, 55.0]}, "kept": 2, "rounds": {"1": [40, 45], "2": [41, 46]}, "ceiling": []}
    for variant in ("0", "20", "5", "20-strokes"):
        (tmp_path / "tiles" / variant).mkdir(parents=True)
        ceiling = [60.0, 70.25] if variant == "0" else []
        (tmp_path / "tiles" / variant / "figures.json").write_text(json.dumps(figures | {"ceiling": ceiling}))
    assert table(tmp_path).splitlines()[2:] == [
        "| tiles | 0 | 55.0 | 41.0 / 46.0 | 60.0 / 70.2 |",
        "| tiles | 5 | 55.0 | 41.0 / 46.0 |  |",
        "| tiles | 20 | 55.0 | 41.0 / 46.0 |  |",
        "| tiles | 20-strokes | 55.0 | 41.0 / 46.0 |  |",
    ]
