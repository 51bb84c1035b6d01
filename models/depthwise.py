"""Depthwise convolutions that do not compute with padding: what small images need to be fast on a CPU."""

import torch.nn.functional as F
from torch import Tensor, nn


class DepthwiseConv2d(nn.Conv2d):
    """A depthwise convolution that leaves out the taps of its kernel that can only meet padding.

    Same result, same gradients. At 32 px the last maps have 1x1 and 2x2 pixels under 5x5 kernels, on which a CPU would
    spend half of the training.
    """

    def forward(self, x: Tensor) -> Tensor:
        size, kernel, pad, stride = x.shape[-1], self.kernel_size[0], int(self.padding[0]), self.stride[0]
        out = (size + 2 * pad - kernel) // stride + 1
        first = max(pad - stride * (out - 1), 0)  # the first and the last tap that some output uses
        last = min(pad + size - 1, kernel - 1)
        fits = (size + 2 * (pad - first) - (last - first + 1)) // stride + 1 == out
        if x.shape[-2] != size or last - first + 1 == kernel or not fits:
            return super().forward(x)
        weight = self.weight[:, :, first : last + 1, first : last + 1]
        if size == out == 1:
            return x * weight.view(1, -1, 1, 1)
        return F.conv2d(x, weight, None, stride, pad - first, 1, self.groups)


def trim_depthwise(network: nn.Module) -> None:
    """Turns every depthwise convolution of `network` without a bias into a `DepthwiseConv2d`."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1 and module.bias is None:
            module.__class__ = DepthwiseConv2d
