from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import timm
import torch
from huggingface_hub import constants
from safetensors.torch import save, save_file
from torch import Tensor

from tagmask.errors import ConfigError
from tests.training.networks.hub import Hub, serving
from training.networks.backbones import Backbone
from training.networks.weights import initial_weights

TINY = "test_resnet"
REPOSITORY = "timm/test_resnet.r160_in1k"


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    """The state dict of a whole TINY."""
    torch.manual_seed(1)
    return {name: tensor.contiguous() for name, tensor in timm.create_model(TINY).state_dict().items()}


@pytest.fixture
def hub(state: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub that has the weights of TINY, and an empty cache."""
    with serving({f"{REPOSITORY}/model.safetensors": save(state)}) as hub:
        address = f"{hub.address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        yield hub


@pytest.mark.parametrize("weights", ["pretrained", None])
def test_pretrained_weights_are_downloaded_once(hub: Hub, state: dict[str, Tensor], weights: str | None):
    assert_loaded(Backbone(TINY, initial_weights(weights)), state)
    assert [request for request in hub.requests if request.startswith("GET")] == [
        f"GET /{REPOSITORY}/resolve/main/model.safetensors"
    ]
    assert_loaded(Backbone(TINY, "pretrained"), state)
    assert sum(request.startswith("GET") for request in hub.requests) == 1


def test_pretrained_weights_in_the_cache_need_no_connection(
    hub: Hub, state: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
):
    Backbone(TINY, "pretrained")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    before = len(hub.requests)
    assert_loaded(Backbone(TINY, "pretrained"), state)
    assert len(hub.requests) == before


def test_pretrained_weights_out_of_reach(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    remedy = rf"{REPOSITORY}.*not in the cache {tmp_path}/cache .*--weights FILE, or set HF_HOME"
    with pytest.raises(ConfigError, match=remedy):
        Backbone(TINY, "pretrained")


def test_a_network_without_pretrained_weights():
    with pytest.raises(ConfigError, match=r"weights: timm has none for 'resnetblur18'.*--weights FILE"):
        Backbone("resnetblur18")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_file(state: dict[str, Tensor], tmp_path: Path, suffix: str):
    file = tmp_path / f"tiny{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(state, file)  # type: ignore[operator]
    assert_loaded(Backbone(TINY, file), state)


@pytest.mark.parametrize("name", ["test_vit", "test_convnext"])
def test_a_file_of_a_network_whose_feature_part_has_other_names(name: str, tmp_path: Path):
    """timm puts "model." before them, or "_" for a "."."""
    torch.manual_seed(1)
    state = timm.create_model(name).state_dict()
    torch.save(state, tmp_path / "weights.pth")
    loaded = Backbone(name, tmp_path / "weights.pth").network.state_dict()
    whole = {key.replace(".", "_"): tensor for key, tensor in state.items()}
    assert loaded
    for key, tensor in loaded.items():
        assert torch.equal(tensor, whole[key.removeprefix("model.").replace(".", "_")])


WRAPPED: dict[str, Callable[[dict[str, Tensor]], object]] = {
    "checkpoint": lambda state: {"epoch": 3, "state_dict": state, "optimizer": {"lr": 0.1}},
    "model": lambda state: {"model": state},
    "parallel": lambda state: {f"module.{name}": tensor for name, tensor in state.items()},
    "segmenter": lambda state: {
        "state_dict": {f"backbone.{name}": tensor for name, tensor in state.items()}
        | {"decode_head.conv.weight": torch.zeros(3)}
    },
    "two prefixes": lambda state: {f"module.encoder.{name}": tensor for name, tensor in state.items()},
    "other classes": lambda state: state | {"fc.weight": torch.zeros(7, 5), "fc.bias": torch.zeros(7)},
    "no classifier": lambda state: {name: tensor for name, tensor in state.items() if not name.startswith("fc.")},
    "other names": lambda state: {f"tensor {number}": tensor for number, tensor in enumerate(state.values())},
}


@pytest.mark.parametrize("kind", WRAPPED)
def test_state_dicts_as_people_have_them(state: dict[str, Tensor], tmp_path: Path, kind: str):
    file = tmp_path / "weights.pth"
    torch.save(WRAPPED[kind](state), file)
    assert_loaded(Backbone(TINY, file), state)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda state: {name: tensor for name, tensor in state.items() if name != "layer2.0.conv1.weight"}, "layer2.0"),
        (lambda state: state | {"layer9.0.conv1.weight": torch.zeros(1)}, "layer9.0.conv1.weight"),
        (lambda state: state | {"layer1.0.conv1.weight": torch.zeros(1, 2)}, "layer1.0.conv1.weight"),
    ],
)
def test_a_file_of_another_network(
    state: dict[str, Tensor],
    tmp_path: Path,
    change: Callable[[dict[str, Tensor]], dict[str, Tensor]],
    named: str,
):
    torch.save(change(state), tmp_path / "other.pth")
    with pytest.raises(ConfigError, match=rf"weights: .*other\.pth does not fit 'test_resnet' .*{named}"):
        Backbone(TINY, tmp_path / "other.pth")


class Evil:
    """An object whose unpickling would call a function."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("unpickled",)


def test_files_that_are_no_weights(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    with pytest.raises(ConfigError, match=r"weights: no file .*none\.pth"):
        Backbone(TINY, tmp_path / "none.pth")
    for name in ("text.pth", "text.safetensors"):
        (tmp_path / name).write_text("not weights")
        with pytest.raises(ConfigError, match=f"weights: .*{name} does not fit"):
            Backbone(TINY, tmp_path / name)
    for content in ([1, 2], {"conv1.weight": Evil()}):
        torch.save(content, tmp_path / "object.pt")
        with pytest.raises(ConfigError, match=r"object\.pt does not fit"):
            Backbone(TINY, tmp_path / "object.pt")
    assert "unpickled" not in capfd.readouterr().out


def assert_loaded(backbone: Backbone, state: dict[str, Tensor]) -> None:
    loaded = backbone.network.state_dict()
    assert loaded
    for name, tensor in loaded.items():
        assert torch.equal(tensor, state[name])
