from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from tagmask.errors import ConfigError, DataError
from tagmask.masks import VOID
from training.datasets.photos import Photo
from training.stages import superpixels
from training.stages.pooling import average, label_shares
from training.stages.saliency import Saliency, SaliencyConfig
from training.stages.superpixels import Superpixels, SuperpixelsConfig


def regions_of(shape: tuple[int, int], count: int, seed: int) -> np.ndarray:
    """Random superpixel ids 0..R-1 without gaps: (H, W) int32."""
    _, flat = np.unique(np.random.default_rng(seed).integers(0, count, shape).reshape(-1), return_inverse=True)
    return flat.reshape(shape).astype(np.int32)


REGIONS = st.builds(
    regions_of, st.tuples(st.integers(1, 12), st.integers(1, 12)), st.integers(1, 9), st.integers(0, 10_000)
)


def test_flat_areas_become_one_superpixel_each():
    photo = np.zeros((60, 90, 3), dtype=np.uint8)
    photo[:, 30:60], photo[:, 60:] = (250, 20, 20), (20, 20, 250)
    regions = superpixels.segment(photo, SuperpixelsConfig(sigma=0.0))
    assert regions.dtype == np.int32
    assert regions.shape == (60, 90)
    assert len({int(regions[30, column]) for column in (10, 45, 80)}) == 3
    for column in (10, 45, 80):
        assert (regions[:, column] == regions[0, column]).all()


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 60), st.integers(0, 100))
def test_ids_have_no_gaps_and_each_is_one_connected_piece(height, width, least, seed):
    photo = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    regions = superpixels.segment(photo, SuperpixelsConfig(min_size=least))
    areas = np.bincount(regions.reshape(-1))
    assert (areas > 0).all()
    assert len(areas) == 1 or areas.min() >= least
    for region in range(min(5, len(areas))):
        assert ndimage.label(regions == region, structure=np.ones((3, 3)))[1] == 1


def test_cutting_is_the_same_every_time():
    photo = np.random.default_rng(0).integers(0, 256, (50, 60, 3), dtype=np.uint8)
    config = SuperpixelsConfig()
    assert (superpixels.segment(photo, config) == superpixels.segment(photo, config)).all()


def test_what_is_written_is_read(tmp_path: Path):
    regions = np.arange(2**16, dtype=np.int32).reshape(256, 256)
    photo = Photo("a/r", Path(), ())
    superpixels.write(superpixels.Superpixels.file_of(photo, tmp_path), regions)
    read = superpixels.read(photo, tmp_path)
    assert read.dtype == np.int32
    assert (read == regions).all()
    with pytest.raises(ConfigError, match=r"superpixels\.min_size: .*r\.png has 65,537 superpixels, at most 65,536"):
        superpixels.write(tmp_path / "r.png", np.array([[0, 2**16]], dtype=np.int32))


@settings(max_examples=60, deadline=None)
@given(REGIONS, st.integers(0, 1000))
def test_average_is_the_mean_of_each_superpixel(regions, seed):
    values = np.random.default_rng(seed).normal(size=(2, *regions.shape)).astype(np.float32)
    averages = average(values, regions)
    assert averages.dtype == np.float32
    expected = [[channel[regions == region].mean() for channel in values] for region in range(regions.max() + 1)]
    np.testing.assert_allclose(averages, expected, atol=1e-5)


@settings(max_examples=60, deadline=None)
@given(REGIONS, st.integers(0, 1000), st.integers(1, 4), st.sampled_from([np.uint8, np.int64]))
def test_label_shares_count_pixels_and_no_void(regions, seed, labels, dtype):
    mask = np.random.default_rng(seed).choice([*range(labels), VOID], regions.shape).astype(dtype)
    shares = label_shares(mask, regions, labels)
    expected = [
        [np.mean(mask[regions == region] == label) for label in range(labels)] for region in range(regions.max() + 1)
    ]
    np.testing.assert_allclose(shares, expected, atol=1e-6)


def test_a_photo_that_was_turned_after_it_was_cut_is_named(tmp_path: Path):
    photo = Photo("1", tmp_path / "1.png", ("cat",))
    Image.new("RGB", (60, 40)).save(photo.path)
    Superpixels(0, 60, SuperpixelsConfig()).run(photo, tmp_path, ("cat",))
    Saliency(0, 60, SaliencyConfig()).run(photo, tmp_path, ("cat",))
    Image.new("RGB", (40, 60)).save(photo.path)
    with pytest.raises(DataError, match=r"1\.png: has another size than when the training began; put the first photo"):
        Saliency(0, 60, SaliencyConfig()).run(photo, tmp_path, ("cat",))
