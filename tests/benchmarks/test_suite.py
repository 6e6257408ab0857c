"""The part of a data set that a row learns from, and the table."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.suite import STAGES, make_closeups, make_land, select, table
from tagmask.masks import read_mask
from tagmask.photos import read_photo
from training.datasets import load


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A data set in the VOC layout: photos 00 to 19, even ones a cat, every fourth a dog too, odd ones nothing."""
    root = tmp_path / "source"
    (root / "ImageSets" / "Main").mkdir(parents=True)
    tags = {f"{number:02}": {"cat": number % 2 == 0, "dog": number % 4 == 0} for number in range(20)}
    for folder in ("JPEGImages", "SegmentationClass"):
        (root / folder).mkdir()
        for name in tags:
            Image.fromarray(np.zeros((4, 6), np.uint8)).save(root / folder / f"{name}.png")
    for tag in ("cat", "dog"):
        lines = [f"{name} {1 if its[tag] else -1}\n" for name, its in tags.items()]
        (root / "ImageSets" / "Main" / f"{tag}_all.txt").write_text("".join(lines))
    (root / "classes.txt").write_text("background\ncat\ndog\n")
    return root


def test_a_part_is_evenly_spread_and_keeps_tags_and_masks(source: Path, tmp_path: Path):
    part = select(source, "all", ("cat", "dog"), 4, 2, tmp_path / "part")
    data = load(part, split="train", classes=("cat", "dog"))
    assert {photo.id: photo.tags for photo in data.photos} == {
        "00": ("cat", "dog"),
        "01": (),
        "06": ("cat",),
        "12": ("cat", "dog"),
        "18": ("cat",),
        "19": (),
    }
    assert all(photo.mask is not None for photo in data.photos)
    assert select(source, "all", ("cat", "dog"), 4, 2, tmp_path / "part") == part  # again, as after an interruption


def test_photos_of_any_layout_without_masks(tmp_path: Path):
    for name in ("cat", "dog"):
        (tmp_path / "web" / name).mkdir(parents=True)
        Image.fromarray(np.zeros((4, 6), np.uint8)).save(tmp_path / "web" / name / "1.jpg")
    part = select(tmp_path / "web", None, ("cat", "dog"), 2, 0, tmp_path / "part")
    data = load(part, split="train", classes=("cat", "dog"))
    assert {photo.id: (photo.tags, photo.mask) for photo in data.photos} == {
        "cat-1": (("cat",), None),
        "dog-1": (("dog",), None),
    }


def test_the_background_of_tiles_becomes_a_class_that_is_a_tag_where_it_covers_enough(tmp_path: Path):
    tiles = tmp_path / "tiles"
    masks = {"all": np.ones((10, 10)), "half": np.repeat([0, 1], 50).reshape(10, 10), "none": np.zeros((10, 10))}
    masks["little"] = np.where(np.arange(100).reshape(10, 10) < 2, 0, 1)
    (tiles / "ImageSets" / "Main").mkdir(parents=True)
    for folder in ("JPEGImages", "SegmentationClass"):
        (tiles / folder).mkdir()
        for name, mask in masks.items():
            Image.fromarray(mask.astype(np.uint8)).save(tiles / folder / f"{name}.png")
    for split in ("train", "val"):
        lines = [f"{name} {1 if mask.any() else -1}\n" for name, mask in masks.items()]
        (tiles / "ImageSets" / "Main" / f"water_{split}.txt").write_text("".join(lines))
    (tiles / "classes.txt").write_text("background\nwater\n")
    data = load(make_land(tiles, tmp_path / "out") / "land", split="val")
    assert data.mask_classes == ("background", "water", "land")
    shown = {photo.id: (photo.tags, np.unique(read_mask(photo.mask)).tolist()) for photo in data.photos if photo.mask}
    assert shown == {
        "all": (("water",), [1]),
        "half": (("land", "water"), [1, 2]),
        "little": (("water",), [1, 2]),
        "none": (("land",), [2]),
    }


def test_close_ups_are_cut_to_the_only_animal_where_it_fills_most_of_them(tmp_path: Path):
    """A solid square of 50 pixels is cut with 2 more on each side, or up to the edge; a ring covers too little."""
    animals, square, ring = tmp_path / "animals", np.zeros((100, 120)), np.zeros((100, 120))
    square[:50, 60:110] = ring[:80, :80] = 1
    ring[10:70, 10:70] = 0
    (animals / "ImageSets" / "Main").mkdir(parents=True)
    for folder in ("JPEGImages", "SegmentationClass"):
        (animals / folder).mkdir()
        for name, mask in (("square", square), ("ring", ring), ("two", square)):
            Image.fromarray(mask.astype(np.uint8)).save(animals / folder / f"{name}.png")
    for split in ("train_small", "val"):
        (animals / "ImageSets" / "Main" / f"{split}.txt").write_text("square\nring\ntwo\n")
        for tag, shown in (("cat", ("square", "ring", "two")), ("dog", ("two",))):
            lines = [f"{name} {1 if name in shown else -1}\n" for name in ("square", "ring", "two")]
            (animals / "ImageSets" / "Main" / f"{tag}_{split}.txt").write_text("".join(lines))
    (animals / "classes.txt").write_text("background\ncat\ndog\n")
    (photo,) = load(make_closeups(animals, tmp_path / "out") / "closeups", split="train").photos
    assert photo.mask is not None
    assert (photo.id, photo.tags) == ("square", ("cat",))
    mask = read_mask(photo.mask)
    assert mask.shape == read_photo(photo.path).shape[:2] == (52, 54)
    np.testing.assert_array_equal(mask, square[:52, 58:112])


def test_rows_of_the_table():
    figures = {
        "photos": 300,
        "stages": {key: [50.0] for key in STAGES} | {"masks": [60.0, 61.25]},
        "kept": 1,
        "rounds": {"1": [40.0, 45.0], "2": [39.0, 44.0]},
        "ceiling": [80.0, 90.0],
        "estimate": [58.0, 59.0],
        "consistency": [0.9, 0.91],
        "cpu": 1234.5,
    }
    unknown = figures | {"stages": {key: [] for key in STAGES}, "rounds": {}, "ceiling": []}
    header, rule, row, without_masks = table({"tiles": figures, "web": unknown}).splitlines()
    assert header.count("|") == rule.count("|") == row.count("|") == without_masks.count("|")
    assert row == (
        "| tiles | 300 | 50.0 | 50.0 | 50.0 | 50.0 | 50.0 | 60.0, 61.2 | 1 | 40.0 / 45.0, 39.0 / 44.0 | 80.0 / 90.0 "
        "| 0.50 / 0.50 | 58.0, 59.0 | 0.900, 0.910 | 1234 |"
    )
    assert without_masks == "| web | 300 |  |  |  |  |  |  | 1 |  |  |  | 58.0, 59.0 | 0.900, 0.910 | 1234 |"
