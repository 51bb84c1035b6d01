"""Batched augmentation: torchvision's for given parameters and in distribution, each image drawn on its own."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import permutations
from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as TF

from tuning import augment as aug
from tuning.policies import rand_augment, trivial_augment
from tuning.spec import HParams

CHANGES: dict[str, Callable[[Tensor, torch.Generator], Tensor]] = {
    "crop": aug.crop,
    "flip": aug.flip,
    "resized_crop": lambda images, generator: aug.resized_crop(images, 0.5, generator),
    "jitter": lambda images, generator: aug.jitter(images, 0.4, generator),
    "trivial_augment": trivial_augment,
    "rand_augment": lambda images, generator: rand_augment(images, 1, 5, generator),
    "erase": lambda images, generator: aug.erase(images, 0.5, generator),
    "cutout": lambda images, generator: aug.cutout(images, 0.5, generator),
}
SWITCHES: list[tuple[dict[str, Any], list[str]]] = [
    ({"augmentation": "crop"}, ["crop"]),
    ({"augmentation": "crop_flip"}, ["crop", "flip"]),
    ({"augmentation": "resized_crop_flip", "crop_scale": 0.5}, ["resized_crop", "flip"]),
    ({"jitter": 0.4}, ["jitter"]),
    ({"policy": "trivial_augment"}, ["trivial_augment"]),
    ({"policy": "rand_augment", "policy_ops": 1, "policy_magnitude": 5}, ["rand_augment"]),
    ({"erasing": 0.5}, ["erase"]),
    ({"cutout": 0.5}, ["cutout"]),
    (
        {"augmentation": "crop", "jitter": 0.4, "policy": "trivial_augment", "erasing": 0.5},
        ["crop", "jitter", "trivial_augment", "erase"],
    ),
]


def images(count: int = 64, channels: int = 3, height: int = 16, width: int = 16) -> Tensor:
    return torch.randint(1, 256, (count, channels, height, width), generator=generator(0)).to(torch.uint8)


def generator(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def mixed(mixing: Callable[..., Iterable[Tensor]], images: Tensor, strength: Any, generator: torch.Generator) -> Tensor:
    """What becomes of the images, while each target stays an image's own."""
    inputs, targets = mixing(images.float(), torch.eye(len(images)), strength, generator)
    assert torch.equal(targets, torch.eye(len(images)))
    return inputs.byte()


OFF: list[tuple[Callable[..., Tensor], Any]] = [
    (aug.resized_crop, 1.0),
    (aug.jitter, 0.0),
    (lambda images, magnitude, generator: rand_augment(images, 2, magnitude, generator), 0),
    (aug.erase, 0.0),
    (aug.cutout, 0.0),
    (aug.cutout, 0.02),  # of 16 pixels, less than half of one
    (partial(mixed, aug.mixup), 0.0),
    (partial(mixed, aug.cutmix), 0.0),
    (partial(mixed, aug.mix), HParams(lr=0.1)),
    (aug.augment, HParams(lr=0.1)),
]


@pytest.mark.parametrize("shape", [(3, 16, 16), (1, 12, 25)], ids=str)
@pytest.mark.parametrize(("change", "strength"), OFF)
def test_strength_0_is_the_identity(change: Callable[..., Tensor], strength: Any, shape: tuple[int, int, int]) -> None:
    assert torch.equal(change(images(64, *shape), strength, generator()), images(64, *shape))


@pytest.mark.parametrize("name", CHANGES)
def test_each_image_is_drawn_on_its_own_and_by_the_generator_alone(name: str) -> None:
    before = images(1).repeat(64, 1, 1, 1)
    one, two, other = (CHANGES[name](before, generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    assert torch.equal(before, images(1).repeat(64, 1, 1, 1)), "the originals are shared and must stay"
    kinds = len(torch.unique(one.flatten(1), dim=0))
    assert kinds == 2 if name == "flip" else kinds > 10


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", CHANGES)
def test_all_but_the_draws_happens_where_the_images_are(name: str, channels: int) -> None:
    """On the meta device, which has no values to read; most operations there refuse tensors of the CPU."""
    after = CHANGES[name](images(64, channels).to("meta"), generator())
    assert (after.device.type, after.dtype, after.shape) == ("meta", torch.uint8, (64, channels, 16, 16))


@pytest.mark.parametrize(("settings", "names"), SWITCHES, ids=lambda part: "+".join(part))
def test_each_hyperparameter_switches_its_augmentation_on(settings: dict[str, Any], names: Sequence[str]) -> None:
    expected, source = images(), generator()
    for name in names:
        expected = CHANGES[name](expected, source)
    after = aug.augment(images(), HParams(lr=0.1, **settings), generator())
    assert torch.equal(after, expected)
    assert not torch.equal(after, images())


def test_crops_are_shifts_by_up_to_an_eighth_padded_with_black() -> None:
    before, seen = images(count=300), Counter[tuple[int, int]]()
    for original, moved in zip(before, aug.crop(before, generator()), strict=True):
        cropped = {(y, x): TF.crop(original, y, x, 16, 16) for y in range(-2, 3) for x in range(-2, 3)}
        (shift,) = (shift for shift, expected in cropped.items() if torch.equal(expected, moved))
        seen[shift] += 1
    assert len(seen) == 25, "every shift is drawn"
    assert max(seen.values()) < 12 + 5 * 12**0.5


def test_flips_mirror_about_half_of_the_images() -> None:
    before = images(count=1000)
    after = aug.flip(before, generator())
    mirrored = (after == TF.horizontal_flip(before)).flatten(1).all(1)
    assert torch.equal(after[~mirrored], before[~mirrored])
    assert 430 < mirrored.sum() < 570


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 28, 28), (3, 20, 33), (3, 224, 224)], ids=str)
def test_an_enlarged_box_is_torchvisions_resized_crop(shape: tuple[int, int, int], antialias: bool) -> None:
    count = 8 if shape[1] == 224 else 100
    before, size = images(count, *shape), list(shape[1:])
    boxes = aug.crop_boxes(before.shape, 0.05, generator())
    boxes[:, 0], boxes[:, 1] = torch.tensor([0, 0, *size]), torch.tensor([2, 3, 1, 1])
    ours = aug.enlarge(before, boxes).int()
    pairs = list(zip(before, boxes.T.tolist(), strict=True))
    exact = torch.stack([TF.resized_crop(image.double(), *box, size, antialias=antialias) for image, box in pairs])
    assert (ours - exact).abs().max() < 0.51, "rounded; some fall halfway between two grey levels"
    in_bytes = torch.stack([TF.resized_crop(image, *box, size, antialias=antialias) for image, box in pairs])
    assert (ours - in_bytes.int()).abs().max() <= 1, "torchvision rounds bytes twice"


@pytest.mark.parametrize(("height", "width"), [(224, 224), (32, 32), (100, 120), (50, 120), (120, 50)])
@pytest.mark.parametrize("scale", [0.08, 0.5])
def test_boxes_of_resized_crops_are_drawn_as_torchvisions(height: int, width: int, scale: float) -> None:
    """Where ten boxes did not fit, and they often do not fit flat and tall images, it is a central one."""
    theirs = v2.RandomResizedCrop((height, width), scale=(scale, 1.0))
    ours = aug.crop_boxes(torch.Size((5000, 3, height, width)), scale, generator())
    assert_drawn_alike(ours, theirs, "top left height width", height, width)


@pytest.mark.parametrize(("height", "width"), [(224, 224), (32, 32), (60, 120)])
def test_erased_boxes_are_drawn_as_torchvisions(height: int, width: int) -> None:
    ours = aug.erase_boxes(torch.Size((5000, 3, height, width)), generator())
    assert (ours[2:] < torch.tensor([[height], [width]])).all()
    assert_drawn_alike(ours, v2.RandomErasing(p=1), "i j h w", height, width)


def assert_drawn_alike(ours: Tensor, transform: v2.Transform, names: str, height: int, width: int) -> None:
    """Areas, shapes and places of boxes; places also as a share of the room there is."""
    assert (ours >= torch.tensor([[0], [0], [1], [1]])).all()
    assert (ours[:2] + ours[2:] <= torch.tensor([[height], [width]])).all()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        drawn = [transform.make_params([torch.empty(3, height, width)]) for _ in range(5000)]
    theirs = torch.tensor([[box[name] for name in names.split()] for box in drawn]).T
    both = []
    for top, left, tall, wide in (ours, theirs):
        shares = (top + 0.5) / (height - tall + 1), (left + 0.5) / (width - wide + 1)
        both.append((tall * wide, tall / wide, top, left, *shares))
    assert min(stats.ks_2samp(*pair, method="asymp").pvalue for pair in zip(*both, strict=True)) > 0.01
    assert (torch.corrcoef(ours.float()) - torch.corrcoef(theirs.float())).abs().max() < 0.1


def test_erasing_blackens_one_box_in_a_share_of_the_images() -> None:
    before = images(count=1000, height=24)
    boxes = aug.erase_boxes(before.shape, generator())
    pairs = zip(before, boxes.T.tolist(), strict=True)
    expected = torch.stack([TF.erase(image, *box, torch.zeros(3, 1, 1)) for image, box in pairs])
    assert torch.equal(aug.blacken(before, boxes), expected)
    erased = (aug.erase(before, 0.4, generator()) == 0).all(1)
    assert 340 < erased.flatten(1).any(1).sum() < 460


@pytest.mark.parametrize("shape", [(3, 20, 24), (1, 20, 24)], ids=str)
def test_recolouring_is_torchvisions(shape: tuple[int, int, int]) -> None:
    changes = (TF.adjust_brightness, TF.adjust_contrast, TF.adjust_saturation)
    orders = list(permutations(range(3))) * 20
    before, magnitudes = images(120, *shape), 2 * torch.rand(3, 120, generator=generator()) - 1
    magnitudes[:, :6] = -1
    expected = list(before)
    for index, order in enumerate(orders):
        for turn in order:
            expected[index] = changes[turn](expected[index], 1 + magnitudes[turn, index].item())
    ours = aug.recolour(before, magnitudes, torch.tensor(orders).T)
    assert (ours != torch.stack(expected)).float().mean() <= 1e-3, "equal with torch 2.15 on x86; see test_policies.py"


@pytest.mark.parametrize("strength", [0.4, 1.5])
def test_factors_and_orders_of_jitter_are_drawn_uniformly(strength: float) -> None:
    magnitudes, orders = aug.jitter_draws(6000, strength, generator())
    uniform = stats.uniform(max(-strength, -1.0), strength + min(strength, 1.0))
    assert min(stats.kstest(factor, uniform.cdf).pvalue for factor in magnitudes) > 0.01
    assert (torch.corrcoef(magnitudes) - torch.eye(3)).abs().max() < 0.05
    counts = Counter(map(tuple, orders.T.tolist()))
    assert stats.chisquare([counts[order] for order in permutations(range(3))]).pvalue > 0.01


def test_jitter_changes_each_image_by_its_own_factors() -> None:
    """A grey ramp shows brightness by its mean, and brightness times contrast by its steepness."""
    ramp = torch.arange(40, 104, dtype=torch.uint8).view(1, 1, 8, 8).float()
    after = aug.jitter(ramp.byte().expand(3000, 1, 8, 8), 0.5, generator()).float().flatten(1)
    brightness = (after.mean(1) + 0.75) / ramp.mean()  # rounded down once or twice
    contrast = after.std(1) / ramp.std() / brightness
    for factor in (brightness, contrast):
        assert factor.mean() == pytest.approx(1, abs=0.02)
        assert factor.var() == pytest.approx(1 / 12, rel=0.06)
    assert abs(torch.corrcoef(torch.stack((brightness, contrast)))[0, 1]) < 0.06
    draws = aug.jitter_draws(64, 0.5, generator())
    assert torch.equal(aug.jitter(images(), 0.5, generator()), aug.recolour(images(), *draws))


def test_mixup_blends_images_and_targets_alike() -> None:
    inputs = torch.arange(64.0).view(64, 1, 1, 1).expand(64, 1, 2, 2)
    mixed, blended = aug.mixup(inputs, torch.eye(64), 0.4, generator())
    assert torch.allclose(blended.sum(1), torch.ones(64))
    # the pixel value is the expected index under the blended target
    assert torch.allclose(mixed[:, 0, 0, 0], blended @ torch.arange(64.0), atol=1e-4)


def test_weak_mixing_hardly_changes_the_images() -> None:
    inputs = torch.rand(256, 1, 2, 2)
    mixed, targets = aug.mixup(inputs, torch.eye(256), 1e-3, generator())
    assert (targets > 0.999).any(1).float().mean() > 0.95, "untouched"
    assert torch.isfinite(mixed).all()


def box_of(mask: Tensor) -> tuple[int, int, int, int]:
    """Top, left, height, width of the rectangle that `mask` must be."""
    rows, columns = mask.any(1).nonzero()[:, 0], mask.any(0).nonzero()[:, 0]
    height, width = int(rows[-1] - rows[0]) + 1, int(columns[-1] - columns[0]) + 1
    assert mask.sum() == height * width, "a full rectangle"
    return int(rows[0]), int(columns[0]), height, width


def test_cutout_blackens_a_square_around_any_pixel() -> None:
    before = images(count=2000)
    after = aug.cutout(before, 0.3, generator())
    centres = set()
    for original, cut in zip(before, after, strict=True):
        black = (cut == 0).all(0)
        assert torch.equal(cut[:, ~black], original[:, ~black])
        top, left, height, width = box_of(black)
        for start, length in ((top, height), (left, width)):
            assert length == 5 or (3 <= length < 5 and (start == 0 or start + length == 16)), "clipped at the border"
        centres.add((2 + top if top else height - 3, 2 + left if left else width - 3))
    assert len(centres) == 16 * 16


def test_cutmix_pastes_boxes_and_weighs_the_targets_by_their_area() -> None:
    count, height, width = 256, 12, 24
    inputs = torch.arange(count).float().view(count, 1, 1, 1).expand(count, 2, height, width)
    mixed, targets = aug.cutmix(inputs, torch.eye(count), 1.0, generator())
    areas, shapes = [], []
    for index, (image, target) in enumerate(zip(mixed, targets, strict=True)):
        pasted = (image != index).any(0)
        if not pasted.any():
            assert target[index] == 1
            continue
        other = int(image[0][pasted][0])
        top, left, box_height, box_width = box_of(pasted)
        assert (image[:, pasted] == other).all()
        assert target[other] == pytest.approx(box_height * box_width / (height * width))
        assert target[index] + target[other] == pytest.approx(1)
        areas.append(box_height * box_width)
        if top > 0 and left > 0 and top + box_height < height and left + box_width < width:
            shapes.append((box_height, box_width))
    assert len(set(areas)) > 40, "each image draws its own box"
    assert min(areas) < 0.05 * height * width < 0.7 * height * width < max(areas)
    assert all(abs(2 * box_height - box_width) <= 2 for box_height, box_width in shapes), "as wide as the image is"
    assert len(shapes) > 20


def test_boxes_of_cutmix_have_the_drawn_area() -> None:
    inputs = torch.arange(2000).float().view(2000, 1, 1, 1).expand(2000, 1, 32, 32)
    _, targets = aug.cutmix(inputs, torch.eye(2000), 1.0, generator())
    pasted = (1 - targets.diagonal()).mean()
    # A side s of the image, clipped, keeps s - s^2 / 4 on average; for alpha 1, s^2 is uniform.
    assert pasted == pytest.approx(1 / 2 - 1 / 5 + 1 / 48, abs=0.02)


def test_a_batch_is_blended_or_cut_but_not_both() -> None:
    inputs, targets, kinds = torch.rand(8, 1, 4, 4), torch.eye(8), set()
    for seed in range(20):
        mixed, _ = aug.mix(inputs, targets, HParams(lr=0.1, mixup=1.0, cutmix=1.0), generator(seed))
        kinds.add("cut" if set(mixed.flatten().tolist()) <= set(inputs.flatten().tolist()) else "blended")
    assert kinds == {"cut", "blended"}
    for name, function in (("mixup", aug.mixup), ("cutmix", aug.cutmix)):
        only, _ = aug.mix(inputs, targets, HParams(lr=0.1, **{name: 1.0}), generator())  # type: ignore[arg-type]
        assert torch.equal(only, function(inputs, targets, 1.0, generator())[0])
