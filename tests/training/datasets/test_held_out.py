"""Which corrections are held out."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tagmask.corrections import Correction
from tagmask.masks import VOID
from tagmask.metadata import sample_digests
from training.datasets.held_out import choose_held_out, hold_out
from training.datasets.photos import Photo, TaggedPhotos

CLASSES = ("cat", "dog", "owl")


def showing(photo: Photo, *labels: int) -> Photo:
    said = Correction.of(np.array([[*labels, VOID]], dtype=np.uint8), ("background", *CLASSES))
    return replace(photo, tags=("cat", "owl"), correction=said)


@pytest.fixture
def data(tmp_path: Path) -> TaggedPhotos:
    """200 corrected photos of cats."""
    photos = []
    for number in range(200):
        path = tmp_path / f"{number:03}.png"
        path.write_bytes(f"photo {number}".encode())
        photos.append(showing(Photo(path.stem, path, ("cat",)), 1))
    return TaggedPhotos(tmp_path, CLASSES, tuple(photos))


def first(data: TaggedPhotos, count: int) -> TaggedPhotos:
    return replace(data, photos=data.photos[:count])


def test_a_fifth_is_held_out_from_20_on(data: TaggedPhotos):
    assert choose_held_out(first(data, 19), 0.2) == ()
    assert 1 <= len(choose_held_out(first(data, 20), 0.2)) <= 8
    assert 25 <= len(choose_held_out(data, 0.2)) <= 55
    assert 80 <= len(choose_held_out(data, 0.5)) <= 120
    assert choose_held_out(data, 0) == ()


def test_photos_without_a_correction_do_not_count(data: TaggedPhotos):
    bare = replace(data, photos=tuple(replace(photo, correction=None) for photo in data.photos[19:]))
    assert choose_held_out(replace(data, photos=(*data.photos[:19], *bare.photos)), 0.2) == ()


def test_what_is_held_out_stays_so_when_more_arrive(data: TaggedPhotos):
    before = set(choose_held_out(first(data, 100), 0.2))
    after = set(choose_held_out(data, 0.2))
    assert {id for id in after if int(id) < 100} == before
    renamed = replace(data, photos=tuple(replace(photo, id=f"x{photo.id}") for photo in data.photos))
    assert {id.removeprefix("x") for id in choose_held_out(renamed, 0.2)} == after


def test_a_class_without_a_photo_gets_one_if_it_has_enough(data: TaggedPhotos):
    chosen = choose_held_out(data, 0.2)
    others = [photo for photo in data.photos if photo.id not in chosen]
    for count, expected in ((5, 1), (4, 0)):
        owls = [showing(photo, 3) for photo in others[:count]]
        photos = tuple(owls) + tuple(photo for photo in data.photos if photo not in others[:count])
        found = choose_held_out(replace(data, photos=photos), 0.2)
        assert set(found) - {photo.id for photo in owls} == set(chosen)
        assert len(set(found) & {photo.id for photo in owls}) == expected


def test_what_was_learned_from_before_is_not_held_out(data: TaggedPhotos):
    chosen = choose_held_out(data, 0.2)
    learned = sample_digests(data.photo_digests()[int(id)] for id in chosen[:5])
    assert set(choose_held_out(data, 0.2, learned)) >= set(chosen[5:])
    assert not set(choose_held_out(data, 0.2, learned)) & set(chosen[:5])
    assert choose_held_out(data, 0.2, sample_digests(data.photo_digests())) == ()


def test_held_out_photos_keep_their_tags(data: TaggedPhotos):
    learned, held_out = hold_out(data, {"003", "007"})
    assert held_out == (data.photos[3], data.photos[7])
    assert [photo.id for photo in learned.photos if photo.correction is None] == ["003", "007"]
    assert [photo.tags for photo in learned.photos] == [photo.tags for photo in data.photos]
