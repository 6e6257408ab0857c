"""Probabilities of tags, by a network that tells them: in the mask without tags, and in what is answered."""

import json
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from tagmask.bundle import read_bundle, write_bundle
from tagmask.errors import BundleError, Internal
from tagmask.masks import BACKGROUND
from tagmask.metadata import TAGS
from tagmask.segmenter import Segmenter
from tagmask.tag_weights import MOST, SURE, given_weights
from tests.training.colour_bundle import (
    COLOURS,
    colour_model,
    describe,
    tagged_model,
    write_colour_bundle,
    write_tagged_bundle,
)


def photo(dog: tuple[int, int, int] = COLOURS["dog"]) -> np.ndarray:
    """Background, a cat, and a dog of the colour `dog`."""
    pixels = np.full((60, 80, 3), COLOURS[BACKGROUND], dtype=np.uint8)
    pixels[10:40, 5:30], pixels[10:40, 45:70] = COLOURS["cat"], dog
    return pixels


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Segmenter]:
    """It sees a cat for certain, and hardly a dog, which half of the training photos show."""
    path = write_tagged_bundle(tmp_path_factory.mktemp("bundle") / "model.onnx", (0.99, 0.002), (0.5, 0.5))
    with Segmenter.load(path, device="cpu", threads=1) as segmenter:
        yield segmenter


def faded(by: float) -> np.ndarray:
    """A photo whose dog is `by` of the way to the colour of background."""
    dog, background = np.array(COLOURS["dog"]), np.array(COLOURS[BACKGROUND])
    red, green, blue = np.rint(dog + by * (background - dog)).astype(int).tolist()
    return photo((red, green, blue))


def test_without_tags_an_unlikely_class_needs_surer_pixels(segmenter: Segmenter) -> None:
    assert segmenter.segment(photo()).present == ("cat", "dog")
    assert segmenter.segment(faded(0.47)).present == ("cat",)


def test_given_tags_are_believed(segmenter: Segmenter) -> None:
    assert segmenter.segment(faded(0.47), tags=["dog", "cat"]).present == ("cat", "dog")
    prediction = segmenter.predict(faded(0.47))
    assert (prediction.mask((0, 1, 2), tagged=True) == 2).any()
    assert not (prediction.mask((0, 1, 2)) == 2).any()


@pytest.mark.parametrize(("faded_by", "painted"), [(0.47, True), (0.51, True), (0.53, False)])
def test_a_given_tag_is_painted_on_its_least_area_unless_hardly_seen(
    faded_by: float, painted: bool, tmp_path: Path
) -> None:
    """The dog covers 750 of 4800 pixels."""
    path = write_colour_bundle(tmp_path / "model.onnx", least_areas=(0.1, 0.1))
    with Segmenter.load(path, device="cpu", threads=1) as segmenter:
        result = segmenter.segment(faded(faded_by), tags=["dog"], refine="none")
        assert (result.mask == 2).sum() == (750 if painted else 0)
        assert "dog" not in segmenter.segment(faded(0.51), refine="none").present
        assert "dog" not in segmenter.segment(faded(0.51), tags=["dog"], refine="none", tile=40).present
        assert segmenter.segment(photo(), tags=[]).present == ("cat", "dog")


def test_without_least_areas_a_given_tag_gains_nothing(segmenter: Segmenter) -> None:
    assert segmenter.segment(faded(0.51), tags=["dog"], refine="none").present == ()


@given(arrays(np.int64, (2, 5, 8), elements=st.integers(1, 1000)), st.floats(0, 1))
def test_given_tags_gain_until_their_least_area_is_sure(counts: np.ndarray, area: float) -> None:
    probabilities = (counts / counts.sum(axis=0)).astype(np.float32)
    background, tag = given_weights(probabilities, np.array([area]))
    assert background == 1
    assert 1 <= tag <= MOST
    raised = np.sort(probabilities[1].reshape(-1))[::-1] * tag
    last = int(area * 39)  # of the surest pixels that make up the area
    assert tag == pytest.approx(MOST) or raised[last] >= SURE - 1e-5
    assert tag == 1 or raised[min(last + 1, 39)] <= SURE + 1e-5


@pytest.mark.parametrize("areas", [(0.1,), (0.1, 0.1, 0.1), (0.1, -0.1)])
def test_each_class_has_a_least_area(areas: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="least_areas"):
        describe(least_areas=areas)


def test_the_probabilities_are_told(segmenter: Segmenter) -> None:
    result = segmenter.segment(photo(), tags=["dog"], formats=["json"])
    assert result.tags == {"cat": 0.99, "dog": 0.002}
    assert result.document("json")["tags"] == [
        {"name": "cat", "probability": 0.99},
        {"name": "dog", "probability": 0.002},
    ]
    with Image.open(BytesIO(result.answers["png"])) as image:
        assert json.loads(image.info["tags"]) == {"1": 0.99, "2": 0.002}


def test_a_network_may_have_one_output(colour_bundle: Path) -> None:
    with Segmenter.load(colour_bundle, device="cpu", threads=1) as segmenter:
        result = segmenter.segment(photo(), formats=["json"])
        assert (result.tags, result.document("json")["tags"]) == ({}, [])
        assert segmenter.predict(photo()).weights is None


@pytest.mark.parametrize(
    ("model", "changed", "reason"),
    [
        (colour_model(), {"tags": TAGS, "tag_shares": (0.5, 0.5)}, "names 'probabilities', 'tags', the network has"),
        (tagged_model(0.5, 0.5), {}, r"the network has \['probabilities', 'tags'\]"),
        (tagged_model(0.5, 0.5, 0.5), {"tags": TAGS, "tag_shares": (0.5, 0.5)}, r"must be float32 \(N, 2\)"),
    ],
)
def test_metadata_and_network_must_agree(
    model: onnx.ModelProto, changed: dict[str, object], reason: str, tmp_path: Path
) -> None:
    write_bundle(tmp_path / "model.onnx", model, describe(**changed))
    with pytest.raises(BundleError, match=reason):
        read_bundle(tmp_path / "model.onnx")


@pytest.mark.parametrize("shares", [(), (0.5,), (0.5, 0.5, 0.5), (0.5, 1.5)])
def test_each_class_has_a_share(shares: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="tag_shares"):
        describe(tags=TAGS, tag_shares=shares)


def test_shares_come_with_probabilities() -> None:
    with pytest.raises(ValueError, match="2 tag_shares"):
        describe(tag_shares=(0.5, 0.5))


@pytest.mark.parametrize("probability", [float("nan"), -0.1, 1.1])
def test_a_network_must_tell_probabilities(probability: float, tmp_path: Path) -> None:
    path = write_tagged_bundle(tmp_path / "model.onnx", (0.5, probability), (0.5, 0.5))
    with pytest.raises((BundleError, Internal), match="values that are not probabilities of tags"):
        Segmenter.load(path, device="cpu", threads=1)
