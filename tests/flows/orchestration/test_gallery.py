import base64
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from flows.orchestration import gallery as module
from flows.orchestration.gallery import MAX_BYTES, PANEL, PHOTOS, gallery, in_gallery_order
from tagmask.masks import read_mask, write_mask
from tests.training.conftest import draw_photos
from training.config import TrainConfig
from training.datasets.photos import Photo, TaggedPhotos
from training.run.layout import Layout
from training.stages.labels import Labels
from training.stages.localization import maps_file
from training.stages.superpixels import Superpixels

CONFIG = TrainConfig()
NAMES = tuple("abcdefgh")


@pytest.fixture
def photos(tmp_path: Path) -> TaggedPhotos:
    """More photos than a gallery shows, whose labels and masks are the true ones."""
    data, layout = draw_photos(tmp_path, PHOTOS + 3), Layout(tmp_path / "run")
    for photo in data.photos:
        assert photo.mask is not None
        truth = read_mask(photo.mask)
        Superpixels.of(CONFIG, 0).prepare(layout.root, data.classes)(photo)
        write_mask(Labels.file_of(photo, layout.root, 1), truth)
        maps = maps_file(photo, layout.root, 1)
        maps.parent.mkdir(parents=True, exist_ok=True)
        np.save(maps, np.stack([truth == label for label in photo.labels(data.classes)]).astype(np.float16))
    return data


def picture_in(markdown: str) -> bytes:
    """The picture that an artifact embeds."""
    return base64.b64decode(markdown.partition("base64,")[2].partition(")")[0], validate=True)


def test_a_gallery_shows_photo_labels_and_mask_side_by_side(tmp_path: Path, photos: TaggedPhotos):
    layout = Layout(tmp_path / "run")
    artifact = gallery(photos, layout, CONFIG, 1)
    picture = (layout.root / "gallery-1.jpg").read_bytes()
    assert picture_in(artifact.markdown) == picture
    assert artifact.summary.startswith("round 1: 12 of 15 photos")

    first = next(in_gallery_order(photos))
    assert first.mask is not None
    sheet = np.array(Image.open(io.BytesIO(picture)), dtype=int)
    width, height = 80 * PANEL[1] // 64, PANEL[1]
    inside = np.array(Image.fromarray(read_mask(first.mask)).resize((width, height), Image.Resampling.NEAREST)) > 0
    top, left = module._CAPTION + module._MARGIN // 2 + module._CAPTION, module._MARGIN
    panels = [
        sheet[top : top + height, start : start + width]
        for start in (left + column * (PANEL[0] + module._GAP) for column in range(3))
    ]
    for panel in panels[1:]:
        changed = np.abs(panel - panels[0]).max(axis=2)
        assert np.median(changed[inside]) > 30
        assert np.median(changed[~inside]) < 10


def test_the_picture_is_the_same_each_time_and_small(tmp_path: Path, photos: TaggedPhotos):
    layout = Layout(tmp_path / "run")
    pictures = [picture_in(gallery(photos, layout, CONFIG, 1).markdown) for _ in range(2)]
    assert pictures[0] == pictures[1]
    assert len(pictures[0]) <= MAX_BYTES


def test_a_picture_too_large_is_made_coarser():
    noise = np.random.default_rng(0).integers(0, 256, (700, 700, 3), dtype=np.uint8)
    full = io.BytesIO()
    Image.fromarray(noise).save(full, "JPEG", quality=90)
    assert full.tell() > MAX_BYTES >= len(module._jpeg(Image.fromarray(noise)))


def test_photos_that_vanished_or_have_no_labels_are_left_out(tmp_path: Path, photos: TaggedPhotos):
    layout, order = Layout(tmp_path / "run"), list(in_gallery_order(photos))
    order[0].path.unlink()
    Labels.file_of(order[1], layout.root, 1).unlink()
    maps_file(order[2], layout.root, 1).write_bytes(b"half")
    artifact = gallery(photos, layout, CONFIG, 1)
    ids = [line.split(" | ")[1] for line in artifact.markdown.splitlines() if line.startswith("| ")][2:]
    assert ids == [photo.id for photo in order[3:]]


def test_a_round_without_masks_has_an_empty_gallery(tmp_path: Path, photos: TaggedPhotos):
    assert "No photo" in gallery(photos, Layout(tmp_path / "run"), CONFIG, 2).markdown


@given(st.lists(st.sets(st.sampled_from(NAMES), min_size=1), min_size=1, max_size=20), st.randoms())
def test_each_class_has_its_turn_and_no_photo_comes_twice(tags: list[set[str]], random):
    photos = [Photo(f"{index}", Path(f"{index}.jpg"), tuple(sorted(each))) for index, each in enumerate(tags)]
    classes = tuple(sorted(set().union(*tags)))
    order = list(in_gallery_order(TaggedPhotos(Path(), classes, tuple(photos))))
    assert sorted(photo.id for photo in order) == sorted(photo.id for photo in photos)
    assert {tag for photo in order[: len(classes)] for tag in photo.tags} == set(classes)
    random.shuffle(photos)
    assert list(in_gallery_order(TaggedPhotos(Path(), classes, tuple(photos)))) == order
