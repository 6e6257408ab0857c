from pathlib import Path

import numpy as np
import pytest

from benchmarks.hints import KINDS, with_hint
from tagmask.masks import write_mask
from training.datasets.photos import Photo, TaggedPhotos

TRUE = np.array([[0, 2, 2, 0, 0], [1, 1, 0, 0, 255]], dtype=np.uint8)


@pytest.mark.parametrize(
    ("kind", "tags", "expected"),
    [
        ("true masks", ("cat", "dog"), [[0, 2, 2, 0, 0], [1, 1, 0, 0, 0]]),
        ("shifted", ("cat", "dog"), [[0, 0, 2, 2, 0], [0, 1, 1, 0, 0]]),
        ("of a wrong class", ("cat", "dog"), [[0, 1, 1, 0, 0], [2, 2, 0, 0, 0]]),
        ("of a wrong class", ("dog",), [[0, 3, 3, 0, 0], [0, 0, 0, 0, 0]]),
        ("whole photos", ("dog",), [[2, 2, 2, 2, 2], [2, 2, 2, 2, 2]]),
        ("true foreground", ("cat", "dog"), [[0, 1, 1, 0, 0], [1, 1, 0, 0, 0]]),
    ],
)
def test_hints_are_made_of_true_masks(tmp_path: Path, kind: str, tags: tuple[str, ...], expected: list[list[int]]):
    write_mask(tmp_path / "1.png", TRUE)
    photo = Photo("1", tmp_path / "1.jpg", tags, mask=tmp_path / "1.png")
    names = ("cat", "dog", "owl")
    hint = with_hint(photo, TaggedPhotos(tmp_path, names, (photo,), ("background", *names)), kind, KINDS[kind]).hint
    assert hint is not None
    assert hint.labels(("foreground",) if "foreground" in kind else names).tolist() == expected
