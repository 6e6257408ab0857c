import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper
from pydantic import ValidationError

from tagmask.errors import ConfigError
from tests.training.conftest import Tagged
from training.config import TrainConfig
from training.networks.normalization import NORMALIZATIONS
from training.networks.saliency import OnnxSaliency
from training.stages.background_detection import region_saliency
from training.stages.saliency import (
    TRIAL_PHOTOS,
    Saliency,
    SaliencyConfig,
    compute_saliency,
    read,
    try_normalizations,
)
from training.stages.superpixels import Superpixels

CONFIG = SaliencyConfig()
IMAGENET, UNIT = NORMALIZATIONS["imagenet"], NORMALIZATIONS["unit"]


def blocks(height: int, width: int, side: int) -> np.ndarray:
    """Square regions of `side` pixels: (height, width) int32."""
    across = -(-width // side)
    rows, columns = np.indices((height, width)) // side
    return (rows * across + columns).astype(np.int32)


def irregular(seed: int, count: int, height: int, width: int) -> np.ndarray:
    """Connected regions of very unequal sizes (Voronoi cells of random points): (height, width) int32."""
    points = np.random.default_rng(seed).uniform(0, 1, (count, 2)) ** 2 * (height, width)
    pixels = np.indices((height, width)).reshape(2, -1).T
    nearest = ((pixels[:, None] - points) ** 2).sum(-1).argmin(1)
    return np.unique(nearest, return_inverse=True)[1].reshape(height, width).astype(np.int32)


def textured(low: int, high: int, shape: tuple[int, int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(low, high, (*shape, 3), np.uint8)


def object_on_grass() -> tuple[np.ndarray, np.ndarray]:
    """A red disc on green texture, off centre: photo (96, 128, 3) and mask (96, 128)."""
    photo = textured(20, 90, (96, 128))
    photo[..., 1] += 80
    row, column = np.indices((96, 128))
    mask = (row - 40) ** 2 + (column - 80) ** 2 < 20**2
    photo[mask] = textured(20, 60, (96, 128), 1)[mask] + np.array([150, 0, 0], np.uint8)
    return photo, mask


def test_an_object_stands_out_from_a_textured_background() -> None:
    photo, mask = object_on_grass()
    regions = blocks(96, 128, 8)
    saliency = compute_saliency(photo, regions, CONFIG)
    assert saliency.shape == (96, 128)
    assert saliency.dtype == np.uint8
    assert saliency[mask].mean() > saliency[~mask].mean() + 150


def test_unequal_regions_serve_as_well() -> None:
    photo, mask = object_on_grass()
    regions = irregular(3, 200, 96, 128)
    regions = np.unique(regions * 2 + mask, return_inverse=True)[1].reshape(mask.shape).astype(np.int32)
    saliency = region_saliency(photo, regions, CONFIG)[regions]
    assert saliency[mask].mean() > saliency[~mask].mean() + 0.6


def test_grass_between_the_legs_is_background_and_the_animal_that_touches_the_border_is_not() -> None:
    """The patch between the legs reaches the border on 4 pixels alone, so what it is follows from the grass beyond."""
    photo = textured(0, 40, (80, 80))
    photo[..., 1] += 110
    animal = np.zeros((80, 80), bool)
    animal[30:56, 16:64] = animal[56:, 32:36] = animal[56:, 40:44] = True
    photo[animal] = (200, 30, 30)
    saliency = compute_saliency(photo, blocks(80, 80, 4), CONFIG)
    assert saliency[56:, 36:40].mean() < 50
    assert saliency[30:56, 16:64].mean() > 200


def test_a_region_follows_the_neighbour_with_which_it_shares_most_boundary() -> None:
    """A bar of a colour half-way between animal and ground, inside the one or the other but for its end."""
    photo = np.full((80, 80, 3), 100, np.uint8)
    photo[20:60, 20:60] = (150, 100, 100)
    regions = np.zeros((80, 80), np.int32)
    regions[20:60, 20:60] = 1
    inside, outside = (slice(38, 42), slice(20, 36)), (slice(38, 42), slice(4, 20))
    saliency = []
    for bar in (inside, outside):
        shown, cut = photo.copy(), regions.copy()
        shown[bar], cut[bar] = (125, 100, 100), 2
        saliency.append(region_saliency(shown, cut, CONFIG)[2])
    assert saliency[0] > saliency[1] + 0.3


def test_a_speck_weighs_little_against_what_surrounds_it() -> None:
    photo = np.full((80, 80, 3), 100, np.uint8)
    photo[24:56, 24:56] = (160, 80, 80)
    regions = blocks(80, 80, 8)
    photo[10:12, 42:44] = (160, 80, 80)
    regions[10:12, 42:44] = 100
    saliency = region_saliency(photo, regions, CONFIG)
    assert saliency[100] < 0.7 * saliency[regions[40, 40]]


def test_cutting_a_background_region_finer_changes_little() -> None:
    """Regions weigh by their pixels: one large background region says what its 64 pieces say."""
    photo = np.full((96, 96, 3), (90, 90, 90), np.uint8)
    photo[40:56, 40:56] = (220, 40, 40)
    photo[:, 72:] = (90, 90, 130)
    fine = blocks(96, 96, 8)
    coarse = fine.copy()
    coarse[:, 72:] = fine[0, 72]
    coarse = np.unique(coarse, return_inverse=True)[1].reshape(fine.shape)
    change = region_saliency(photo, fine, CONFIG)[fine] - region_saliency(photo, coarse, CONFIG)[coarse]
    assert np.abs(change).max() < 0.05


@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 40), height=st.integers(1, 40), width=st.integers(1, 40))
def test_any_photo_has_a_saliency_that_ignores_how_regions_are_numbered(
    seed: int, count: int, height: int, width: int
) -> None:
    random = np.random.default_rng(seed)
    photo = random.integers(0, 256, (height, width, 3), np.uint8)
    regions = irregular(seed, count, height, width)
    saliency = region_saliency(photo, regions, CONFIG)
    assert saliency.shape == (regions.max() + 1,)
    assert saliency.dtype == np.float32
    assert saliency.min() == 0
    assert saliency.max() in (0, 1)
    order = random.permutation(regions.max() + 1)
    np.testing.assert_allclose(region_saliency(photo, order[regions], CONFIG)[order], saliency, atol=1e-4)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("photo", "regions"),
    [
        (textured(0, 255, (30, 40)), np.zeros((30, 40), np.int32)),
        (np.full((30, 40, 3), (201, 31, 77), np.uint8), irregular(1, 30, 30, 40)),
        (np.full((30, 40, 3), 77, np.uint8), blocks(30, 40, 20)),
        (np.zeros((1, 1, 3), np.uint8), np.zeros((1, 1), np.int32)),
    ],
    ids=["one region", "one colour", "border regions only", "one pixel"],
)
def test_nothing_stands_out_where_there_is_nothing_to_compare(photo: np.ndarray, regions: np.ndarray) -> None:
    assert not compute_saliency(photo, regions, CONFIG).any()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("bound", ["ge", "le"])
def test_settings_at_their_limits_give_a_saliency(bound: str) -> None:
    limits = {
        name: getattr(limit, bound)
        for name, field in SaliencyConfig.model_fields.items()
        for limit in field.metadata
        if hasattr(limit, bound)
    }
    assert len(limits) == 4
    photo, _ = object_on_grass()
    saliency = region_saliency(photo, blocks(96, 128, 8), SaliencyConfig(**limits))
    assert saliency.min() == 0
    assert saliency.max() == 1


def test_unknown_and_out_of_range_settings_are_refused() -> None:
    for settings in ({"sigma": 1}, {"sigma_color": 0}, {"mu": -1}):
        with pytest.raises(ValidationError):
            SaliencyConfig.model_validate(settings)


Shape = list[int | str]


def write_network(
    path: Path,
    size: Shape,
    channels: int = 1,
    bias: float = 0,
    kind: int = TensorProto.FLOAT,
    image: int = 3,
    metadata: dict[str, str] | None = None,
    sides: int = 1,
) -> Path:
    """A real network: its first map is the normalized red channel + `bias`, those of its `sides` minus that."""
    weight = np.zeros((channels, image, 1, 1), np.float32)
    weight[:, 0] = 1
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    nodes = [
        helper.make_node("Conv", ["image", "weight", "bias"], ["red"]),
        *(helper.make_node("Neg", ["red"], [f"side{number}"]) for number in range(sides)),
    ]
    graph = helper.make_graph(
        nodes,
        "saliency",
        [helper.make_tensor_value_info("image", kind, [1, image, *size])],
        [
            helper.make_tensor_value_info(name, kind, None)
            for name in ("red", *(f"side{number}" for number in range(sides)))
        ],
        [
            onnx.numpy_helper.from_array(weight.astype(dtype), "weight"),
            onnx.numpy_helper.from_array(np.full(channels, bias, dtype), "bias"),
        ],
    )
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    helper.set_model_props(model, metadata or {})
    onnx.save(model, path)
    return path


def red_to_the_right(height: int, width: int) -> np.ndarray:
    """Red rises from left to right, green falls, blue is full: (height, width, 3) uint8."""
    ramp = np.broadcast_to(np.linspace(0, 200, width).round().astype(np.uint8), (height, width))
    return np.stack([ramp, 200 - ramp, np.full_like(ramp, 255)], axis=2)


@pytest.mark.parametrize("size", [[32, 48], ["height", "width"]], ids=["fixed", "dynamic"])
def test_a_network_gives_its_first_map_at_the_photos_size(tmp_path: Path, size: Shape) -> None:
    network = OnnxSaliency(write_network(tmp_path / "red.onnx", size))
    saliency = network(red_to_the_right(50, 70), UNIT)
    assert saliency.shape == (50, 70)
    assert saliency.dtype == np.float32
    np.testing.assert_allclose(saliency, np.broadcast_to(np.linspace(0, 200 / 255, 70), (50, 70)), atol=0.03)


def test_a_network_sees_a_normalized_photo(tmp_path: Path) -> None:
    """A Relu on the normalized red channel is zero up to where red equals the mean."""
    path = write_network(tmp_path / "red.onnx", [16, 16])
    model = onnx.load(path)
    model.graph.node.append(helper.make_node("Relu", ["red"], ["above_mean"]))
    model.graph.output[0].name = "above_mean"
    onnx.save(model, path)
    saliency = OnnxSaliency(path)(red_to_the_right(16, 256), NORMALIZATIONS["isnet"])
    assert not saliency[:, :140].any()  # red up to 110 of 255
    assert saliency[:, 190:].min() > 0.03  # red from 149


def test_the_network_replaces_the_regions(tmp_path: Path) -> None:
    network = partial(OnnxSaliency(write_network(tmp_path / "red.onnx", [32, 48])), normalization=UNIT)
    photo = red_to_the_right(50, 70)
    saliency = compute_saliency(photo, np.zeros((50, 70), np.int32), CONFIG, network)
    np.testing.assert_array_equal(saliency, (network(photo) * 255).round())


def test_a_map_is_not_stretched_so_that_noise_stays_noise(tmp_path: Path) -> None:
    network = OnnxSaliency(write_network(tmp_path / "red.onnx", [32, 32]))
    saliency = network(textured(0, 20, (20, 30)), UNIT)
    assert 0 < saliency.max() < 0.08  # red is at most 19 of 255


def test_logits_become_probabilities(tmp_path: Path) -> None:
    """Red of 0 to 200 is normalized to -2.1 to 1.3."""
    network = OnnxSaliency(write_network(tmp_path / "red.onnx", [32, 256]))
    saliency = network(red_to_the_right(32, 256), IMAGENET)
    assert saliency.min() == pytest.approx(1 / (1 + np.exp(2.12)), abs=0.01)
    assert saliency.max() == pytest.approx(1 / (1 + np.exp(-1.31)), abs=0.01)


def test_the_normalization_is_known_by_metadata_or_by_the_family(tmp_path: Path) -> None:
    def known(sides: int, metadata: dict[str, str] | None = None) -> str | None:
        path = write_network(tmp_path / "red.onnx", [8, 8], sides=sides, metadata=metadata)
        choice = OnnxSaliency(path).known_normalization()
        return choice.name if choice else None

    assert [known(sides) for sides in (0, 1, 6, 11)] == [None, None, "u2net", "isnet"]
    assert known(11, {"mean": "[0, 0, 0]", "std": "[1, 1, 1]"}) == "metadata"
    with pytest.raises(ConfigError, match=r"red\.onnx: in its metadata, 'std' is absent; .*saliency\.normalization"):
        known(1, {"mean": "[0, 0, 0]"})


def test_an_unknown_network_gets_the_normalization_that_follows_unsupervised_saliency(tmp_path: Path) -> None:
    """The network answers where the normalized red is near 0.4, as it is on the disc with IS-Net's normalization."""
    path = write_network(tmp_path / "red.onnx", [96, 128], bias=-0.4)
    model = onnx.load(path)
    far = [("Abs", "red", "far"), ("Neg", "far", "near"), ("Exp", "near", "map")]
    model.graph.node.extend(helper.make_node(kind, [one], [other]) for kind, one, other in far)
    model.graph.output[0].name = "map"
    onnx.save(model, path)
    photo, mask = object_on_grass()
    photo[mask, 0] = 230
    choice = try_normalizations(OnnxSaliency(path), [(photo, mask.astype(np.float32))])
    assert choice.name == "isnet"
    assert choice.normalization == NORMALIZATIONS["isnet"]
    assert choice.why.startswith("agrees best with unsupervised saliency on 1 photo: isnet 0.")
    assert all(name in choice.why for name in ("imagenet", "symmetric", "unit"))


def test_the_normalization_is_chosen_once_and_told(tmp_path: Path, tagged: Tagged, small: TrainConfig) -> None:
    data, run, path = tagged(12), tmp_path / "run", write_network(tmp_path / "red.onnx", [16, 16])
    for photo in data.photos:
        Superpixels.of(small, 0).prepare(run, data.classes)(photo)
    stage = replace(Saliency.of(small, 0), settings=SaliencyConfig(network=path))
    figures = stage.begin(data, run)
    assert figures["why"].startswith(f"agrees best with unsupervised saliency on {TRIAL_PHOTOS} photos: ")
    stage.prepare(run, data.classes)(data.photos[0])
    assert read(data.photos[0], run).std() > 0
    chosen = json.loads((run / "saliency/normalization.json").read_text())
    assert chosen["name"] == figures["normalization"]
    (run / "saliency/normalization.json").write_text(json.dumps(chosen | {"why": "before"}))
    assert stage.begin(data, run)["why"] == "before"


def test_a_setting_and_the_unsupervised_saliency_need_no_trial(
    tmp_path: Path, tagged: Tagged, small: TrainConfig
) -> None:
    data, path = tagged(2), write_network(tmp_path / "red.onnx", [16, 16], metadata={"mean": "?"})
    assert Saliency.of(small, 0).begin(data, tmp_path / "run") == {}
    stage = replace(Saliency.of(small, 0), settings=SaliencyConfig(network=path, normalization="symmetric"))
    assert stage.begin(data, tmp_path / "run") == {
        "normalization": "symmetric", "why": "set by saliency.normalization"
    }  # fmt: skip


def test_files_that_are_no_saliency_network_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("not a network")
    write_network(tmp_path / "classes.onnx", [8, 8], channels=21)
    write_network(tmp_path / "grey.onnx", [8, 8], image=1)
    write_network(tmp_path / "half.onnx", [8, 8], kind=TensorProto.FLOAT16)
    write_network(tmp_path / "nan.onnx", [8, 8], bias=float("nan"))
    for name in ("absent", "text", "classes", "grey", "half", "nan"):
        with pytest.raises(ConfigError, match=rf"{name}\.onnx: .*(expected an ONNX saliency network|another network)"):
            OnnxSaliency(tmp_path / f"{name}.onnx")


def test_contrast_counts_near_regions_more_than_far_ones() -> None:
    """Of two yellow objects, the one on blue ground stands out more than the one on green, which is more alike."""
    photo = np.zeros((60, 240, 3), np.uint8)
    photo[:, :120], photo[:, 120:] = (40, 60, 200), (120, 200, 60)
    regions = np.zeros((60, 240), np.int32)
    regions[:, 120:] = 1
    for number, left in ((2, 50), (3, 170)):
        photo[:20, left : left + 20], regions[:20, left : left + 20] = (220, 220, 40), number
    saliency = region_saliency(photo, regions, SaliencyConfig(sigma_color=1, mu=0.001))
    assert saliency[2] > saliency[3] + 0.5
