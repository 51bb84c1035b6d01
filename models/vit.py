"""Vision Transformers (Dosovitskiy et al. 2020, https://arxiv.org/abs/2010.11929) as torchvision has them, and smaller.

The tiny and small ones are those of DeiT (Touvron et al. 2020, https://arxiv.org/abs/2012.12877).
"""

from dataclasses import dataclass

from torch import Tensor, nn
from torchvision.models.vision_transformer import EncoderBlock, VisionTransformer
from torchvision.ops import StochasticDepth


@dataclass(frozen=True, kw_only=True)
class Shape:
    """The size of a transformer: the side of a patch in pixels, layers, attention heads, widths."""

    patch: int
    layers: int
    heads: int
    width: int
    mlp: int


SHAPES = {
    "vit_tiny_16": Shape(patch=16, layers=12, heads=3, width=192, mlp=768),
    "vit_small_16": Shape(patch=16, layers=12, heads=6, width=384, mlp=1536),
    "vit_b_16": Shape(patch=16, layers=12, heads=12, width=768, mlp=3072),
    "vit_b_32": Shape(patch=32, layers=12, heads=12, width=768, mlp=3072),
    "vit_l_16": Shape(patch=16, layers=24, heads=16, width=1024, mlp=4096),
    "vit_cifar": Shape(patch=4, layers=7, heads=12, width=384, mlp=384),  # github.com/omihub777/ViT-CIFAR
}


class DropPathBlock(EncoderBlock):  # type: ignore[misc]
    """torchvision's block, with stochastic depth on both of its branches."""

    drop_path: StochasticDepth

    def forward(self, x: Tensor) -> Tensor:
        y = self.ln_1(x)
        x = x + self.drop_path(self.dropout(self.self_attention(y, y, y, need_weights=False)[0]))
        output: Tensor = x + self.drop_path(self.mlp(self.ln_2(x)))
        return output


def build(name: str, *, num_classes: int, image_size: int, dropout: float = 0.0, drop_path: float = 0.0) -> nn.Module:
    """`drop_path` is the stochastic depth of the last block, rising from 0 at the first."""
    shape = SHAPES[name]
    network = VisionTransformer(
        image_size=image_size,
        patch_size=shape.patch,
        num_layers=shape.layers,
        num_heads=shape.heads,
        hidden_dim=shape.width,
        mlp_dim=shape.mlp,
        dropout=dropout,
        num_classes=num_classes,
    )
    # torchvision's zeros would keep the gradient of the first step in the head
    nn.init.trunc_normal_(network.heads.head.weight, std=0.02)
    blocks = [module for module in network.modules() if isinstance(module, EncoderBlock)]
    for index, block in enumerate(blocks):
        block.__class__ = DropPathBlock
        block.drop_path = StochasticDepth(drop_path * index / (len(blocks) - 1), mode="row")
    module: nn.Module = network
    return module
