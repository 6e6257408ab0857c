from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tagmask.corrections import Correction
from tagmask.errors import BundleError, DataError
from tagmask.masks import VOID
from tagmask.segmenter import Segmenter
from tests.training import colour_bundle
from training.datasets.photos import Photo, TaggedPhotos
from training.evaluation.compare import Comparison, compare, compared_photos

COLOURS = {
    "background": (90, 140, 80),
    "cat": (200, 40, 40),
    "dog": (40, 60, 190),
    "sheep": (240, 240, 240),
}
MASK_CLASSES = ("background", "bird", "sheep", "dog", "cat")
NAMES = tuple(COLOURS)


def write(path: Path, *classes: str, **changed: Any) -> Path:
    """A bundle that knows `classes` by their colour; what it does not know is what it is nearest to."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(colour_bundle, "COLOURS", {name: COLOURS[name] for name in ("background", *classes)})
        names = changed.pop("names", ("background", *classes))
        return colour_bundle.write_colour_bundle(path, classes=names, **changed)


class World:
    """Photos in the colours of what they show, a block of 16 pixels for each name, and bundles."""

    def __init__(self, root: Path) -> None:
        self.root, self.photos = root, list[Photo]()

    def add(self, shown: str, tags: str, truth: str | None = None) -> Photo:
        path, mask = (self.root / f"{len(self.photos):02}{end}.png" for end in ("", "-mask"))
        colours = np.array([[COLOURS[name] for name in shown.split()]], dtype=np.uint8)
        Image.fromarray(colours.repeat(32, axis=0).repeat(16, axis=1)).save(path)
        if truth is not None:
            values = [VOID if name == "void" else MASK_CLASSES.index(name) for name in truth.split()]
            Image.fromarray(np.array([values], dtype=np.uint8).repeat(32, axis=0).repeat(16, axis=1)).save(mask)
        self.photos.append(Photo(path.stem, path, tuple(tags.split()), mask if truth is not None else None))
        return self.photos[-1]

    def compare(self, challenger: Path, champion: Path | None, **named: Any) -> Comparison:
        masks = MASK_CLASSES if any(photo.mask for photo in self.photos) else ()
        data = TaggedPhotos(self.root, NAMES[1:], tuple(self.photos), masks)
        return compare(challenger, champion, data, device="cpu", threads=1, **named)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("old") / "model.onnx", "dog", "cat")  # in another order than the new one


@pytest.fixture(scope="module")
def new(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("new")
    return write(folder / "model.onnx", "cat", "dog", "sheep", weights_digest="ab" * 32, data_digest="cd" * 32)


def test_a_class_that_a_bundle_does_not_know_is_missed_by_it(world: World, old: Path, new: Path):
    world.add("background cat sheep sheep", "cat sheep", "background cat sheep sheep")
    world.add("background dog dog dog", "dog", "background background dog void")
    result = world.compare(new, old)
    assert result.champion is not None
    # To the champion white is background: 2 of 3 background blocks + 2 sheep are too many, the dog of one is wrong.
    assert result.challenger.iou == pytest.approx({"background": 200 / 3, "cat": 100, "dog": 50, "sheep": 100})
    assert result.champion.iou == pytest.approx({"background": 200 / 5, "cat": 100, "dog": 50, "sheep": 0})
    assert result.challenger.miou == pytest.approx((200 / 3 + 250) / 4)
    assert result.champion.miou == pytest.approx((40 + 150) / 4)
    turned = world.compare(old, new)
    assert turned.champion is not None
    assert (turned.challenger.iou, turned.champion.iou) == (result.champion.iou, result.challenger.iou)


def test_both_means_are_over_the_classes_that_the_truth_shows(world: World, old: Path, new: Path):
    world.add("cat background sheep", "cat", "cat background background")  # no true sheep, nor dog
    result = world.compare(new, old)
    assert result.champion is not None
    assert result.challenger.iou == pytest.approx({"background": 50, "cat": 100})
    assert result.champion.iou == pytest.approx({"background": 100, "cat": 100})


def test_what_the_masks_or_neither_bundle_know_does_not_count(world: World, old: Path, new: Path):
    world.add("cat background sheep", "cat bird", "cat background bird")  # bird: in the masks alone
    assert world.compare(new, old).challenger.iou == {"background": 100, "cat": 100}
    data = TaggedPhotos(world.root, ("cat",), tuple(world.photos), ("background", "cow", "bull", "lamb", "cat"))
    result = compare(new, old, data, device="cpu", threads=1)
    assert result.challenger.iou == {"background": 100, "cat": 100}  # sheep is not painted, as no mask could show it
    unknown = replace(data, mask_classes=("background", "cow", "bull", "lamb", "goat"))
    assert compare(new, old, unknown, device="cpu", threads=1).challenger.miou is None


def test_without_masks_worked_by_hand(world: World, old: Path, new: Path):
    world.add("background cat dog dog", "cat")
    world.add("background background sheep sheep", "dog sheep")
    world.add("cat dog background background", "bird cat dog")
    result = world.compare(new, old)
    assert result.champion is not None
    assert (result.challenger.iou, result.champion.iou, result.champion.miou) == ({}, {}, None)
    # Seen by the new one: cat dog, sheep, cat dog; by the old one nothing in the second. Tags: 1, 2, 2 without bird.
    assert result.challenger.consistency == pytest.approx(2 * 4 / (5 + 5))
    assert result.champion.consistency == pytest.approx(2 * 3 / (4 + 5))
    # The second photo is left out, as only one knows sheep. Of the first, blue is nearer to green than to red.
    assert result.challenger.coverage == result.champion.coverage == pytest.approx((1 / 4 + 2 / 4) / 2)
    assert result.agreement == 1
    assert (result.photos, result.faults) == (3, ())


def test_a_class_counts_as_painted_where_its_tag_is_given(world: World, old: Path, new: Path, tmp_path: Path):
    world.add("background cat dog dog", "cat")
    world.add("background dog dog dog", "cat dog")
    world.add("cat sheep sheep sheep", "cat sheep")  # the old one does not know sheep, so it does not count
    result = world.compare(new, old)
    assert result.champion is not None
    assert result.challenger.painted == result.champion.painted == {"cat": 0.5, "dog": 1}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(COLOURS, "dog", (0, 255, 0))  # what is blue is background to this one
        blind = write(tmp_path / "blind.onnx", "cat", "dog", weights_digest="ef" * 32)
    assert world.compare(blind, old).challenger.painted["dog"] == 0


def test_a_class_where_nothing_is_shown_is_a_false_alarm(world: World, old: Path, new: Path):
    world.add("background cat", "cat")
    world.add("background sheep", "")  # to the old one, which does not know sheep, all of it is background
    result = world.compare(new, old)
    assert result.champion is not None
    assert (result.photos, result.agreement) == (2, 1)
    assert result.challenger.consistency == pytest.approx(2 / 3)
    assert result.champion.consistency == 1
    assert result.challenger.coverage == result.champion.coverage == 0.5  # of the first alone


def test_where_no_photo_shows_anything_nothing_is_missed(world: World, old: Path, new: Path):
    world.add("background background", "")
    result = world.compare(new, old)
    assert (result.challenger.consistency, result.challenger.coverage, result.agreement) == (1, None, None)


def test_agreement_is_of_names_not_of_labels(world: World, old: Path, tmp_path: Path):
    world.add("cat cat dog background", "cat dog")
    with pytest.MonkeyPatch.context() as patch:  # what is half red, half green, is a cat to this one
        patch.setitem(COLOURS, "cat", (90, 140, 80))
        patch.setitem(COLOURS, "background", (200, 40, 40))
        other = write(tmp_path / "other.onnx", "cat", "dog")
    result = world.compare(other, old)
    assert result.agreement == pytest.approx(1 / 4)
    assert result.champion is not None
    assert result.champion.coverage == pytest.approx(3 / 4)
    assert result.challenger.coverage == pytest.approx(2 / 4)
    assert world.compare(write(tmp_path / "same.onnx", "cat", "dog"), old).agreement == 1


def test_a_class_that_is_spelled_otherwise_is_the_same(world: World, old: Path, tmp_path: Path):
    other = write(tmp_path / "model.onnx", "cat", "dog", weights_digest="ab" * 32, names=("background", "CAT", "Dog"))
    world.add("background cat dog dog", "cat dog", "background cat dog dog")
    result = world.compare(other, old)
    assert result.champion is not None
    assert result.challenger.classes == ("background", "CAT", "Dog")
    assert result.champion.classes == ("background", "Dog", "CAT")
    assert result.challenger.iou == result.champion.iou == {"background": 100, "CAT": 100, "Dog": 100}
    assert result.agreement == 1


def test_without_a_photo_that_both_know_there_is_no_agreement(world: World, old: Path, new: Path):
    world.add("sheep background", "sheep")
    result = world.compare(new, old)
    assert result.champion is not None
    assert (result.agreement, result.challenger.coverage, result.champion.coverage) == (None, None, None)
    assert (result.challenger.consistency, result.champion.consistency) == (1, 0)


def test_a_challenger_alone(world: World, new: Path):
    world.add("sheep cat background background", "cat sheep", "sheep cat background background")
    result = world.compare(new, None)
    assert (result.champion, result.agreement) == (None, None)
    assert (result.challenger.miou, result.challenger.coverage) == (100, 0.5)
    identity = (result.challenger.version, result.challenger.data_digest, result.challenger.bytes)
    assert identity == ("ab" * 6, "cd" * 32, new.stat().st_size)


def test_what_cannot_be_read_is_skipped_and_told(world: World, old: Path, new: Path):
    gone, cut, blind = (world.add("cat background", "cat", "cat background") for _ in range(3))
    world.add("dog background", "dog", "dog background")
    world.add("cat cat", "bird")
    gone.path.unlink()
    cut.path.write_bytes(cut.path.read_bytes()[:60])
    assert blind.mask is not None
    blind.mask.write_bytes(b"")
    done: list[int] = []
    result = world.compare(new, old, advance=done.append)
    assert (result.photos, sum(done)) == (1, 4)
    assert len(compared_photos(TaggedPhotos(world.root, NAMES[1:], tuple(world.photos)), NAMES[1:])) == 4
    assert result.challenger.iou == {"background": 100, "dog": 100}
    assert [fault.where for fault in result.faults] == [gone.id, cut.id, blind.id]
    assert result.faults[0].why == "00.png: photo not found; put it back or remove it from the list"
    assert not any(str(world.root) in fault.why for fault in result.faults)
    assert Comparison.model_validate_json(result.model_dump_json()) == result
    world.photos = [gone, cut]
    with pytest.raises(
        DataError, match=r"no readable photo tagged cat, dog, sheep.*; first fault: 00: 00\.png: photo not found"
    ):
        world.compare(new, old)


def test_both_are_timed_on_seen_photos_in_turns(world: World, old: Path, new: Path, monkeypatch: pytest.MonkeyPatch):
    for _ in range(4):
        world.add("cat background", "cat")
    monkeypatch.setattr("training.evaluation.compare.TIMED", 3)
    ran: list[str] = []
    clock = iter(range(1000))
    real = Segmenter.predict

    def predict(self: Segmenter, photo: np.ndarray) -> object:
        ran.append("new" if "sheep" in self.classes else "old")
        for _ in range(5 if ran[-1] == "new" else 2):
            next(clock)
        return real(self, photo)

    monkeypatch.setattr(Segmenter, "predict", predict)
    monkeypatch.setattr("time.perf_counter", lambda: float(next(clock)))
    result = world.compare(new, old)
    assert result.champion is not None
    assert ran == ["new", "old", "old", "new", "new", "old", "new", "old", "new", "old", "old", "new", "new", "old"]
    assert (result.challenger.seconds, result.champion.seconds) == (6, 3)


def test_bundles_that_cannot_be_compared(world: World, old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    world.add("cat background", "cat")
    with pytest.raises(BundleError, match=r"absent\.onnx: cannot be read"):
        world.compare(old, tmp_path / "absent.onnx")
    monkeypatch.setattr("training.evaluation.compare.MAX_CLASSES", 2)
    with pytest.raises(BundleError, match="3 classes together"):
        world.compare(write(tmp_path / "sheep.onnx", "sheep"), old)


def test_on_corrected_photos_the_gain_is_that_of_the_classes_that_both_know(world: World, tmp_path: Path):
    challenger = write(tmp_path / "new.onnx", "cat", "dog")
    champion = write(tmp_path / "old.onnx", "dog", "sheep", weights_digest="f" * 64)
    world.add("dog background", "dog")
    photos = []
    for shown in 12 * ["dog background cat cat"]:
        photo, said = world.add(shown, "dog cat"), np.array([[2, 0, 0, 1]], dtype=np.uint8)
        mask = said.repeat(32, axis=0).repeat(16, axis=1)
        photos.append(replace(photo, correction=Correction.of(mask, ("background", "cat", "dog"))))
    gain = world.compare(challenger, champion, corrected=photos).corrected
    assert gain
    # The third block is background to the user, a cat to the challenger, which is no class of both, and nearest to
    # a dog or background to the champion; the fourth is not said, as the champion knows no cat.
    assert (gain.photos, gain.challenger) == (12, pytest.approx((100 + 50) / 2))
    assert gain.gain.value == pytest.approx(gain.challenger - gain.champion)
    assert world.compare(challenger, champion, corrected=photos[:9]).corrected is None
    assert world.compare(challenger, None, corrected=photos).corrected is None
