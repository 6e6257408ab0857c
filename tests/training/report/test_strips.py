import base64
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tagmask.photos import read_photo
from tests.training.report.conftest import CONFIG, Finished, without_masks
from training.datasets.photos import Photo, TaggedPhotos
from training.report import strips as module
from training.report.strips import Picture, Strip, draw_strips, select
from training.stages.regions import Regions


def drawn(run: Finished, data: TaggedPhotos | None = None) -> list[Strip]:
    return list(draw_strips(run.data.photos, data or run.data, run.layout, CONFIG))


def pixels(picture: Picture) -> np.ndarray:
    head, _, body = picture.uri.partition(",")
    assert head == "data:image/webp;base64"
    image = Image.open(io.BytesIO(base64.b64decode(body, validate=True)))
    assert image.size == (picture.width, picture.height)
    return np.array(image.convert("RGB"), dtype=int)


def test_a_strip_shows_each_stage_of_each_round_below_one_another(run: Finished):
    strip = drawn(run)[0]
    before, *rounds = [{picture.name: picture.column for picture in row} for row in strip.rows]
    assert before == {"photo": 0, "true mask": 1, "superpixels": 2, "saliency": 3, "class_maps": 4}
    assert rounds == [{"seeds": 0, "regions": 1, "labels": 2, "masks": 3}] * 2
    assert strip.columns == 5


def test_pictures_are_what_they_say(run: Finished):
    for strip in drawn(run):
        photo = read_photo(strip.photo.path).astype(int)
        before = {picture.name: pixels(picture) for picture in strip.rows[0]}
        assert np.abs(before["photo"] - photo).mean() < 12
        for row in strip.rows[1:]:  # where everything is right, the mask looks like the true one
            mask = next(pixels(picture) for picture in row if picture.name == "masks")
            assert np.abs(mask - before["true mask"]).mean() < 3
            assert np.abs(mask - photo).mean() > 3


def test_large_photos_become_small_pictures(run: Finished):
    path = run.data.photos[0].path
    Image.fromarray(read_photo(path)).resize((800, 640)).save(path)
    tall = CONFIG.model_copy(update={"long_side": 800})
    photo = Photo("other", path, ("cat",))
    (strip,) = draw_strips([photo], without_masks(run.data), run.layout, tall)
    assert [(each.name, each.width, each.height) for each in strip.rows[0]] == [("photo", module.SIDE, 179)]


def test_a_run_that_has_just_begun_shows_what_there_is(run: Finished):
    for part in ("class_maps/maps", "round-*/masks/maps", "round-*/seeds", "round-*/regions", "round-*/labels"):
        for path in run.layout.root.glob(f"{part}/*"):
            path.unlink()
    strip = drawn(run, without_masks(run.data))[0]
    assert [[picture.name for picture in row] for row in strip.rows] == [
        ["photo", "true mask", "superpixels", "saliency"], [], []
    ]  # fmt: skip


def test_photos_that_cannot_be_drawn_are_left_out(run: Finished):
    run.data.photos[0].path.unlink()
    np.save(Regions.file_of(run.data.photos[1], run.layout.root, 1), np.zeros((1, 2)))  # of fewer superpixels
    assert [strip.photo.id for strip in drawn(run)] == ["02"]


def test_pictures_take_no_more_than_their_share(run: Finished, monkeypatch: pytest.MonkeyPatch):
    sizes = [sum(len(picture.uri) for row in strip.rows for picture in row) for strip in drawn(run)]
    monkeypatch.setattr(module, "MAX_BYTES", sizes[0] + sizes[1])
    assert [strip.photo.id for strip in drawn(run)] == ["00", "01"]


@given(st.lists(st.floats(0, 100), min_size=1, max_size=60), st.integers(1, 30))
def test_the_worst_come_first_and_the_rest_is_spread(scores: list[float], most: int):
    photos = [Photo(f"{index:02}", Path(f"{index:02}.jpg"), ("cat",)) for index in range(len(scores))]
    by_id = {photo.id: score for photo, score in zip(photos, scores, strict=True)}
    found = [by_id[photo.id] for photo in select(photos, by_id, most)]
    assert len(found) == min(most, len(photos))
    assert found == sorted(found)
    assert found[: (most + 1) // 2] == sorted(scores)[: (most + 1) // 2]
    if 1 < most <= len(photos):
        assert found[-1] == max(scores)
    assert len({photo.id for photo in select(photos, by_id, most)}) == len(found)
    assert select(photos[::-1], by_id, most) == select(photos, by_id, most)


def test_without_scores_any_photo_may_come_and_always_the_same():
    photos = [Photo(f"{index:02}", Path("x.jpg"), ("cat",)) for index in range(20)]
    found = [photo.id for photo in select(photos, {}, 6)]
    assert len(set(found)) == 6
    assert found != sorted(found)
    assert [photo.id for photo in select(photos[::-1], {}, 6)] == found
