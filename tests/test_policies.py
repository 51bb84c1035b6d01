"""RandAugment and TrivialAugment: torchvision's operations to the pixel, drawn uniformly for each image on its own."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.transforms import v2

from tuning import policies
from tuning.policies import BINS, operations, rand_augment, trivial_augment

NAMES = tuple(operations(8, 8))

# Equal to the pixel with torch 2.15 on x86. Elsewhere torch may fuse other multiplications and additions, and then a
# pixel halfway between two others, or between two grey levels, may fall to the other side.
ROUNDED = {name: 1e-3 for name in ("ShearX", "ShearY", "Rotate", "Color", "Contrast", "Sharpness")}


def images(count: int, channels: int, height: int, width: int) -> Tensor:
    """Noise; three of them with few grey levels, one grey, one black."""
    made = torch.randint(0, 256, (count, channels, height, width), generator=generator(0)).to(torch.uint8)
    made[1], made[2], made[3, 0], made[4], made[5] = made[1] // 4 + 90, made[2] // 128, 77, made[4, :1], 0
    return made


def generator(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def torchvisions(policy: v2.Transform, name: str, magnitude: float, image: Tensor) -> Tensor:
    changed: Tensor = policy._apply_image_or_video_transform(image, name, magnitude, policy.interpolation, policy._fill)
    return changed


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 28, 28), (3, 20, 33)], ids=str)
@pytest.mark.parametrize("policy", [v2.RandAugment(), v2.TrivialAugmentWide()], ids=["rand", "trivial"])
@pytest.mark.parametrize("name", NAMES)
def test_an_operation_is_torchvisions(name: str, policy: v2.Transform, shape: tuple[int, int, int]) -> None:
    _, height, width = shape
    operation, (their_magnitudes, signed) = operations(height, width)[name], policy._AUGMENTATION_SPACE[name]
    strongest = operation.rand if isinstance(policy, v2.RandAugment) else operation.trivial
    magnitudes = torch.linspace(operation.weakest, strongest, BINS)
    theirs = their_magnitudes(BINS, height, width)
    theirs = [0.0] * BINS if theirs is None else theirs.tolist()
    assert operation.signed == signed
    for sign in (1, -1) if signed else (1,):
        before = images(BINS, *shape)
        ours = operation.apply(before, sign * magnitudes)
        pairs = zip(theirs, before, strict=True)
        expected = torch.stack([torchvisions(policy, name, sign * strength, image) for strength, image in pairs])
        assert ours.dtype == torch.uint8
        assert torch.equal(before, images(BINS, *shape)), "the originals are shared and must stay"
        assert (ours != expected).float().mean() <= ROUNDED.get(name, 0)


def test_the_operations_are_all_of_torchvisions() -> None:
    assert NAMES == tuple(v2.RandAugment._AUGMENTATION_SPACE) == tuple(v2.TrivialAugmentWide._AUGMENTATION_SPACE)


def test_tiny_images_stay_as_sharp_as_they_are() -> None:
    before = images(6, 3, 2, 2)
    assert torch.equal(policies.sharpness(before, torch.full((6,), 0.9)), before)


POLICIES = [lambda images, generator: rand_augment(images, 2, 9, generator), trivial_augment]


@pytest.mark.parametrize("policy", POLICIES, ids=["rand", "trivial"])
@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 28, 20)], ids=str)
def test_the_same_generator_gives_the_same_images(
    policy: Callable[[Tensor, torch.Generator], Tensor], shape: tuple[int, int, int]
) -> None:
    before = images(64, *shape)
    one, two, other = (policy(before, generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    assert one.dtype == torch.uint8
    assert one.shape == before.shape
    assert torch.equal(before, images(64, *shape)), "the originals are shared and must stay"


def test_magnitude_0_and_no_operations_are_the_identity() -> None:
    before = images(64, 3, 8, 8)
    assert torch.equal(rand_augment(before, 2, 0, generator()), before)
    assert torch.equal(rand_augment(before, 0, 9, generator()), before)


def test_two_operations_are_one_after_the_other() -> None:
    before, source = images(64, 3, 8, 8), generator()
    one_by_one = rand_augment(rand_augment(before, 1, 9, source), 1, 9, source)
    assert torch.equal(rand_augment(before, 2, 9, generator()), one_by_one)


def uniform(counts: Counter[Any], kinds: int) -> bool:
    """Within five standard deviations, and nothing else drawn."""
    expected = counts.total() / kinds
    return len(counts) == kinds and all(abs(count - expected) < 5 * expected**0.5 for count in counts.values())


def test_each_operation_and_sign_is_drawn_equally_often() -> None:
    # Too few pixels to equalise, or the full range of grey, would make two operations the same.
    count, image = 20_000, torch.randint(60, 200, (3, 18, 18), generator=generator()).to(torch.uint8)
    after = rand_augment(image.expand(count, 3, 18, 18), 1, 20, generator())
    drawn, signed = Counter[str](), Counter[tuple[str, int]]()
    for name, operation in operations(18, 18).items():
        magnitude = torch.linspace(operation.weakest, operation.rand, BINS)[20:21]
        for sign in (1, -1) if operation.signed else (1,):
            matches = int((after == operation.apply(image[None], sign * magnitude)).flatten(1).all(1).sum())
            drawn[name] += matches
            if operation.signed:
                signed[name, sign] = matches
    assert drawn.total() == count, "every image is one operation's, and of one alone"
    assert uniform(drawn, len(NAMES))
    assert uniform(signed, 2 * 9)


def shifts(before: Tensor, after: Tensor, distances: Sequence[int]) -> Counter[int]:
    """How many images were moved to the right by each of the distances, and by nothing else."""
    moved = {distance: policies.translate_x(before[:1], torch.tensor([float(distance)])) for distance in distances}
    return Counter({distance: int((after == image).flatten(1).all(1).sum()) for distance, image in moved.items()})


def test_trivial_augment_draws_each_magnitude_equally_often() -> None:
    before = torch.arange(100, 140, dtype=torch.uint8).expand(40_000, 1, 1, 40)
    after = trivial_augment(before, generator())
    strengths = torch.linspace(0, 32, BINS).long().tolist()[1:]  # the first moves nothing
    distances = [sign * strength for strength in strengths for sign in (1, -1)]
    counts = shifts(before, after, distances)
    assert uniform(counts, 2 * (BINS - 1))
    share = counts.total() / len(before)
    assert share == pytest.approx((BINS - 1) / BINS / len(NAMES), rel=0.1), "the one left out is as frequent"


@pytest.mark.parametrize(("magnitude", "distance"), [(0.5, 5), (9, 90), (14.25, 142), (30, 300)])
def test_a_magnitude_between_two_bins_is_between_their_strengths(magnitude: float, distance: int) -> None:
    """RandAugment's longest move is 150 of 331 pixels: 300 of these 662."""
    before = (torch.arange(662) % 251).to(torch.uint8).expand(500, 1, 1, 662)
    after = rand_augment(before, 1, magnitude, generator())
    near = {sign * (distance + beside): beside for sign in (1, -1) for beside in (-2, -1, 0, 1, 2)}
    counts = shifts(before, after, list(near))
    assert all((count > 0) == (near[moved] == 0) for moved, count in counts.items()), counts
