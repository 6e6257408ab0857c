"""Backbones: any network of timm by name that has feature maps of photos of any size: CNNs and vision transformers."""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional

from tagmask.errors import ConfigError
from training.networks.depthwise import replace_dilated_depthwise
from training.networks.weights import Weights, load_weights

STRIDE = 16
"""Largest stride of the maps that are used, where there are three; deeper stages are dilated instead where the
architecture allows."""

OPTIONS: Sequence[Mapping[str, Any]] = (
    {"output_stride": STRIDE},
    {"dynamic_img_size": True},
    {"strict_img_size": False},
    {},
)
"""Arguments by which networks of timm keep to STRIDE, or take photos of any size; no network takes more than one."""

WORKING = "such as resnet50, convnext_tiny or vit_small_patch14_dinov2"


class Backbone(nn.Module):
    """Three feature maps of a network of timm, on 0..255 RGB photos: the deepest of stride 16 or less, if there are
    three; of a transformer with one stride, those after each third of its blocks.

    The normalization of photos is inside. Batch-norm statistics are frozen, as batches are small. With pretrained
    weights its affine terms are frozen too, and the stages up to stride 4, or else up to the first map: generic edges
    and colours, and more than half of the cost.
    Networks without batch norm leave the scale of their features to a norm before their classifier; their maps are
    normalized over channels here. Networks that take only sides that are multiples of a number, such as the side of a
    patch, get photos resized to the nearest ones.

    Attributes: `channels` (3 widths, shallow to deep), `strides` (3, ascending), `multiple` of sides, pixels.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, name: str, weights: Weights = None) -> None:
        """Build `name`. Weights: "random", or those of `training.networks.weights.load_weights`.

        Raises ConfigError if timm has no such network, if it has no feature maps for photos of any size, and as
        `load_weights` does.
        """
        super().__init__()
        if not timm.is_model(name):
            close = get_close_matches(name, timm.list_models(), n=5, cutoff=0)
            raise ConfigError(f"backbone: timm has no network named '{name}'; close names: {', '.join(close)}")
        self.network, self.multiple = _feature_network(name)
        known = timm.get_pretrained_cfg(name, allow_unregistered=True)
        mean, std = (known.mean, known.std) if known else ((0.5,) * 3, (0.5,) * 3)
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1) * 255)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1) * 255)
        if weights != "random":
            load_weights(self.network, name, weights)
        replace_dilated_depthwise(self.network)
        self._info = self.network.feature_info
        if weights != "random":
            self.freeze_shallow()
        self.channels: list[int] = self._info.channels()
        self.strides: list[int] = self._info.reduction()
        self._has_batch_norm = bool(_norms(self.network))

    def freeze_shallow(self) -> None:
        """Freeze the stages up to stride 4, or else up to the first map, and all batch norm."""
        for norm in _norms(self.network):
            norm.requires_grad_(False)
        shallow = [level["module"] for level in self._info.info if level["reduction"] <= 4]
        shallow = shallow or self._info.module_name()[:1]
        modules = list(self.network.named_modules())  # in the order of the forward pass
        inside = [i for i, (name, _) in enumerate(modules) if _within(name, shallow[-1])]
        for _, module in modules[: max(inside, default=-1) + 1]:
            for parameter in module.parameters(recurse=False):  # a container may hold deeper stages too
                parameter.requires_grad_(False)

    def train(self, mode: bool = True) -> "Backbone":
        super().train(mode)
        for norm in _norms(self.network):
            norm.eval()
        return self

    def forward(self, photos: Tensor) -> list[Tensor]:
        """Photos (B, 3, H, W) float, 0..255 RGB -> three maps (B, C_i, H / s_i, W / s_i), shallow to deep.

        Sides are at least `multiple`.
        """
        inputs = (photos - self.mean) / self.std
        if self.multiple > 1:
            size = [(side + self.multiple // 2) // self.multiple * self.multiple for side in inputs.shape[2:]]
            inputs = functional.interpolate(inputs, size, mode="bilinear", align_corners=False)
        maps: list[Tensor] = self.network(inputs)
        return maps if self._has_batch_norm else [_layer_norm(each) for each in maps]


def as_input(photos: Tensor) -> Tensor:
    """Photos (B, 3, H, W) uint8 -> float, channels last: the input of networks."""
    return photos.float().contiguous(memory_format=torch.channels_last)


def _within(name: str, stage: str) -> bool:
    """Whether module `name` is `stage` or lies in it; timm writes "stages.0", "stages_0" or "model.stages.0"."""
    return f"{name.removeprefix('model.')}.".replace(".", "_").startswith(f"{stage}.".replace(".", "_"))


def _feature_network(name: str) -> tuple[Any, int]:
    """The feature part of `name`, with random weights, and the number whose multiples its photos' sides must be."""
    for options in OPTIONS:
        try:
            probe: Any = timm.create_model(name, features_only=True, **options)
        except Exception as fault:  # timm's networks have no exception of their own for arguments that they lack
            reason = fault
            continue
        levels = _levels([level["reduction"] for level in probe.feature_info.info])
        if len(levels) < 3:
            raise ConfigError(f"backbone: '{name}' has fewer than three feature maps; choose another, {WORKING}")
        network: Any = timm.create_model(name, features_only=True, out_indices=levels, **options)
        if getattr(network, "output_fmt", None) == "NHWC":
            network.register_forward_hook(_channels_first)
        return network, _multiple(network, name)
    raise ConfigError(f"backbone: '{name}' has no feature maps ({reason}); choose another, {WORKING}") from reason


def _levels(strides: list[int]) -> tuple[int, ...]:
    """Which three of the maps with these strides, shallow to deep, to use."""
    count = len(strides)
    if count > 3 and len(set(strides)) == 1:
        return tuple(count * third // 3 - 1 for third in (1, 2, 3))
    used = [level for level, stride in enumerate(strides) if stride <= STRIDE]
    return tuple((used if len(used) >= 3 else range(count))[-3:])


@torch.no_grad()
def _multiple(network: Any, name: str) -> int:
    """The least of a few numbers such that `network` takes photos whose sides are multiples of it."""
    network.eval()
    for multiple in (1, network.feature_info.reduction()[-1], 2 * STRIDE):
        height, width = (33, 47) if multiple == 1 else (3 * multiple, 5 * multiple)
        try:
            maps = network(torch.zeros(1, 3, height, width))
        except Exception as fault:  # timm's networks have no exception of their own for sizes that they do not take
            reason = fault
            continue
        if [each.shape[1] for each in maps if each.ndim == 4] != network.feature_info.channels():
            raise ConfigError(f"backbone: '{name}' has other maps than timm states; choose another, {WORKING}")
        network.train()
        return multiple
    raise ConfigError(
        f"backbone: '{name}' does not take photos of any size ({reason}); choose another, {WORKING}"
    ) from reason


def _channels_first(network: nn.Module, inputs: Any, maps: list[Tensor]) -> list[Tensor]:
    """A forward hook: maps (B, h, w, C) as (B, C, h, w)."""
    return [each.permute(0, 3, 1, 2) for each in maps]


def _layer_norm(features: Tensor) -> Tensor:
    """Features (B, C, h, w), of mean 0 and deviation 1 over the channels of each place."""
    return functional.layer_norm(features.permute(0, 2, 3, 1), features.shape[1:2]).permute(0, 3, 1, 2)


def read_state(file: Path) -> dict[str, Tensor]:
    """The state dict in a .pt, .pth or .safetensors file, on the CPU."""
    if file.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(file)
    return torch.load(file, map_location="cpu", weights_only=True)


def _norms(network: nn.Module) -> list[nn.Module]:
    return [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
