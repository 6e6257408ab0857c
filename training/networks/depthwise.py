"""Dilated depthwise convolution whose gradient of the input is computed by the forward pass's kernel.

On CPUs oneDNN has a fast kernel for the forward pass of such a convolution, but not for its gradients. At stride 1 the
gradient of the input is a convolution as well: that of the output's gradient with the flipped weights.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torch.nn.grad import conv2d_weight


class DilatedDepthwise(nn.Conv2d):
    """A convolution for which `is_dilated_depthwise` holds. On GPUs, and in evaluation mode, it is torch's own."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H', W')."""
        if not (self.training and x.is_cpu):
            return super().forward(x)
        output: Tensor = _Convolution.apply(x, self.weight, self.padding, self.dilation)
        return output if self.bias is None else output + self.bias[:, None, None]


def is_dilated_depthwise(module: nn.Module) -> bool:
    """Whether the module is a depthwise and dilated `nn.Conv2d` of stride 1 whose padding, by zeros, is no wider than
    its kernel reaches.
    """
    return (
        type(module) is nn.Conv2d
        and module.groups == module.in_channels == module.out_channels
        and module.stride == (1, 1)
        and max(module.dilation) > 1
        and module.padding_mode == "zeros"
        and not isinstance(module.padding, str)
        and all(
            padding <= dilation * (side - 1)
            for padding, dilation, side in zip(module.padding, module.dilation, module.kernel_size, strict=True)
        )
    )


def replace_dilated_depthwise(network: nn.Module) -> None:
    """Turn each convolution of `network` for which `is_dilated_depthwise` holds into a `DilatedDepthwise`, in place."""
    for module in network.modules():
        if is_dilated_depthwise(module):
            module.__class__ = DilatedDepthwise


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, padding: tuple[int, int], dilation: tuple[int, int]) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.padding, ctx.dilation = padding, dilation
        return functional.conv2d(x, weight, None, 1, padding, dilation, len(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        x, weight = ctx.saved_tensors
        of_input = of_weight = None
        if ctx.needs_input_grad[0]:
            reach = (d * (side - 1) for d, side in zip(ctx.dilation, weight.shape[2:], strict=True))
            padding = [whole - own for whole, own in zip(reach, ctx.padding, strict=True)]
            of_input = functional.conv2d(gradient, weight.flip(2, 3), None, 1, padding, ctx.dilation, len(weight))
        if ctx.needs_input_grad[1]:
            of_weight = conv2d_weight(x, weight.shape, gradient, 1, ctx.padding, ctx.dilation, len(weight))
        return of_input, of_weight, None, None
