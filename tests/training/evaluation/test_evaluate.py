import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tagmask.errors import DataError
from tagmask.masks import VOID
from tagmask.segmenter import Segmenter
from tests.training.colour_bundle import COLOURS, write_colour_bundle
from training.api import Events
from training.config import CrfConfig
from training.datasets.photos import Photo, TaggedPhotos
from training.evaluation.evaluate import evaluate

MASK_CLASSES = ("background", "bird", "dog", "cat")  # in another order than the model's, and one more


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory: pytest.TempPathFactory) -> Segmenter:
    path = write_colour_bundle(tmp_path_factory.mktemp("bundle") / "model.onnx")
    return Segmenter.load(path, device="cpu", threads=1)


def blocks(values: list[list[int]], side: int = 32) -> np.ndarray:
    return np.kron(np.array(values, dtype=np.uint8), np.ones((side, side), dtype=np.uint8))


class World:
    """Photos whose prediction is known, as their colours are, beside any truth."""

    def __init__(self, root: Path) -> None:
        self.root, self.photos = root, list[Photo]()

    def add(self, shown: list[list[int]], truth: list[list[int]] | None, tags: tuple[str, ...], side: int = 32) -> None:
        """`shown` in labels of the model, `truth` in values of MASK_CLASSES, blocks of 32 and of `side` pixels."""
        name = f"{len(self.photos):02}"
        path, mask = self.root / f"{name}.png", self.root / f"{name}-mask.png"
        Image.fromarray(np.array(list(COLOURS.values()), dtype=np.uint8)[blocks(shown)]).save(path)
        if truth is not None:
            Image.fromarray(blocks(truth, side)).save(mask)
        self.photos.append(Photo(name, path, tags, mask if truth is not None else None))

    def data(self) -> TaggedPhotos:
        return TaggedPhotos(self.root, ("bird", "cat", "dog"), tuple(self.photos), MASK_CLASSES)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_worked_by_hand(segmenter: Segmenter, world: World):
    # Blocks of one size. In labels of the model the truth is [0, cat, dog, dog], [0, void, 0, cat].
    world.add([[0, 1, 2, 1]], [[0, 3, 2, 2]], ("cat", "dog"))
    world.add([[0, 1, 2, 1]], [[0, VOID, 0, 3]], ("cat",))
    result = evaluate(segmenter, world.data(), classes=["cat", "dog"])
    # Without tags: background 2 hits, 1 miss (painted dog); cat 2 hits, 1 too many; dog 1 hit, 1 miss, 1 too many.
    iou = {"background": 200 / 3, "cat": 200 / 3, "dog": 100 / 3}
    assert result.without_tags.iou == pytest.approx(iou)
    assert result.without_tags.miou == pytest.approx(500 / 9)
    # With tags the second photo cannot be dog: blue is nearer to green than to red.
    assert result.with_tags.iou == pytest.approx({"background": 100, "cat": 200 / 3, "dog": 50})
    assert result.to_json() == {
        "without_tags": {"miou": pytest.approx(500 / 9), "iou": pytest.approx(iou)},
        "with_tags": {
            "miou": pytest.approx(650 / 9),
            "iou": pytest.approx({"background": 100, "cat": 200 / 3, "dog": 50}),
        },
    }
    assert list(result.to_json()) == ["without_tags", "with_tags"]


def test_what_is_painted_where_nothing_is_shown_counts_without_tags(segmenter: Segmenter, world: World):
    world.add([[0, 1]], [[0, 3]], ("cat",))
    world.add([[0, 2]], [[0, 0]], ())
    world.add([[0, 2]], [[0, 1]], ("bird",))  # no tag of a class that is scored
    result = evaluate(segmenter, world.data(), classes=["cat", "dog"])
    assert result.without_tags.photos == 2
    assert result.without_tags.iou["background"] == pytest.approx(200 / 3)
    assert result.with_tags.iou["background"] == 100


def test_classes_that_are_not_scored_are_void_and_never_painted(segmenter: Segmenter, world: World):
    world.add([[0, 1, 2, 2]], [[0, 3, 2, 1]], ("bird", "cat", "dog"))
    result = evaluate(segmenter, world.data(), classes=["cat"])
    # dog and bird are void in the truth, whatever is painted there
    assert result.without_tags.iou == {"background": 100, "cat": 100}
    assert result.to_json()["with_tags"] == {"miou": 100, "iou": {"background": 100, "cat": 100}}


def test_the_truth_is_compared_at_its_own_size(segmenter: Segmenter, world: World):
    world.add([[0, 1], [2, 0]], [[0, 3], [2, 0]], ("cat", "dog"), side=48)
    result = evaluate(segmenter, world.data())
    assert result.without_tags.miou == pytest.approx(100, abs=3)
    assert result.without_tags.photos == 1


def test_photos_without_a_mask_or_a_scored_tag_are_left_out(segmenter: Segmenter, world: World):
    world.add([[0, 1]], [[0, 3]], ("cat",))
    world.add([[0, 1]], None, ("cat",))
    world.add([[2, 2]], [[1, 1]], ("bird",))
    events = io.StringIO()
    result = evaluate(segmenter, world.data(), progress=Events(events))
    assert [json.loads(line) for line in events.getvalue().splitlines()] == [
        {"stage": "segmenting", "done": done, "total": 1} for done in (0, 1)
    ]
    assert result.to_json()["without_tags"] == {"miou": 100, "iou": {"background": 100, "cat": 100, "dog": None}}


def test_crf_is_used(segmenter: Segmenter, world: World):
    world.add([[0, 1], [2, 0]], [[0, 3], [2, 0]], ("cat", "dog"))
    speckled = np.array(Image.open(world.photos[0].path))
    speckled[5::9, 5::9] = (147, 89, 60)  # single pixels, a little nearer to red than to green
    Image.fromarray(speckled).save(world.photos[0].path)
    smoothed = evaluate(segmenter, world.data()).without_tags.miou
    crf = evaluate(segmenter, world.data(), crf=CrfConfig(colour_spread=60)).without_tags.miou
    assert smoothed is not None
    assert crf is not None
    assert smoothed != crf


@pytest.mark.parametrize(
    ("classes", "why"),
    [
        (["zebra"], "'zebra' is unknown to the model, known are cat, dog"),
        (["bird"], "'bird' is unknown to the model"),
        (["background"], "'background' is unknown"),
        (["cat", "cat"], "once"),
    ],
)
def test_classes_that_cannot_be_scored(segmenter: Segmenter, world: World, classes: list[str], why: str):
    world.add([[0, 1]], [[0, 3]], ("cat",))
    with pytest.raises(DataError, match=why):
        evaluate(segmenter, world.data(), classes=classes)


def test_classes_are_named_in_any_spelling(segmenter: Segmenter, world: World):
    world.add([[0, 1]], [[0, 3]], ("cat",))
    data = replace(world.data(), mask_classes=("background", "Bird", "COW", "Cat", "DOG"))
    assert evaluate(segmenter, data, classes=["CAT"]) == evaluate(segmenter, world.data(), classes=["cat"])
    assert evaluate(segmenter, world.data(), classes=[]) == evaluate(segmenter, world.data())


def test_a_class_that_the_masks_do_not_know(segmenter: Segmenter, world: World):
    world.add([[0, 1]], [[0, 3]], ("cat",))
    data = replace(world.data(), mask_classes=("background", "bird", "cow", "cat"))
    with pytest.raises(DataError, match="'dog' is unknown to the true masks, known are bird, cow, cat"):
        evaluate(segmenter, data)


def test_data_without_masks(segmenter: Segmenter, world: World):
    world.add([[0, 1]], None, ("cat",))
    with pytest.raises(DataError, match="no photo with a true mask"):
        evaluate(segmenter, world.data())
    with pytest.raises(DataError, match="no true masks"):
        evaluate(segmenter, replace(world.data(), mask_classes=()))
