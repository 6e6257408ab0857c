"""Masks of files, bytes and arrays are those of the network at the working size, enlarged to the photo."""

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from PIL import Image, ImageDraw

from tagmask.bundle import read_bundle
from tagmask.colours import follow_colours
from tagmask.crf import CrfConfig
from tagmask.errors import DataError, Unprocessable
from tagmask.expected_iou import expected_ious
from tagmask.inputs import Refine
from tagmask.photos import read_photo
from tagmask.segmenter import Segmenter, SegmentOptions
from tagmask.upsampling import select_labels
from tests.training.colour_bundle import write_colour_bundle

PHOTOS = Path(__file__).parents[2] / "../shared/data/voc-animals/JPEGImages"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_colour_bundle(tmp_path_factory.mktemp("bundle") / "model.onnx", working_size=160)


@pytest.fixture(scope="module")
def segmenter(bundle: Path) -> Iterator[Segmenter]:
    with Segmenter.load(bundle, device="cpu") as segmenter:
        yield segmenter


def painted(segmenter: Segmenter, path: Path, *tags: str, crf: bool = False) -> np.ndarray:
    """The mask of a photo's bytes, as a service gives it."""
    options = SegmentOptions(tags, "crf" if crf else "smooth")
    return np.array(Image.open(BytesIO(segmenter.run(path.read_bytes(), options, options.format.encode))))


def predicted(segmenter: Segmenter, path: Path, *tags: str, crf: bool = False) -> np.ndarray:
    """The mask of a photo's pixels, as an evaluation compares it."""
    prediction = segmenter.predict(read_photo(path))
    return prediction.mask(segmenter.labels_of(tags), crf=segmenter.crf if crf else None)


def drawn(folder: Path, size: tuple[int, int]) -> Path:
    """A photo of a cat and a dog in the colours of the colour bundle, with noise."""
    image = Image.new("RGB", size, (90, 140, 80))
    draw = ImageDraw.Draw(image)
    width, height = size
    draw.ellipse((width * 0.1, height * 0.2, width * 0.5, height * 0.8), fill=(200, 40, 40))
    draw.ellipse((width * 0.45, height * 0.3, width * 0.9, height * 0.9), fill=(40, 60, 190))
    noise = np.random.default_rng(0).normal(0, 40, (height, width, 3))
    path = folder / "photo.jpg"
    Image.fromarray((np.asarray(image) + noise).clip(0, 255).astype(np.uint8)).save(path, quality=90)
    return path


@pytest.mark.parametrize("size", [(120, 90), (160, 160), (300, 225), (90, 317), (20, 12)])
@pytest.mark.parametrize("tags", [(), ("cat",), ("dog", "cat")])
def test_a_service_paints_what_an_evaluation_compares(
    segmenter: Segmenter, tmp_path: Path, size: tuple[int, int], tags: tuple[str, ...]
):
    path = drawn(tmp_path, size)
    np.testing.assert_array_equal(painted(segmenter, path, *tags), predicted(segmenter, path, *tags))
    np.testing.assert_array_equal(painted(segmenter, path, *tags), segmenter.segment(path, tags).mask)


def test_with_crf_too(segmenter: Segmenter, tmp_path: Path):
    path = drawn(tmp_path, (200, 150))
    plain = painted(segmenter, path, "cat", "dog")
    refined = painted(segmenter, path, "cat", "dog", crf=True)
    np.testing.assert_array_equal(refined, predicted(segmenter, path, "cat", "dog", crf=True))
    assert (refined != plain).any()


def test_crf_takes_the_settings_of_the_bundle(tmp_path: Path):
    path = drawn(tmp_path, (200, 150))
    settings = {"crf": {"steps": 1, "colour_weight": 50, "sure_above": 0.9}}
    with Segmenter.load(write_colour_bundle(tmp_path / "model.onnx", working_size=160, settings=settings)) as segmenter:
        assert segmenter.crf == CrfConfig(steps=1, colour_weight=50)
        refined = painted(segmenter, path, crf=True)
        default = segmenter.predict(read_photo(path)).mask((0, 1, 2), crf=CrfConfig())
        np.testing.assert_array_equal(refined, predicted(segmenter, path, crf=True))
    assert (refined != default).any()


@pytest.mark.parametrize("refine", get_args(Refine))
def test_a_tag_that_is_painted_nowhere_is_told(segmenter: Segmenter, tmp_path: Path, refine: Refine):
    Image.new("RGB", (200, 150), (90, 140, 80)).save(tmp_path / "ground.png")
    untagged = segmenter.segment(tmp_path / "ground.png", refine=refine)
    assert untagged.expected_ious == {"background": untagged.expected_iou}
    assert untagged.expected_iou > 0.9
    assert (untagged.low_confidence, untagged.unpainted) == (False, ())
    tagged = segmenter.segment(tmp_path / "ground.png", tags=["DOG"], refine=refine)
    assert list(tagged.expected_ious) == ["background", "dog"]
    assert (tagged.expected_iou, tagged.low_confidence, tagged.unpainted) == (0, True, ("dog",))


def test_the_expected_iou_is_that_of_the_probabilities_before_smoothing(segmenter: Segmenter, tmp_path: Path):
    path = drawn(tmp_path, (160, 120))
    result = segmenter.segment(path, tags=["cat"])
    prediction = segmenter.predict(read_photo(path))
    coloured = follow_colours(prediction.pixels, select_labels(prediction.probabilities, (0, 1)))
    ious = expected_ious(coloured, result.mask)
    assert list(result.expected_ious.values()) == pytest.approx(ious.tolist(), abs=1e-3)
    assert result.expected_iou == result.expected_ious["cat"]
    assert segmenter.segment(path, tags=["cat"], refine="crf").expected_iou < 1


def test_a_large_photo_is_nearly_the_same(segmenter: Segmenter, tmp_path: Path):
    path = drawn(tmp_path, (1600, 1200))  # a JPEG's bytes are decoded at a reduced scale
    theirs, ours = predicted(segmenter, path), painted(segmenter, path)
    assert ours.shape == theirs.shape
    assert (ours == theirs).mean() > 0.99


def test_real_photos(segmenter: Segmenter):
    if not PHOTOS.is_dir():
        pytest.skip(f"{PHOTOS} is absent")
    for path in sorted(PHOTOS.glob("*.jpg"))[:200:10]:
        np.testing.assert_array_equal(painted(segmenter, path), predicted(segmenter, path))


def test_no_tags_and_an_empty_list_mean_every_class(segmenter: Segmenter):
    assert segmenter.labels_of(()) == segmenter.labels_of([]) == (0, 1, 2)


def test_an_unknown_tag_lists_the_known_ones(segmenter: Segmenter):
    with pytest.raises(Unprocessable, match="'zebra', 'gnu'; it knows cat, dog") as refusal:
        segmenter.labels_of(("cat", "zebra", "gnu"))
    assert (refusal.value.code, refusal.value.field) == ("unknown_tag", "tags")


@pytest.mark.parametrize("tag", ["background", "cats", "", "cat,dog"])
def test_only_a_class_is_a_tag(segmenter: Segmenter, tag: str):
    with pytest.raises(Unprocessable):
        segmenter.labels_of((tag,))


@pytest.mark.parametrize("tag", ["Cat", "CAT", "cat"])
def test_a_class_is_asked_for_in_any_spelling(segmenter: Segmenter, tag: str):
    assert segmenter.labels_of((tag, "cat")) == segmenter.labels_of(("cat",))
    assert segmenter.labels_of([]) == segmenter.labels_of(()) == tuple(range(len(segmenter.classes)))


def test_a_file_that_is_no_photo_is_named(segmenter: Segmenter, tmp_path: Path):
    for path in (tmp_path / "absent.jpg", tmp_path):
        with pytest.raises(DataError, match=str(path)):
            segmenter.segment(path)


def test_stages_are_observed(bundle: Path, tmp_path: Path):
    events: list[str] = []

    @contextmanager
    def observe(stage: str) -> Iterator[None]:
        events.append(stage)
        yield
        events.append("done")

    observed = Segmenter(read_bundle(bundle), device="cpu", observe=observe)
    observed.segment(drawn(tmp_path, (40, 30)))
    assert events == ["decode", "done", "inference", "done", "refine", "done", "encode", "done"]
