from typing import Any

import pytest
import torch
from torch import Tensor, nn

from training.networks.backbones import Backbone
from training.networks.depthwise import DilatedDepthwise, replace_dilated_depthwise

CASES = [
    {"kernel_size": 3, "padding": 2, "dilation": 2},
    {"kernel_size": 5, "padding": 4, "dilation": 2, "bias": False},
    {"kernel_size": 3, "padding": 0, "dilation": 3},
    {"kernel_size": (3, 5), "padding": (1, 4), "dilation": (1, 2)},
]


def photos(kind: torch.dtype) -> Tensor:
    return torch.rand(2, 4, 9, 11, dtype=kind, generator=torch.Generator().manual_seed(0))


def replaced(convolution: nn.Conv2d) -> nn.Sequential:
    network = nn.Sequential(convolution)
    replace_dilated_depthwise(network)
    return network


@pytest.mark.parametrize("options", CASES)
@pytest.mark.parametrize("learning", [True, False])
def test_outputs_and_gradients_are_those_of_torch(options: dict[str, Any], learning: bool):
    torchs, own = nn.Conv2d(4, 4, groups=4, **options), replaced(nn.Conv2d(4, 4, groups=4, **options))
    own[0].load_state_dict(torchs.state_dict())
    assert isinstance(own[0], DilatedDepthwise)
    results = []
    for network in (torchs, own.train(learning)):
        x = photos(torch.float32).requires_grad_()
        output = network(x)
        output.square().sum().backward()
        results.append([output, x.grad, *(parameter.grad for parameter in network.parameters())])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("options", CASES)
def test_gradients_are_those_of_finite_differences(options: dict[str, Any]):
    network = replaced(nn.Conv2d(4, 4, groups=4, **options)).double()
    weights = {name: weight.detach() for name, weight in network.named_parameters()}

    def call(x: Tensor, *values: Tensor) -> Tensor:
        return torch.func.functional_call(network, dict(zip(weights, values, strict=True)), (x,))

    inputs = [each.requires_grad_() for each in (photos(torch.float64), *weights.values())]
    assert torch.autograd.gradcheck(call, inputs)


def test_weights_learn_where_the_input_needs_no_gradient():
    network = replaced(nn.Conv2d(4, 4, 3, padding=2, dilation=2, groups=4))
    network(photos(torch.float32)).sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize(
    "other",
    [
        nn.Conv2d(4, 4, 3, padding=1, groups=4),  # not dilated
        nn.Conv2d(4, 4, 3, padding=2, dilation=2),  # not depthwise
        nn.Conv2d(4, 8, 3, padding=2, dilation=2, groups=4),
        nn.Conv2d(4, 4, 3, padding=2, dilation=2, groups=4, stride=2),
        nn.Conv2d(4, 4, 3, padding=5, dilation=2, groups=4),
        nn.Conv2d(4, 4, 3, padding=2, dilation=2, groups=4, padding_mode="reflect"),
        nn.Conv2d(4, 4, 3, padding="same", dilation=2, groups=4),
    ],
)
def test_other_convolutions_are_left_alone(other: nn.Conv2d):
    assert type(replaced(other)[0]) is nn.Conv2d


def test_the_default_backbone_has_four():
    backbone = Backbone("tf_efficientnet_lite0", "random")
    assert sum(isinstance(module, DilatedDepthwise) for module in backbone.modules()) == 4
