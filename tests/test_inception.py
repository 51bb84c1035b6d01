"""The Inception family: auxiliary heads, stems for small images, any size, the same function as other people's code."""

from importlib import import_module
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

SMALLEST = 16
FAMILY = {  # name -> module, published size, side of the last map at that size and at 32 px
    "googlenet": ("inception", 224, 7, 4),
    "inception_v2": ("inception_v2", 224, 7, 4),
    "inception_v3": ("inception", 299, 8, 3),
    "inception_v4": ("inception_v4", 299, 8, 3),
    "inception_resnet_v1": ("inception_resnet", 299, 8, 3),
    "inception_resnet_v2": ("inception_resnet", 299, 8, 3),
}
HEADS = {"googlenet": 3, "inception_v3": 2}


def build(name: str, image_size: int, *, num_classes: int = 5, **options: Any) -> nn.Module:
    module = import_module(f"models.{FAMILY[name][0]}")
    network: nn.Module = module.build(name, num_classes=num_classes, image_size=image_size, **options)
    return network


@pytest.fixture(autouse=True)
def same_weights() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("name", HEADS)
class TestAuxiliaryHeads:
    @pytest.mark.parametrize("size", [SMALLEST, 32, 80])
    def test_come_in_a_plain_tuple_while_training_and_not_in_evaluation(self, name: str, size: int) -> None:
        network = build(name, size, aux=True)
        images = torch.randn(2, 3, size, size)
        outputs = network(images)
        assert type(outputs) is tuple
        assert [output.shape for output in outputs] == [(2, 5)] * HEADS[name]
        sum(output.square().sum() for output in outputs).backward()
        assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in network.parameters())
        assert type(network.eval()(images)) is Tensor

    def test_are_absent_unless_asked_for(self, name: str) -> None:
        network = build(name, 32)
        images = torch.randn(2, 3, 32, 32)
        assert type(network(images)) is Tensor
        assert type(network.eval()(images)) is Tensor
        assert not any("aux" in key.lower() for key in network.state_dict())

    def test_have_the_published_number_of_parameters_at_any_size(self, name: str) -> None:
        published = {"googlenet": 13_004_888, "inception_v3": 27_161_264}[name]
        for size in (80, 298, 299):
            with torch.device("meta"):
                network = build(name, size, num_classes=1000, aux=True)
            assert sum(p.numel() for p in network.parameters()) == published

    def test_equal_those_of_torchvision_at_the_published_size(self, name: str) -> None:
        size = FAMILY[name][1]
        ours = build(name, size, aux=True)
        stock = getattr(torchvision.models, name)(num_classes=5, aux_logits=True, init_weights=False)
        stock.load_state_dict(ours.state_dict())
        images = torch.randn(2, 3, size, size)
        torch.manual_seed(1)  # the same units are dropped
        expected = stock(images)
        torch.manual_seed(1)
        for output, reference in zip(ours(images), expected, strict=True):
            assert torch.equal(output, reference)


def test_auxiliary_logits_exist_just_below_the_published_size() -> None:
    with torch.device("meta"):
        main, auxiliary = build("inception_v3", 298, aux=True)(torch.empty(2, 3, 298, 298))
    assert main.shape == auxiliary.shape == (2, 5)


@pytest.mark.parametrize("name", FAMILY)
class TestSizes:
    @pytest.mark.parametrize("sizes", [(SMALLEST, 17, 18, 19, 20, 22, 28, 31), (63,), (64, 74), (75, 77, 97)])
    def test_no_size_breaks_a_map(self, name: str, sizes: tuple[int, ...]) -> None:
        network = build(name, sizes[0]).eval()
        with torch.no_grad():
            for size in sizes:
                logits = network(torch.randn(1, 3, size, size))
                assert logits.shape == (1, 5)
                assert torch.isfinite(logits).all()

    def test_small_images_keep_more_of_their_pixels(self, name: str) -> None:
        _, native, native_map, small_map = FAMILY[name]
        assert last_map(name, native) == native_map
        assert last_map(name, 32) == small_map

    def test_small_stem_keeps_the_widths(self, name: str) -> None:
        with torch.device("meta"):
            native, small = build(name, FAMILY[name][1]).state_dict(), build(name, 32).state_dict()
        assert native.keys() == small.keys() or name == "inception_v2"  # whose dropped pooling shifts the numbering
        changed = [
            (tuple(a.shape), tuple(b.shape))
            for a, b in zip(native.values(), small.values(), strict=True)
            if a.shape != b.shape
        ]
        assert changed == ([((64, 3, 7, 7), (64, 3, 3, 3))] if FAMILY[name][1] == 224 else [])


def last_map(name: str, size: int) -> int:
    sides: list[int] = []
    with torch.device("meta"):
        network = build(name, size)
        pooling = [module for module in network.modules() if isinstance(module, nn.AdaptiveAvgPool2d)][-1]
        pooling.register_forward_pre_hook(lambda _, inputs: sides.append(inputs[0].shape[-1]))
        network(torch.empty(2, 3, size, size))
    return sides[0]


def test_inception_v2_has_the_published_parameters_less_the_biases_of_its_convolutions() -> None:
    with torch.device("meta"):
        network = build("inception_v2", 224, num_classes=1000)
    biases = sum(module.out_channels for module in network.modules() if isinstance(module, nn.Conv2d))
    assert sum(p.numel() for p in network.parameters()) + biases == 11_295_240  # as ported from Caffe


@pytest.mark.parametrize("name", ["inception_v4", "inception_resnet_v2"])
def test_computes_what_timm_computes(name: str) -> None:
    timm = pytest.importorskip("timm")
    ours = build(name, 96, dropout=0.0)
    theirs = timm.create_model(name, num_classes=5)
    ours.load_state_dict(dict(zip(ours.state_dict(), theirs.state_dict().values(), strict=True)))
    images = torch.randn(2, 3, 96, 96)
    torch.testing.assert_close(ours(images), theirs(images))
