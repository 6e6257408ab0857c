from dataclasses import replace
from pathlib import Path

import numpy as np

from tagmask import files
from tagmask.corrections import Correction
from tagmask.masks import VOID
from training.datasets.photos import Photo, TaggedPhotos
from training.stages import superpixels
from training.stages.doubts import leave_out_doubts, read_doubts, write_doubts
from training.stages.localization import features_file

WRONG = range(0, 120, 41)
"""Photos with the tag of the other class."""


def write_photos(run: Path) -> TaggedPhotos:
    """120 photos of two superpixels, of 3 and 1 pixels; the large one has the features of what the photo shows."""
    random = np.random.default_rng(0)
    photos = []
    for place in range(120):
        shown, other = (("cat", "dog"), ("dog", "cat"))[place % 2]
        photo = Photo(f"{place:03}", Path("none"), (other if place in WRONG else shown,))
        large = (4.0 if shown == "cat" else -4.0) + random.normal(0, 0.3, 8)
        features = np.stack([large, random.normal(0, 0.3, 8)]).astype(np.float16)
        for file in (features_file(photo, run, 0), superpixels.Superpixels.file_of(photo, run)):
            file.parent.mkdir(parents=True, exist_ok=True)
        files.write_array(features_file(photo, run, 0), features)
        superpixels.write(superpixels.Superpixels.file_of(photo, run), np.array([[0, 0], [0, 1]], dtype=np.int32))
        photos.append(photo)
    return TaggedPhotos(root=run, classes=("cat", "dog"), photos=tuple(photos))


def test_photos_with_a_tag_that_others_contradict_are_left_out(tmp_path: Path):
    data = write_photos(tmp_path)
    write_doubts(data, tmp_path, 1, 0.05)
    doubts = read_doubts(tmp_path, 1)
    assert [int(doubt["photo"]) for doubt in doubts] == list(WRONG)
    assert [doubt["tag"] for doubt in doubts] == [data.photos[place].tags[0] for place in WRONG]
    assert all(0 <= doubt["probability"] < 0.05 for doubt in doubts)
    left = leave_out_doubts(data, tmp_path, 1)
    assert left.photos == tuple(photo for place, photo in enumerate(data.photos) if place not in WRONG)
    assert leave_out_doubts(data, tmp_path, 2) == data


def test_a_photo_with_a_correction_is_believed(tmp_path: Path):
    data = write_photos(tmp_path)
    said = np.full((2, 2), VOID, dtype=np.uint8)
    first = replace(data.photos[0], correction=Correction.of(said, ("background", "dog")))
    write_doubts(replace(data, photos=(first, *data.photos[1:])), tmp_path, 1, 0.05)
    assert [int(doubt["photo"]) for doubt in read_doubts(tmp_path, 1)] == list(WRONG)[1:]


def test_all_are_believed_if_told_so(tmp_path: Path):
    data = write_photos(tmp_path)
    write_doubts(data, tmp_path, 1, 0.0)
    assert read_doubts(tmp_path, 1) == []
