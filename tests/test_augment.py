"""Batched augmentation: each image on its own, pixels only moved or blackened, the same draw for the same generator."""

import pytest
import torch
from torch import Tensor

from tuning.augment import augment, crop, erase, flip, mixup


def images(count: int = 64, size: int = 16) -> Tensor:
    values = torch.randint(1, 256, (count, 2, size, size), generator=torch.Generator().manual_seed(0))
    return values.to(torch.uint8)


def generator(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("policy", ["none", "crop", "crop_flip"])
@pytest.mark.parametrize("erasing", [0.0, 0.7])
def test_the_same_generator_gives_the_same_images(policy: str, erasing: float) -> None:
    before = images()
    one, two = (augment(before, policy, erasing, generator()) for _ in range(2))
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
