from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagmask.bundle import read_bundle, write_bundle
from tagmask.crf import CrfConfig
from tagmask.errors import BundleError, ConfigError, Internal, TimedOut, Unprocessable
from tagmask.prediction import Prediction
from tagmask.segmenter import Segmenter
from tagmask.upsampling import enlarge_mask, select_labels
from tests.tagmask import bad_bundles
from tests.tagmask.bad_bundles import BRIGHT, write_bad_bundle
from tests.training.colour_bundle import COLOURS, colour_model, describe, write_colour_bundle


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory: pytest.TempPathFactory) -> Segmenter:
    path = write_colour_bundle(tmp_path_factory.mktemp("bundle") / "model.onnx")
    return Segmenter.load(path, device="cpu", threads=1)


def mask_of(segmenter: Segmenter, photo: np.ndarray, tags: Sequence[str] = ()) -> np.ndarray:
    return segmenter.predict(photo).mask(segmenter.labels_of(tags))


def probabilities_of(segmenter: Segmenter, photo: np.ndarray) -> np.ndarray:
    """Probabilities at the photo's own size: (labels, H, W) float32."""
    prediction = segmenter.predict(photo)
    return np.stack([cv2.resize(plane, prediction.size[::-1]) for plane in prediction.probabilities])


def paint(mask: Sequence[Sequence[int]], times: int = 1) -> np.ndarray:
    """A photo of each label's own colour, every value `times` pixels wide and high."""
    values = np.kron(np.array(mask), np.ones((times, times), dtype=int))
    return np.array(list(COLOURS.values()), dtype=np.uint8)[values]


def test_each_pixel_gets_the_label_of_its_colour(segmenter: Segmenter):
    mask = np.array([[0, 1, 2], [2, 0, 1]])
    photo = paint(mask, 20)
    np.testing.assert_array_equal(mask_of(segmenter, photo), np.kron(mask, np.ones((20, 20))))
    probabilities = probabilities_of(segmenter, photo)
    assert probabilities.shape == (3, 40, 60)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(axis=0), 1, atol=1e-5)
    np.testing.assert_array_equal(probabilities.argmax(axis=0), mask_of(segmenter, photo))


def test_tags_leave_background_and_themselves(segmenter: Segmenter):
    photo = paint([[0, 1, 2]], 32)
    assert set(np.unique(mask_of(segmenter, photo, ["dog"]))) == {0, 2}
    assert set(np.unique(mask_of(segmenter, photo, ["dog", "cat", "dog"]))) == {0, 1, 2}
    assert set(np.unique(mask_of(segmenter, photo, []))) == {0, 1, 2}
    assert not segmenter.predict(photo).mask((0,)).any()


@pytest.mark.parametrize(
    ("size", "seen"),
    [((200, 160), (80, 64)), ((64, 80), (64, 80)), ((40, 36), (80, 72)), ((10, 20), (40, 80)), ((3, 900), (32, 80))],
)
def test_photos_are_scaled_to_the_working_size_and_sides_kept_above_the_least(
    segmenter: Segmenter, size: tuple[int, int], seen: tuple[int, int]
):
    photo = np.full((*size, 3), COLOURS["cat"], dtype=np.uint8)
    prediction = segmenter.predict(photo)
    assert prediction.probabilities.shape == (3, *seen)
    assert prediction.pixels.shape == (*seen, 3)
    mask = mask_of(segmenter, photo)
    assert mask.shape == size
    assert mask.dtype == np.uint8
    assert (mask == 1).all()
    assert probabilities_of(segmenter, photo).shape == (3, *size)


def test_the_mask_of_a_scaled_photo_is_its_strongest_probability(segmenter: Segmenter):
    photo = paint(np.random.default_rng(0).integers(0, 3, (6, 8)).tolist(), 33)
    mask = mask_of(segmenter, photo)
    np.testing.assert_array_equal(mask, probabilities_of(segmenter, photo).argmax(axis=0))
    assert set(np.unique(mask)) == {0, 1, 2}


@pytest.mark.parametrize("crf", [None, CrfConfig()])
def test_refinement_takes_away_what_the_colours_do_not_show(crf: CrfConfig | None):
    random = np.random.default_rng(0)
    truth = np.zeros((40, 60), dtype=int)
    truth[10:30, 20:40] = 1
    noisy = np.where(random.random(truth.shape) < 0.15, 1 - truth, truth)
    probabilities = np.where(np.arange(2)[:, None, None] == noisy, 0.7, 0.3).astype(np.float32)
    prediction = Prediction(paint(truth.tolist()), probabilities, (80, 120))
    refined = prediction.mask((0, 1), crf=crf)
    assert refined.shape == (80, 120)
    assert (refined != np.kron(truth, np.ones((2, 2)))).mean() < 0.2 * (noisy != truth).mean()


@given(st.integers(2, 5), st.data())
def test_a_mask_holds_only_its_labels_and_unrefined_the_strongest_of_them(count: int, data: st.DataObject):
    labels = sorted(data.draw(st.sets(st.integers(1, count - 1)))) if count > 1 else []
    seed = data.draw(st.integers(0, 1000))
    raw = np.random.default_rng(seed).random((count, 5, 7), dtype=np.float32) ** 8
    probabilities = raw / raw.sum(axis=0)
    prediction = Prediction(np.zeros((5, 7, 3), np.uint8), probabilities, (5, 7))
    chosen = (0, *labels)
    assert set(np.unique(prediction.mask(chosen))) <= set(chosen)
    mask = enlarge_mask(prediction.select(chosen, tagged=True), chosen, prediction.size)
    strongest = np.take_along_axis(probabilities, mask[None].astype(int), axis=0)[0]
    np.testing.assert_array_equal(strongest, probabilities[list(chosen)].max(axis=0))
    np.testing.assert_allclose(select_labels(probabilities, chosen).sum(axis=0), 1, atol=1e-5)


def test_labels_that_are_impossible_everywhere_share_evenly():
    probabilities = np.zeros((3, 1, 1), dtype=np.float32)
    probabilities[2] = 1
    assert select_labels(probabilities, (0, 1)).ravel().tolist() == [0.5, 0.5]


@pytest.mark.parametrize("tag", ["zebra", "background", ""])
def test_an_unknown_tag(segmenter: Segmenter, tag: str):
    with pytest.raises(Unprocessable, match="it knows cat, dog"):
        segmenter.labels_of(["cat", tag])


def test_a_device_that_is_not_there(tmp_path: Path):
    path = write_colour_bundle(tmp_path / "model.onnx")
    with pytest.raises(ConfigError, match="auto, cpu, cuda"):
        Segmenter.load(path, device="tpu")


def test_any_machine_has_a_device(tmp_path: Path):
    segmenter = Segmenter.load(write_colour_bundle(tmp_path / "model.onnx"), threads=1)
    assert (mask_of(segmenter, paint([[2]], 40)) == 2).all()


def test_metadata_that_promises_another_output(tmp_path: Path):
    path = tmp_path / "model.onnx"
    write_bundle(path, colour_model("scores_of_nothing"), describe())
    with pytest.raises(BundleError, match="names 'probabilities', the network has") as caught:
        Segmenter.load(path, device="cpu")
    assert str(path) in str(caught.value)


def test_a_network_that_cannot_run(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    path = tmp_path / "model.onnx"
    model = colour_model()
    model.graph.node[0].op_type = "Convoluted"
    write_bundle(path, model, describe())
    with pytest.raises(BundleError, match="Convoluted"):
        Segmenter.load(path, device="cpu")
    with pytest.raises(BundleError, match="cannot load it") as caught:
        Segmenter(read_bundle(path, checked=False), device="cpu")
    assert str(path) in str(caught.value)
    assert capfd.readouterr() == ("", "")
    assert isinstance(onnx.load(path), onnx.ModelProto)


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (bad_bundles.infinite_on_bright(), "gives values that are not probabilities with sum 1"),
        (bad_bundles.short_on_bright(), r"gives an output of shape \(1, 3, 79, 80\) instead of \(1, 3, 80, 80\)"),
        (bad_bundles.failing_on_bright(), "cannot be run"),
    ],
)
def test_a_network_that_fails_for_some_photos(tmp_path: Path, model: onnx.ModelProto, why: str):
    segmenter = Segmenter.load(write_bad_bundle(tmp_path / "model.onnx", model), device="cpu")
    assert mask_of(segmenter, np.full((9, 9, 3), BRIGHT, np.uint8)).shape == (9, 9)
    with pytest.raises(Internal, match=f"model bad0bad0bad0: the network {why} for this photo") as caught:
        mask_of(segmenter, np.full((9, 9, 3), 255, np.uint8))
    assert caught.value.code == "model_failed"


def test_a_network_that_does_not_end_for_some_photos(tmp_path: Path):
    bundle = read_bundle(write_bad_bundle(tmp_path / "model.onnx", bad_bundles.endless_on_bright()))
    segmenter = Segmenter(bundle, device="cpu", seconds=0.5)
    with pytest.raises(TimedOut, match=r"takes longer than 0\.5 s"):
        mask_of(segmenter, np.full((9, 9, 3), 255, np.uint8))
    assert mask_of(segmenter, np.full((9, 9, 3), BRIGHT, np.uint8)).shape == (9, 9)


def test_a_warm_up_that_does_not_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tagmask.network.WARM_UP_SECONDS", 0.5)
    with pytest.raises(BundleError, match=r"takes more than 0\.5 s to load and warm up"):
        Segmenter.load(write_bad_bundle(tmp_path / "model.onnx", bad_bundles.endless()), device="cpu")


def test_a_photo_that_is_scaled_down_takes_crf(tmp_path: Path):
    segmenter = Segmenter.load(write_colour_bundle(tmp_path / "model.onnx", working_size=40), device="cpu")
    photo = np.full((60, 80, 3), COLOURS["cat"], dtype=np.uint8)
    prediction = segmenter.predict(photo)
    assert (prediction.mask(segmenter.labels_of(["cat"]), crf=CrfConfig()) == 1).all()
    assert (prediction.mask((0, 1), (7, 9), CrfConfig()) == np.ones((7, 9))).all()
