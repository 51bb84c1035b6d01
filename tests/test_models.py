"""Every architecture keeps the contract of `models.build` and has the published number of parameters."""

import inspect
from importlib import import_module

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import models
from models.efficientnet import DepthwiseConv2d

COUNTS = {  # name -> parameters at 1000, 10, 100 and 20 classes, three channels, 224 px
    "efficientnet_b0": (5_288_548, 4_020_358, 4_135_648, 4_033_168),
    "resnet18": (11_689_512, 11_181_642, 11_227_812, 11_186_772),
    "resnet20": (334_072, 269_722, 275_572, 270_372),
}


@pytest.mark.parametrize("name", models.names())
class TestEveryArchitecture:
    def test_has_the_published_number_of_parameters(self, name: str) -> None:
        for classes, count in zip((1000, 10, 100, 20), COUNTS[name], strict=True):
            with torch.device("meta"):
                network = models.build(name, num_classes=classes, image_size=224)
            assert sum(p.numel() for p in network.parameters()) == count

    @pytest.mark.parametrize("channels", [1, 3])
    def test_gives_finite_logits_and_gradients_at_its_smallest_size(self, name: str, channels: int) -> None:
        torch.manual_seed(0)
        size = models.architecture(name).min_size
        network = models.build(name, num_classes=7, image_size=size, in_channels=channels)
        logits = network(torch.randn(4, channels, size, size))
        assert logits.shape == (4, 7)
        assert torch.isfinite(logits).all()
        F.cross_entropy(logits, torch.tensor([0, 1, 2, 3])).backward()
        without = [n for n, p in network.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()]
        assert without == []

    def test_ends_in_logits_not_in_probabilities(self, name: str) -> None:
        network = models.build(name, num_classes=10, image_size=32).eval()
        last = [module for module in network.modules() if isinstance(module, nn.Linear)][-1]
        with torch.no_grad():
            last.weight.zero_()
            last.bias.copy_(F.one_hot(torch.tensor(3), 10) * 20.0)  # a confident answer
            loss = F.cross_entropy(network(torch.randn(2, 3, 32, 32)), torch.tensor([3, 3]))
        assert loss < 0.01

    def test_is_deterministic_in_evaluation_and_keeps_its_buffers(self, name: str) -> None:
        network = models.build(name, num_classes=10, image_size=32).eval()
        before = {key: value.clone() for key, value in network.state_dict().items()}
        images = torch.randn(2, 3, 32, 32)
        with torch.no_grad():
            assert torch.equal(network(images), network(images))
        assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())

    def test_learns_a_batch_by_heart(self, name: str) -> None:
        torch.manual_seed(0)
        network = models.build(name, num_classes=4, image_size=32)
        optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
        images, labels = torch.randn(16, 3, 32, 32), torch.arange(16) % 4
        losses = []
        for _ in range(15):
            loss = F.cross_entropy(network(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert min(losses) < losses[0] / 2

    def test_options_in_the_registry_are_those_of_the_builder(self, name: str) -> None:
        entry = models.architecture(name)
        builder = getattr(import_module(f"models.{entry.module}"), name)
        parameters = set(inspect.signature(builder).parameters) - {"num_classes", "image_size", "in_channels"}
        assert parameters == set(entry.options)

    def test_refuses_smaller_images_naming_a_size_and_a_model(self, name: str) -> None:
        size = models.architecture(name).min_size - 1
        with pytest.raises(ValueError, match=f"at least {size + 1} px, got {size}"):
            models.build(name, num_classes=10, image_size=size)


def test_small_images_get_a_small_stem() -> None:
    small = models.build("resnet18", num_classes=10, image_size=63)
    large = models.build("resnet18", num_classes=10, image_size=64)
    assert sum(p.numel() for p in small.parameters()) == 11_173_962  # reference, section 3.2
    assert isinstance(small.maxpool, nn.Identity)
    assert not isinstance(large.maxpool, nn.Identity)


def test_unknown_names_and_options_list_the_known_ones() -> None:
    with pytest.raises(ValueError, match="did you mean efficientnet_b0.*resnet18"):
        models.build("efficentnet_b0", num_classes=10, image_size=32)
    with pytest.raises(ValueError, match="resnet20 has no option dropout; it has: none"):
        models.build("resnet20", num_classes=10, image_size=32, dropout=0.1)
    with pytest.raises(ValueError, match="has no option width; it has: dropout, drop_path"):
        models.build("efficientnet_b0", num_classes=10, image_size=32, width=2)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("size", [1, 2, 3, 4, 7])
def test_depthwise_convolution_equals_the_stock_one(size: int, kernel: int, stride: int) -> None:
    torch.manual_seed(0)
    stock = nn.Conv2d(6, 6, kernel, stride, kernel // 2, groups=6, bias=False).double()
    ours = DepthwiseConv2d(6, 6, kernel, stride, kernel // 2, groups=6, bias=False).double()
    ours.load_state_dict(stock.state_dict())
    images = torch.randn(3, 6, size, size, dtype=torch.float64)
    assert torch.allclose(stock(images), ours(images))
    stock(images).square().sum().backward()
    ours(images).square().sum().backward()
    assert stock.weight.grad is not None
    assert ours.weight.grad is not None
    assert torch.allclose(stock.weight.grad, ours.weight.grad)
