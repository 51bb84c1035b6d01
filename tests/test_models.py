"""Every architecture keeps the contract of `models.build` and has the published number of parameters."""

import inspect
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

import models
from models.stems import first_convolution
from tests.counts import COUNTS, VARIANTS


def parameters(name: str, classes: int, **options: Any) -> int:
    with torch.device("meta"):
        size = models.architecture(name).native_size
        network = models.build(name, num_classes=classes, image_size=size, **options)
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.fixture(scope="class")
def network(name: str) -> nn.Module:
    """The architecture for four classes at its smallest size; whoever changes it puts it back, because all share it."""
    torch.manual_seed(0)
    return models.build(name, num_classes=4, image_size=models.architecture(name).fitting_size(1))


def images_for(name: str, count: int = 16, channels: int = 3) -> Tensor:
    size = models.architecture(name).fitting_size(1)
    return torch.randn(count, channels, size, size, generator=torch.Generator().manual_seed(0))


# One worker of pytest-xdist for all tests of an architecture, so that it is built once.
EVERY = [pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in models.names()]


@pytest.mark.parametrize("name", EVERY, scope="class")
class TestEveryArchitecture:
    def test_has_the_published_number_of_parameters(self, name: str) -> None:
        at_1000, at_10 = COUNTS[name]
        a_class = (at_1000 - at_10) // 990
        for classes in (1000, 10, 100, 20):
            assert parameters(name, classes) == at_10 + (classes - 10) * a_class, f"{classes} classes"

    def test_gives_finite_logits_and_every_parameter_a_gradient(self, name: str, network: nn.Module) -> None:
        before = copy_of(network.state_dict())
        network.train()
        logits = network(images_for(name, 4))
        assert logits.shape == (4, 4)
        assert torch.isfinite(logits).all()
        F.cross_entropy(logits, torch.tensor([0, 1, 2, 3])).backward()  # type: ignore[no-untyped-call]
        gradients = {key: parameter.grad for key, parameter in network.named_parameters()}
        assert [key for key, g in gradients.items() if g is None or not torch.isfinite(g).all()] == []
        kernels = {key: g for key, g in gradients.items() if g is not None and g.ndim == 4 and g.shape[-1] > 1}
        assert [key for key, g in kernels.items() if not g.any()] == []
        network.zero_grad()
        network.load_state_dict(before)

    def test_ends_in_logits_not_in_probabilities(self, name: str, network: nn.Module) -> None:
        network.eval()
        last = [m for m in network.modules() if isinstance(m, nn.Linear) and m.out_features == 4][-1]
        before = copy_of(last.state_dict())
        with torch.no_grad():
            last.weight.zero_()
            last.bias.copy_(F.one_hot(torch.tensor(3), 4) * 20.0)  # a confident answer
            loss = F.cross_entropy(network(images_for(name, 2)), torch.tensor([3, 3]))
        last.load_state_dict(before)
        assert loss < 0.01

    def test_is_deterministic_in_evaluation_and_keeps_its_buffers(self, name: str, network: nn.Module) -> None:
        network.eval()
        before = copy_of(dict(network.named_buffers()))
        with torch.no_grad():
            assert torch.equal(network(images_for(name, 2)), network(images_for(name, 2)))
        assert all(torch.equal(value, before[key]) for key, value in network.named_buffers())

    def test_survives_a_round_trip_and_takes_grey_images_as_equal_channels(self, name: str, network: nn.Module) -> None:
        images = images_for(name, 2, channels=1)
        key = next(k for k, m in network.named_modules() if m is first_convolution(network)) + ".weight"
        for channels in (3, 1):
            with torch.device("meta"):
                again = models.build(name, num_classes=4, image_size=images.shape[-1], in_channels=channels)
            state = network.state_dict()
            state[key] = state[key] if channels == 3 else state[key].sum(1, keepdim=True)
            again.load_state_dict(state, assign=True)
            copy_plain_buffers(network, again)
            with torch.no_grad():
                expected = network.eval()(images.expand(-1, 3, -1, -1))
                answer = again.eval()(images.expand(-1, channels, -1, -1))
            assert torch.allclose(answer, expected, rtol=1e-3, atol=1e-3 * expected.abs().max().item())

    @pytest.mark.slow
    def test_gives_finite_logits_at_its_native_size(self, name: str, network: nn.Module) -> None:
        size = models.architecture(name).native_size
        with torch.device("meta"):
            large = models.build(name, num_classes=4, image_size=size)
        torch.manual_seed(0)
        large.to_empty(device="cpu")
        for tensor in (*large.parameters(), *large.buffers()):
            if tensor.is_floating_point():
                nn.init.normal_(tensor, std=0.02) if tensor.ndim > 1 else nn.init.ones_(tensor)
            else:
                tensor.zero_()  # counts, and indices
        with torch.inference_mode():
            logits = large.eval()(torch.randn(1, 3, size, size))
        assert logits.shape == (1, 4)
        assert torch.isfinite(logits).all()

    def test_options_in_the_registry_are_those_of_the_builder(self, name: str) -> None:
        entry = models.architecture(name)
        builder = inspect.signature(import_module(f"models.{entry.module}").build)
        if not any(parameter.kind == parameter.VAR_KEYWORD for parameter in builder.parameters.values()):
            assert set(entry.options) <= set(builder.parameters)
        for option in entry.options:
            assert layers(name) != layers(name, **{option: EXAMPLES[option]}), f"{option} changes nothing"

    def test_refuses_smaller_images_naming_what_would_do(self, name: str) -> None:
        entry = models.architecture(name)
        with pytest.raises(ValueError, match=f"at least {entry.min_size} px.*image_size={entry.fitting_size(1)}"):
            models.build(name, num_classes=10, image_size=entry.min_size - 1)

    def test_every_size_from_the_smallest_up_works(self, name: str) -> None:
        entry = models.architecture(name)
        for size in sorted({entry.fitting_size(size) for size in (1, 28, 33, 65)}):
            with torch.device("meta"):
                network = models.build(name, num_classes=3, image_size=size)
                assert network(torch.empty(2, 3, size, size)).shape == (2, 3), size

    @pytest.mark.slow
    def test_learns_a_batch_by_heart(self, name: str, network: nn.Module) -> None:
        """The last, because it leaves the shared network trained."""
        if name in LARGER:
            pytest.skip("the same code as a smaller one of its family, at several times the price")
        network.train()
        for module in network.modules():
            if isinstance(module, nn.Dropout | StochasticDepth):
                module.p = 0.0  # what they take away would only cost steps
        optimizer = learner(name, network)
        labels = torch.arange(16) % 4
        images = 0.3 * images_for(name) + images_for(name, 4)[labels]  # what is alike in a class is easy to learn
        torch.manual_seed(0)
        losses: list[float] = []
        while len(losses) < 60 and (len(losses) < 2 or losses[-1] > losses[0] / 2):
            loss = F.cross_entropy(network(images), labels)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            losses.append(loss.item())
        assert losses[-1] <= losses[0] / 2


LARGER = {
    *("vgg13", "vgg16", "vgg19", "vgg13_bn", "vgg16_bn", "vgg19_bn", "vgg16_cifar", "vgg19_cifar", "inception_v4"),
    *("resnet101", "resnet152", "se_resnet101", "se_resnet152", "preact_resnet101", "preact_resnet152"),
    *("densenet161", "densenet169", "densenet201", "vit_b_32", "vit_l_16"),
    *(f"efficientnet_b{index}" for index in range(2, 8)),
}


def learner(name: str, network: nn.Module) -> torch.optim.Optimizer:
    """SGD where it gets anywhere within a few steps, which takes normalisation layers or the weights for it."""
    family = models.architecture(name).family
    if family in ("vit", "swin", "convnext", "alexnet") or name in (
        "vgg11_cifar",
        "vgg13_cifar",
        "vgg16_cifar",
        "vgg19_cifar",
    ):
        return torch.optim.AdamW(network.parameters(), lr=3e-4, fused=True)
    return torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)


def copy_of(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in tensors.items()}


EXAMPLES = {
    "aux": True,
    "dropout": 0.37,
    "dropout2d": 0.37,
    "drop_path": 0.37,
    "norm": "none",
    "stem": "small_pool",
    "head_width": 64,
    "se_ratio": 4,
    "growth_rate": 8,
    "width": 0.5,
    "groups": 1,
}


def layers(name: str, **options: Any) -> list[str]:
    """Everything that is set in any layer."""
    with torch.device("meta"):
        network = models.build(name, num_classes=10, image_size=models.architecture(name).native_size, **options)
    return [f"{m} {[v for v in vars(m).values() if isinstance(v, float | int | str)]}" for m in network.modules()]


def copy_plain_buffers(network: nn.Module, again: nn.Module) -> None:
    """Buffers that no state dict holds, such as the index tables of attention windows."""
    for (_, module), (_, other) in zip(network.named_modules(), again.named_modules(), strict=True):
        for key, buffer in module.named_buffers(recurse=False):
            if key in module._non_persistent_buffers_set:
                setattr(other, key, buffer)


def test_grey_networks_start_as_the_colour_ones_would() -> None:
    answers = []
    images = torch.rand(2, 1, 32, 32)
    for channels in (1, 3):
        torch.manual_seed(0)
        network = models.build("resnet20", num_classes=4, image_size=32, in_channels=channels).eval()
        answers.append(network(images.expand(-1, channels, -1, -1)))
    grey, colour = answers
    assert torch.allclose(grey, colour, atol=1e-5)


@pytest.mark.parametrize(("name", "classes", "options", "count"), VARIANTS)
def test_variants_have_the_published_number_of_parameters(
    name: str, classes: int, options: dict[str, object], count: int
) -> None:
    assert parameters(name, classes, **options) == count


def test_small_images_get_a_small_stem() -> None:
    for name, count in {"resnet18": 11_173_962, "resnet50": 23_520_842, "resnet152": 58_156_618}.items():
        with torch.device("meta"):
            small = models.build(name, num_classes=10, image_size=63)
            large = models.build(name, num_classes=10, image_size=64)
        assert sum(p.numel() for p in small.parameters()) == count  # reference, section 3.2
        assert isinstance(small.maxpool, nn.Identity)
        assert not isinstance(large.maxpool, nn.Identity)
    assert first_convolution(models.build("mobilenet_v2", num_classes=2, image_size=32)).stride == (1, 1)


def test_unknown_names_and_options_list_the_known_ones() -> None:
    with pytest.raises(ValueError, match="did you mean efficientnet_b0.*resnet18.*timm:NAME"):
        models.build("efficentnet_b0", num_classes=10, image_size=32)
    with pytest.raises(ValueError, match="resnet20 has no option dropout; it has: norm, init"):
        models.build("resnet20", num_classes=10, image_size=32, dropout=0.1)
    with pytest.raises(ValueError, match="takes images of 1 or 3 channels, got 2"):
        models.build("resnet20", num_classes=10, image_size=32, in_channels=2)


def test_what_is_too_small_names_an_architecture_of_the_family_that_fits() -> None:
    with pytest.raises(ValueError, match="alexnet needs images of at least 63 px, got 32: take alexnet_cifar or"):
        models.build("alexnet", num_classes=10, image_size=32)
    with pytest.raises(ValueError, match="vit_b_16 .* multiple of 16 px, got 40: take vit_cifar, or image_size=48"):
        models.build("vit_b_16", num_classes=10, image_size=40)


@pytest.mark.parametrize(
    ("scheme", "deviation"), [("he", (2 / 144) ** 0.5), ("glorot", (2 / 288) ** 0.5), ("normal", 0.01)]
)
def test_first_weights_follow_the_scheme(scheme: str, deviation: float) -> None:
    torch.manual_seed(0)
    network = models.build("resnet20", num_classes=10, image_size=32, init=scheme)
    weight = network.get_parameter("layers.0.conv1.weight")
    assert weight.std().item() == pytest.approx(deviation, rel=0.05)


class TestTimm:
    @pytest.mark.parametrize(
        ("name", "size"), [("resnet18", 32), ("vit_tiny_patch16_224", 48), ("maxvit_tiny_tf_224", 64)]
    )
    def test_reaches_its_models_at_other_sizes(self, name: str, size: int) -> None:
        network = models.build(f"timm:{name}", num_classes=5, image_size=size, in_channels=1, dropout=0.1).eval()
        with torch.no_grad():
            assert network(torch.randn(2, 1, size, size)).shape == (2, 5)

    def test_names_what_is_near_and_what_does_not_fit(self) -> None:
        with pytest.raises(ValueError, match="timm has no model 'resnet81'; did you mean timm:resnet"):
            models.architecture("timm:resnet81")
        with pytest.raises(ValueError, match="timm:inception_v4 cannot take 40 px .*; its own size is image_size=299"):
            models.check("timm:inception_v4", image_size=40)
        with pytest.raises(ValueError, match="timm:resnet18 has no option width; it has: dropout, drop_path, init"):
            models.build("timm:resnet18", num_classes=5, image_size=32, width=0.5)
