"""Photos in tiles: the same masks as at once where tiles show enough, no seams, tags, limits and memory."""

import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from tagmask import tiling
from tagmask.bundle import read_bundle, write_bundle
from tagmask.errors import DataError, RequestError, TimedOut, TooLarge, Unprocessable
from tagmask.expected_iou import expected_ious
from tagmask.metadata import TAGS
from tagmask.segmentation import Pixels, Planes
from tagmask.segmenter import Segmenter
from tagmask.session import open_session
from tagmask.tiling import segment_tiles
from tagmask.upsampling import enlarge_confidence, enlarge_mask, find_strongest
from tests.training.colour_bundle import COLOURS, colour_model, describe, write_colour_bundle

REACH = 4  # pixels that the network of `blurring_model` sees on each side
LABELS = range(len(COLOURS))


def blurring_model() -> onnx.ModelProto:
    """The colour bundle's network after the mean of 9x9 pixels; beyond the border it sees black."""
    model = colour_model()
    side = 2 * REACH + 1
    weight = np.full((3, 1, side, side), 1 / side**2, dtype=np.float32)
    model.graph.initializer.append(numpy_helper.from_array(weight, "mean"))
    blur = helper.make_node("Conv", ["image", "mean"], ["blurred"], group=3, pads=[REACH] * 4)
    model.graph.node[0].input[0] = "blurred"
    model.graph.node.insert(0, blur)
    return model


def tag_model() -> onnx.ModelProto:
    """The colour bundle's network, which finds a tag as probable as the mean of its label's probability."""
    model = colour_model()
    model.graph.initializer.append(numpy_helper.from_array(np.array([1], dtype=np.int64), "one"))
    model.graph.initializer.append(numpy_helper.from_array(np.array([3], dtype=np.int64), "three"))
    model.graph.initializer.append(numpy_helper.from_array(np.array([2, 3], dtype=np.int64), "places"))
    model.graph.node.extend(
        [
            helper.make_node("ReduceMean", ["probabilities", "places"], ["means"], keepdims=0),
            helper.make_node("Slice", ["means", "one", "three", "one"], ["tags"]),
        ]
    )
    model.graph.output.append(helper.make_tensor_value_info("tags", TensorProto.FLOAT, ["batch", len(COLOURS) - 1]))
    return model


@pytest.fixture(scope="module")
def blurring() -> tiling.Predict:
    """What `blurring_model` finds in a photo of any size."""
    session = open_session(blurring_model().SerializeToString(), device="cpu", threads=1)

    def predict(photo: Pixels) -> Planes:
        image = photo.transpose(2, 0, 1)[None].astype(np.float32)
        return np.asarray(session.run(None, {"image": image})[0])  # (1, labels, h, w)

    return predict


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Segmenter]:
    """The colour bundle with a working size of 80 pixels."""
    with Segmenter.load(write_colour_bundle(tmp_path_factory.mktemp("tiles") / "model.onnx"), threads=1) as segmenter:
        yield segmenter


def drawn(height: int, width: int, seed: int = 0, patch: int = 20) -> Pixels:
    """Patches in the colours of the colour bundle, with noise: (height, width, 3) uint8."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, len(COLOURS), (height // patch + 1, width // patch + 1))
    large = np.kron(labels, np.ones((patch, patch), dtype=np.int64))[:height, :width]
    colours = np.array(list(COLOURS.values()))[large]
    return (colours + random.normal(0, 20, colours.shape)).clip(0, 255).astype(np.uint8)


sides = st.integers(1, 200)


@settings(max_examples=60, deadline=None)
@given(sides, sides, st.integers(12 * REACH, 100), sides, sides, st.integers(0, 9), st.sampled_from([64, 2**20]))
def test_tiles_whose_overlap_shows_enough_give_the_mask_of_the_whole_photo(
    blurring: tiling.Predict, height: int, width: int, side: int, rows: int, columns: int, seed: int, strip: int
) -> None:
    photo = drawn(height, width, seed)
    with patch.object(tiling, "_STRIP_PIXELS", strip):
        tiled = segment_tiles(photo, side, blurring, LABELS, (rows, columns))
    whole = blurring(photo)[0]
    mask = enlarge_mask(whole, LABELS, (rows, columns))
    confidence = enlarge_confidence(whole, LABELS, mask)
    unequal = tiled.mask != mask
    assert (confidence[unequal].astype(int) - tiled.confidence[unequal] <= 1).all()  # ties, but for rounding
    assert unequal.mean() < 1e-3
    assert np.abs(tiled.confidence.astype(int) - confidence).max() <= 1
    np.testing.assert_allclose(tiled.ious, expected_ious(whole, find_strongest(whole)), atol=1e-4)


def test_tiles_fade_into_each_other() -> None:
    """A network that sees the mean of a tile alone gives a step between tiles, which must not show."""
    photo = np.linspace(0, 255, 800)[None, :, None] * np.linspace(0.3, 1, 600)[:, None, None] * np.ones(3)

    def mean(tile: Pixels) -> Planes:
        share = np.full(tile.shape[:2], 0.5 + tile.mean() / 512, dtype=np.float32)
        return np.stack([share, 1 - share])[None]

    confidence = segment_tiles(photo.astype(np.uint8), 160, mean, (0, 1), (600, 800)).confidence.astype(int)
    assert np.ptp(confidence) > 80
    for axis in (0, 1):
        assert np.abs(np.diff(confidence, axis=axis)).max() <= 3


def test_every_pixel_is_seen_and_few_are_seen_often() -> None:
    seen = np.zeros((1000, 1300), dtype=int)
    photo = np.arange(1000 * 1300, dtype=np.int64).reshape(1000, 1300, 1)

    def count(tile: Pixels) -> Planes:
        np.add.at(seen, np.divmod(tile[..., 0], 1300), 1)
        return np.ones((1, 1, *tile.shape[:2]), dtype=np.float32)

    segment_tiles(photo, 320, count, (0,), (10, 13))
    assert seen.min() == 1
    assert seen.mean() < 2


def test_memory_is_that_of_a_row_of_tiles() -> None:
    photo = np.zeros((3000, 2000, 3), dtype=np.uint8)
    planes = np.full((1, 5, 200, 200), 0.2, dtype=np.float32)
    tracemalloc.start()
    try:
        tiled = segment_tiles(photo, 200, lambda tile: planes, range(5), (6000, 4000))
        taken = tracemalloc.get_traced_memory()[1] - tiled.mask.nbytes - tiled.confidence.nbytes
    finally:
        tracemalloc.stop()
    row = planes.nbytes * 10
    assert taken < 4 * row + 30e6  # of 120 MB for the whole photo at the size of the network


def test_a_tile_of_the_photo_is_seen_at_the_working_size(segmenter: Segmenter) -> None:
    """A dog of 8 pixels is hardly a pixel of a photo of 800 pixels that is scaled to 80."""
    photo = np.full((600, 800, 3), COLOURS["background"], dtype=np.uint8)
    photo[301:309, 403:411] = COLOURS["dog"]
    whole, tiled = segmenter.segment(photo), segmenter.segment(photo, tile=80)
    assert (whole.present, tiled.present) == ((), ("dog",))
    assert tiled.mask.shape == (600, 800)
    np.testing.assert_array_equal(tiled.mask[301:309, 403:411], 2)
    assert (tiled.mask == 2).sum() == 64
    enlarged = segmenter.segment(photo, tile=40)
    assert 64 <= (enlarged.mask == 2).sum() <= 100
    assert segmenter.segment(photo, tags=["cat"], tile=80).unpainted == ("cat",)


@pytest.mark.parametrize("size", [(80, 60), (60, 80), (80, 80)])
def test_a_photo_that_fits_in_a_tile_is_segmented_whole(segmenter: Segmenter, size: tuple[int, int]) -> None:
    photo = drawn(*size)
    assert (
        segmenter.segment(photo, tile=80, formats=["json"]).answers
        == segmenter.segment(photo, formats=["json"]).answers
    )


def test_the_bundle_says_the_tile_and_a_call_overrides_it(segmenter: Segmenter, tmp_path: Path) -> None:
    photo = drawn(300, 200)
    whole, tiled = (segmenter.segment(photo, tile=tile).mask for tile in (0, 100))
    assert (whole != tiled).any()
    np.testing.assert_array_equal(segmenter.segment(photo).mask, whole)
    with Segmenter.load(write_colour_bundle(tmp_path / "tile.onnx", tile=100), threads=1) as other:
        np.testing.assert_array_equal(other.segment(photo).mask, tiled)
        np.testing.assert_array_equal(other.segment(photo, tile=0).mask, whole)


def test_formats_agree(segmenter: Segmenter) -> None:
    result = segmenter.segment(drawn(300, 200), tile=100, formats=["json", "confidence", "overlay", "coco"])
    assert result.confidence.shape == result.mask.shape == (300, 200)
    assert result.overlay.shape == (300, 200, 3)
    for each in result.document("json")["classes"]:
        own = result.mask == each["label"]
        assert each["pixels"] == own.sum()
        assert each["confidence"] == pytest.approx(result.confidence[own].mean() / 255, abs=1e-4)
        assert each["expected_iou"] == result.expected_ious[each["name"]] > 0.5


def test_crf_refines_each_tile(segmenter: Segmenter) -> None:
    between = np.add(COLOURS["background"], COLOURS["cat"]) // 2
    photo = np.full((150, 200, 3), np.add(between, (3, -3, -1)), dtype=np.uint8)  # nearer to cat
    photo[100, 130] = np.add(between, (-1, 1, 0))  # hardly nearer to background, which DenseCRF takes away
    plain, refined = (segmenter.segment(photo, tile=80, refine=refine) for refine in ("none", "crf"))
    assert np.argwhere(plain.mask != 1).tolist() == [[100, 130]]
    assert (refined.mask == 1).all()
    assert refined.expected_iou == pytest.approx(plain.expected_iou, abs=1e-3)  # of the network's own probabilities


def test_a_tag_is_as_probable_as_in_the_tile_that_shows_it_most(tmp_path: Path) -> None:
    photo = np.full((160, 400, 3), COLOURS["background"], dtype=np.uint8)
    photo[:, :80] = COLOURS["cat"]
    write_bundle(tmp_path / "model.onnx", tag_model(), describe(tags=TAGS, tag_shares=(0.5, 0.5)))
    with Segmenter.load(tmp_path / "model.onnx", threads=1) as segmenter:
        assert segmenter.segment(photo).tags["cat"] == pytest.approx(0.2, abs=0.02)
        tiled = segmenter.segment(photo, tile=80)
        assert tiled.tags["cat"] == pytest.approx(1, abs=0.01)
        assert tiled.tags["dog"] == pytest.approx(0, abs=0.01)
        assert tiled.present == ("cat",)


@pytest.mark.parametrize("tile", [-1, 1, 31, 65_536, 64.0, True, "x"])
def test_a_tile_of_another_size_is_refused(segmenter: Segmenter, tile: int) -> None:
    with pytest.raises(Unprocessable, match="is not 0 or 32 to 65535 pixels") as refusal:
        segmenter.segment(drawn(8, 8), tile=tile)
    assert (refusal.value.code, refusal.value.field) == ("bad_tile", "tile")


def test_tiles_that_enlarge_the_photo_beyond_the_limit_are_refused(tmp_path: Path) -> None:
    photo = drawn(100, 200)
    with Segmenter.load(write_colour_bundle(tmp_path / "model.onnx"), threads=1, max_pixels=50_000) as segmenter:
        segmenter.segment(photo, tile=64)
        with pytest.raises(TooLarge, match="500x250 pixels, more than 50000; set a larger tile") as refusal:
            segmenter.segment(photo, tile=32)
    assert (refusal.value.code, refusal.value.field, refusal.value.limit) == ("tile_too_small", "tile", 50_000)


def test_a_row_of_tiles_beyond_the_memory_is_refused() -> None:
    photo = np.zeros((30, 9000, 3), dtype=np.uint8)
    taken = 4 * 3 * 30 * 9000
    with patch.object(tiling, "MAX_OUTPUT", taken - 1), pytest.raises(TooLarge, match="limit the classes by tags"):
        segment_tiles(photo, 80, lambda tile: np.zeros((1, 3, *tile.shape[:2])), LABELS, (30, 9000))


def test_all_tiles_together_take_no_longer_than_the_limit(tmp_path: Path) -> None:
    bundle = read_bundle(write_colour_bundle(tmp_path / "model.onnx"))
    with Segmenter(bundle, seconds=1e-9) as segmenter, pytest.raises(TimedOut, match="larger tile") as refusal:
        segmenter.segment(drawn(200, 200), tile=80)
    assert (refusal.value.field, refusal.value.limit) == ("tile", 1e-9)


def test_files_are_limited_in_pixels_too(tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    Image.fromarray(drawn(100, 200)).save(path)
    bundle = write_colour_bundle(tmp_path / "model.onnx")
    with Segmenter.load(bundle, threads=1, max_pixels=19_999) as segmenter:
        with pytest.raises(DataError, match=r"photo\.png: has 200x100 pixels, more than 19999"):
            segmenter.segment(path)
        with pytest.raises(RequestError, match="more than 19999"):
            segmenter.segment(path.read_bytes())
