"""Batched augmentation: each image on its own, pixels only moved or blackened, the same draw for the same generator."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tuning.augment import augment, crop, cutmix, cutout, erase, flip, mix, mixup
from tuning.policies import rand_augment, trivial_augment
from tuning.spec import HParams


def images(count: int = 64, size: int = 16) -> Tensor:
    values = torch.randint(1, 256, (count, 2, size, size), generator=torch.Generator().manual_seed(0))
    return values.to(torch.uint8)


def generator(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("policy", ["none", "crop", "crop_flip"])
@pytest.mark.parametrize("erasing", [0.0, 0.7])
def test_the_same_generator_gives_the_same_images(policy: str, erasing: float) -> None:
    before = images()
    hparams = HParams(lr=0.1, augmentation=policy, erasing=erasing)
    one, two = (augment(before, hparams, generator()) for _ in range(2))
    assert torch.equal(one, two)
    assert one.dtype == torch.uint8
    assert one.shape == before.shape
    assert torch.equal(before, images()), "the originals are shared and must stay"
    changed = not torch.equal(one, before)
    assert changed == (policy != "none" or erasing > 0)


def test_crops_are_shifts_by_up_to_an_eighth_padded_with_black() -> None:
    before, seen = images(count=300), set()
    for original, moved in zip(before, crop(before, generator()), strict=True):
        padded = torch.nn.functional.pad(original, (2, 2, 2, 2))
        shifts = [(y, x) for y in range(5) for x in range(5) if torch.equal(padded[:, y : y + 16, x : x + 16], moved)]
        assert len(shifts) == 1
        seen.add(shifts[0])
    assert len(seen) == 25, "every shift is drawn"


def test_flips_mirror_about_half_of_the_images() -> None:
    before = images(count=1000)
    after = flip(before, generator())
    mirrored = [torch.equal(a, b.flip(2)) for a, b in zip(after, before, strict=True)]
    kept = [torch.equal(a, b) for a, b in zip(after, before, strict=True)]
    assert all(m or k for m, k in zip(mirrored, kept, strict=True))
    assert 430 < sum(mirrored) < 570


def test_erasing_blackens_one_box_in_a_share_of_the_images() -> None:
    before = images(count=1000, size=32)
    after = erase(before, 0.4, generator())
    areas = []
    for original, erased in zip(before, after, strict=True):
        black = (erased == 0).all(0)
        assert torch.equal(erased[:, ~black], original[:, ~black])
        if black.any():
            rows, columns = black.any(1).nonzero(), black.any(0).nonzero()
            height, width = int(rows[-1] - rows[0]) + 1, int(columns[-1] - columns[0]) + 1
            assert black.sum() == height * width, "a full rectangle"
            areas.append(height * width / 32**2)
    assert 340 < len(areas) < 460
    assert min(areas) < 0.05
    assert 0.25 < max(areas) < 0.36


def test_mixup_blends_images_and_targets_alike() -> None:
    inputs = torch.arange(64.0).view(64, 1, 1, 1).expand(64, 1, 2, 2)
    targets = torch.eye(64)
    mixed, blended = mixup(inputs, targets, 0.4, generator())
    assert torch.allclose(blended.sum(1), torch.ones(64))
    # the pixel value is the expected index under the blended target
    assert torch.allclose(mixed[:, 0, 0, 0], blended @ torch.arange(64.0), atol=1e-4)
    assert not torch.equal(mixed, inputs)


def test_weak_mixing_hardly_changes_the_images() -> None:
    inputs = torch.rand(256, 1, 2, 2)
    mixed, targets = mixup(inputs, torch.eye(256), 1e-3, generator())
    untouched = ((targets > 0.999).any(1)).float().mean()
    assert untouched > 0.95
    assert torch.isfinite(mixed).all()


def box_of(mask: Tensor) -> tuple[int, int, int, int]:
    """Top, left, height, width of the rectangle that `mask` must be."""
    rows, columns = mask.any(1).nonzero()[:, 0], mask.any(0).nonzero()[:, 0]
    height, width = int(rows[-1] - rows[0]) + 1, int(columns[-1] - columns[0]) + 1
    assert mask.sum() == height * width, "a full rectangle"
    return int(rows[0]), int(columns[0]), height, width


def test_cutout_blackens_a_square_around_any_pixel() -> None:
    before = images(count=2000)
    after = cutout(before, 0.3, generator())
    assert torch.equal(before, images(count=2000)), "the originals are shared and must stay"
    centres = set()
    for original, cut in zip(before, after, strict=True):
        black = (cut == 0).all(0)
        assert torch.equal(cut[:, ~black], original[:, ~black])
        top, left, height, width = box_of(black)
        for start, length in ((top, height), (left, width)):
            assert length == 5 or (3 <= length < 5 and (start == 0 or start + length == 16)), "clipped at the border"
        centres.add((2 + top if top else height - 3, 2 + left if left else width - 3))
    assert len(centres) == 16 * 16


@pytest.mark.parametrize("side", [0.0, 0.02])
def test_cutout_of_less_than_half_a_pixel_is_the_identity(side: float) -> None:
    assert torch.equal(cutout(images(), side, generator()), images())


def test_cutmix_pastes_boxes_and_weighs_the_targets_by_their_area() -> None:
    count, height, width = 256, 12, 24
    inputs = torch.arange(count).float().view(count, 1, 1, 1).expand(count, 2, height, width)
    mixed, targets = cutmix(inputs, torch.eye(count), 1.0, generator())
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
    assert min(areas) < 0.05 * height * width
    assert max(areas) > 0.7 * height * width
    assert all(abs(2 * box_height - box_width) <= 2 for box_height, box_width in shapes), "as wide as the image is"
    assert len(shapes) > 20


def test_boxes_of_cutmix_have_the_drawn_area() -> None:
    inputs = torch.arange(2000).float().view(2000, 1, 1, 1).expand(2000, 1, 32, 32)
    _, targets = cutmix(inputs, torch.eye(2000), 1.0, generator())
    pasted = (1 - targets.diagonal()).mean()
    # A side s of the image, clipped, keeps s - s^2 / 4 on average; for alpha 1, s^2 is uniform.
    assert pasted == pytest.approx(1 / 2 - 1 / 5 + 1 / 48, abs=0.02)


@pytest.mark.parametrize(
    ("hparams", "alone"),
    [
        (HParams(lr=0.1, policy="trivial_augment"), lambda x, g: trivial_augment(x, g)),
        (
            HParams(lr=0.1, policy="rand_augment", policy_ops=1, policy_magnitude=5),
            lambda x, g: rand_augment(x, 1, 5, g),
        ),
        (HParams(lr=0.1, cutout=0.5), lambda x, g: cutout(x, 0.5, g)),
        (HParams(lr=0.1, erasing=0.5), lambda x, g: erase(x, 0.5, g)),
    ],
)
def test_each_hyperparameter_switches_its_augmentation_on(hparams: HParams, alone: Callable[..., Tensor]) -> None:
    before = images()[:, :1]
    after = augment(before, hparams, generator())
    assert torch.equal(after, alone(before, generator()))
    assert not torch.equal(after, before)


def test_a_batch_is_blended_or_cut_but_not_both() -> None:
    inputs, targets = torch.rand(8, 1, 4, 4), torch.eye(8)
    kinds = set()
    for seed in range(20):
        mixed, _ = mix(inputs, targets, HParams(lr=0.1, mixup=1.0, cutmix=1.0), generator(seed))
        kinds.add("cut" if set(mixed.flatten().tolist()) <= set(inputs.flatten().tolist()) else "blended")
    assert kinds == {"cut", "blended"}
    for name, function in (("mixup", mixup), ("cutmix", cutmix)):
        only, _ = mix(inputs, targets, HParams(lr=0.1, **{name: 1.0}), generator())  # type: ignore[arg-type]
        assert torch.equal(only, function(inputs, targets, 1.0, generator())[0])
