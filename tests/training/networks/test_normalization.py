import numpy as np
import pytest

from training.networks.normalization import NORMALIZATIONS, Normalization, normalization_in


def test_a_photo_is_scaled_and_normalized_by_channel():
    photo = np.zeros((2, 3, 3), np.uint8)
    photo[..., 0], photo[..., 1] = 51, 102
    image = NORMALIZATIONS["isnet"](photo)
    assert (image.shape, image.dtype) == ((1, 3, 2, 3), np.float32)
    np.testing.assert_allclose(image[0, :, 0, 0], [-0.3, -0.1, -0.5], atol=1e-6)
    by_maximum = NORMALIZATIONS["u2net"](photo)[0, :, 0, 0]  # of a dark photo, whose greatest value is 102
    np.testing.assert_allclose(by_maximum, [(0.5 - 0.485) / 0.229, (1 - 0.456) / 0.224, -0.406 / 0.225], atol=1e-5)
    assert np.isfinite(NORMALIZATIONS["u2net"](np.zeros_like(photo))).all()


@pytest.mark.parametrize(
    "metadata",
    [
        {"image_mean": "[0.5, 0.5, 0.5]", "image_std": "[1, 1, 1]"},
        {"mean": "[127.5, 127.5, 127.5]", "std": "[255, 255, 255]", "author": "someone"},
    ],
)
def test_metadata_give_the_normalization_in_either_unit(metadata):
    assert normalization_in(metadata) == NORMALIZATIONS["isnet"]


def test_metadata_without_it_say_nothing():
    assert normalization_in({"onnx.infer": "onnxruntime.quant"}) is None


@pytest.mark.parametrize(
    ("metadata", "fault"),
    [
        ({"mean": "[0.5, 0.5, 0.5]"}, "'std' is absent"),
        ({"mean": "0.5", "std": "[1, 1, 1]"}, "'mean' is 0.5"),
        ({"mean": "[0, 0]", "std": "[1, 1, 1]"}, r"'mean' is \[0, 0\]"),
        ({"mean": "[0, 0, NaN]", "std": "[1, 1, 1]"}, "'mean' is"),
        ({"image_mean": "[0, 0, 0]", "image_std": "[1, 0, 1]"}, r"'image_std' is \[1, 0, 1\]"),
        ({"mean": "many", "std": "[1, 1, 1]"}, "'mean' is many"),
    ],
)
def test_metadata_that_cannot_be_read_are_refused(metadata, fault):
    with pytest.raises(ValueError, match=fault):
        normalization_in(metadata)


def test_normalizations_are_told_apart():
    assert len(set(NORMALIZATIONS.values())) == len(NORMALIZATIONS)
    assert all(isinstance(each, Normalization) and min(each.std) > 0 for each in NORMALIZATIONS.values())
