"""EfficientNets (Tan and Le 2019, https://arxiv.org/abs/1905.11946) as torchvision has them."""

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import efficientnet


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


def efficientnet_b0(
    *, num_classes: int, image_size: int, in_channels: int, dropout: float = 0.2, drop_path: float = 0.2
) -> nn.Module:
    """`drop_path` is the stochastic depth of the last block; earlier blocks have proportionally less."""
    model = efficientnet.efficientnet_b0(num_classes=num_classes, dropout=dropout, stochastic_depth_prob=drop_path)
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1:
            module.__class__ = DepthwiseConv2d
    if in_channels != 3:
        stem = nn.Conv2d(in_channels, 32, 3, 2, 1, bias=False)
        nn.init.kaiming_normal_(stem.weight, mode="fan_out")
        model.features[0][0] = stem
    network: nn.Module = model
    return network
