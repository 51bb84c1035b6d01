"""Every table is complete and valid; changes to a space do what they say and name what is wrong."""

from pathlib import Path

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

import models
import search_spaces
from search_spaces import SearchSpace, limits
from search_spaces.override import override, parse
from tuning.spec import HParams, model_options


@pytest.mark.parametrize("name", models.names())
class TestEveryTable:
    def test_its_baseline_is_a_training(self, name: str) -> None:
        space = search_spaces.for_model(name)
        HParams(**space.recipe)
        models.check(name, image_size=2048, options=model_options(space.recipe))

    def test_its_bounds_are_allowed_values(self, name: str) -> None:
        for key, distribution in search_spaces.for_model(name).distributions.items():
            ends = getattr(distribution, "choices", None) or (distribution.low, distribution.high)  # type: ignore[attr-defined]
            assert [limits.check(key, end) for end in ends] == list(ends)


def test_there_is_a_limit_for_each_hyperparameter_and_no_other() -> None:
    assert set(limits.LIMITS) == set(HParams.__dataclass_fields__)


def test_a_model_without_a_space_and_another_task_are_refused() -> None:
    with pytest.raises(ValueError, match="no search space for 'vgg99'; there is one for: alexnet, alexnet_cifar"):
        search_spaces.for_model("vgg99")
    with pytest.raises(ValueError, match="no search space for the task 'multi'"):
        search_spaces.for_model("resnet20", task="multi")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "0.1", True, 0, -1])
def test_values_outside_of_the_limits_are_refused(value: object) -> None:
    with pytest.raises(ValueError, match="lr must be a number above 0"):
        limits.check("lr", value)


def test_whole_numbers_may_be_written_as_floats_but_not_be_fractions() -> None:
    assert limits.check("batch_size", 32.0) == 32
    with pytest.raises(ValueError, match="batch_size must be a whole number"):
        limits.check("batch_size", 32.5)


def base() -> SearchSpace:
    return search_spaces.for_model("resnet20")


def change(text: str) -> SearchSpace:
    key, _, value = text.partition("=")
    return override(base(), key, parse(key, value))


def test_a_value_fixes() -> None:
    space = change("lr=0.05")
    assert "lr" not in space.distributions
    assert space.recipe["lr"] == 0.05
    assert change("augmentation=none").fixed["augmentation"] == "none"


def test_a_range_is_searched_from_the_nearest_baseline() -> None:
    space = change("lr=0.2:0.4:log")
    assert space.distributions["lr"] == FloatDistribution(0.2, 0.4, log=True)
    assert space.baseline["lr"] == 0.2
    assert change("lr=0.05:0.4").baseline["lr"] == 0.1
    assert change("batch_size=16:64").distributions["batch_size"] == IntDistribution(16, 64)


def test_a_list_is_chosen_from() -> None:
    space = change("batch_size=16,32")
    assert space.distributions["batch_size"] == CategoricalDistribution((16, 32))
    assert space.baseline["batch_size"] == 16
    assert change("batch_size=16,128").baseline["batch_size"] == 128


def test_a_fixed_hyperparameter_can_be_searched_and_a_new_one_added() -> None:
    space = change("momentum=0.8:0.95")
    assert space.baseline["momentum"] == 0.9
    assert "momentum" not in space.fixed
    assert change("clip_norm=0.1:10:log").baseline["clip_norm"] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lrr=1", "unknown hyperparameter 'lrr'; known: optimizer, lr"),
        ("lr=fast", "lr must be a number above 0 to 100, got 'fast'"),
        ("lr=0.3:0.1", "lr needs low below high, got 0.3 and 0.1"),
        ("lr=0.1:0.1", "lr needs low below high"),
        ("momentum=0:0.9:log", "momentum: a log range needs low above 0"),
        ("lr=1:2:3", "lr=1:2:3 is no range"),
        ("lr=nan:1", "lr must be a number"),
        ("optimizer=1:2", "optimizer has no range; choose among sgd, adam, adamw, rmsprop"),
        ("optimizer=sgd,lamb", "optimizer must be one of sgd, adam, adamw, rmsprop, got 'lamb'"),
        ("batch_size=32,32", "batch_size needs at least two different choices"),
        ("batch_size=1", "batch_size must be a whole number from 2"),
    ],
)
def test_a_change_that_makes_no_sense_is_named(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        change(text)


def test_a_file_narrows_widens_fixes_and_adds(tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text(
        "# ours\n"
        "lr: {low: 0.05, high: 0.2, log: true}\nmixup: {low: 0, high: 1}\nbatch_size: 64\nema_decay: [0, 0.99]\n"
    )
    space = search_spaces.from_file(path, base())
    assert space.distributions["lr"] == FloatDistribution(0.05, 0.2, log=True)
    assert space.distributions["mixup"] == FloatDistribution(0, 1)
    assert space.fixed["batch_size"] == 64
    assert space.distributions["ema_decay"] == CategoricalDistribution((0.0, 0.99))
    assert space.recipe["lr"] == 0.1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lr: 0.1\nlrr: 1\n", "space.yaml, line 2: unknown hyperparameter 'lrr'"),
        ("\nlr: {low: 1}\n", r"space.yaml, line 2: lr needs low and high, and may have log and when; got low"),
        (
            "lr: {low: 1, high: 2, step: 1}\n",
            r"line 1: lr needs low and high, and may have log and when; got low, high, step",
        ),
        ("lr: {low: 1, high: 2, log: 1}\n", "log must be true or false, got 1"),
        ("lr: .nan\n", "line 1: lr must be a number"),
        ("- lr\n", "must be a mapping of hyperparameters"),
        ("", "must be a mapping of hyperparameters"),
        ("1: 2\n", "must be a mapping of hyperparameters"),
        ("lr: [\n", "is not valid YAML"),
        ("lr: !!python/object/apply:os.system [ls]\n", "is not valid YAML: could not determine a constructor"),
        ("lr: &a 0.1\nmomentum: *a\n", "uses YAML aliases"),
        ("lr: 0.1\nlr: 0.2\n", "has lr more than once"),
    ],
)
def test_a_file_that_makes_no_sense_is_named_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "space.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        search_spaces.from_file(path, base())


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot read the space file .*nowhere.yaml"):
        search_spaces.from_file(tmp_path / "nowhere.yaml", base())


def test_a_space_holds_together() -> None:
    lr = FloatDistribution(0.1, 1)
    with pytest.raises(ValueError, match="must have the same keys, they differ in lr"):
        SearchSpace(distributions={"lr": lr}, baseline={})
    with pytest.raises(ValueError, match="either searched or fixed, both: lr"):
        SearchSpace(distributions={"lr": lr}, baseline={"lr": 0.5}, fixed={"lr": 0.5})
    with pytest.raises(ValueError, match="baseline's lr=5 lies outside"):
        SearchSpace(distributions={"lr": lr}, baseline={"lr": 5})


def test_the_policy_is_searched_with_its_strength_only_where_it_has_one() -> None:
    space, unmet = base(), {"policy_ops", "policy_magnitude", "crop_scale"}
    assert space.conditions["policy_magnitude"] == ("policy", "rand_augment")
    strong = {**space.baseline, "policy": "rand_augment", "augmentation": "resized_crop_flip"}
    assert space.active(strong) == strong
    assert "policy_magnitude" not in space.recipe
    assert set(space.distributions) - set(space.active(space.baseline)) == unmet


@pytest.mark.parametrize("name", [*models.names(), "timm:convnext_atto"])
def test_every_table_searches_resized_crops_with_their_scale(name: str) -> None:
    space = search_spaces.for_model(name)
    assert "resized_crop_flip" in space.distributions["augmentation"].choices  # type: ignore[attr-defined]
    assert space.conditions["crop_scale"] == ("augmentation", "resized_crop_flip")
    assert space.conditions["policy_ops"] == space.conditions["policy_magnitude"] == ("policy", "rand_augment")


def test_colour_is_searched_but_for_the_small_networks_of_cifar() -> None:
    without = {name for name in models.names() if "jitter" not in search_spaces.for_model(name).distributions}
    kinds = ("resnet", "se_resnet", "plain")
    small = {f"{kind}{depth}{suffix}" for kind in kinds for depth in (20, 32, 44, 56, 110) for suffix in ("", "_b")}
    assert without == {*small & set(models.names()), "densenet_40_12", "densenet_100_12", "densenet_bc_100_12"}


def test_fixing_a_choice_settles_what_stands_under_it() -> None:
    never, always = change("policy=trivial_augment"), change("policy=rand_augment")
    assert not {"policy_ops", "policy_magnitude"} & {*never.distributions, *never.fixed}
    assert {"policy_ops", "policy_magnitude"} <= set(always.distributions)
    assert set(never.conditions) == set(always.conditions) == {"crop_scale"}
    fewer = change("policy=none,rand_augment")
    assert fewer.conditions == base().conditions
    assert set(change("policy=none,trivial_augment").conditions) == {"crop_scale"}
    assert "crop_scale" in change("augmentation=resized_crop_flip").recipe
    assert "crop_scale" not in change("augmentation=crop").distributions
    fixed = change("policy_magnitude=5")
    assert set(fixed.conditions) == {"policy_ops", "crop_scale"}
    assert fixed.fixed["policy_magnitude"] == 5.0


def test_a_file_searches_under_a_condition(tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text("optimizer: [sgd, adamw]\nmomentum: {low: 0.8, high: 0.95, when: {optimizer: sgd}}\nlr: 1e-2\n")
    space = search_spaces.from_file(path, base())
    assert space.conditions["momentum"] == ("optimizer", "sgd")
    assert space.fixed["lr"] == 0.01
    assert "momentum" in space.recipe
    assert "momentum" not in space.active({**space.baseline, "optimizer": "adamw"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("momentum: {low: 0.8, high: 0.9, when: {optimizer: sgd}}\n", "line 1: .*but optimizer cannot take that value"),
        ("momentum: {low: 0.8, high: 0.9, when: sgd}\n", "line 1: momentum: when must name one choice and its value"),
        ("momentum: {low: 0.8, high: 0.9, when: {optimizer: lamb}}\n", "optimizer must be one of sgd, adam"),
        ("policy_ops: {low: 1, high: 2, when: {policy_magnitude: 3}}\n", "but policy_magnitude cannot take that value"),
    ],
)
def test_a_condition_that_makes_no_sense_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "space.yaml").write_text(text)
    with pytest.raises(ValueError, match=message):
        search_spaces.from_file(tmp_path / "space.yaml", base())


@pytest.mark.parametrize("name", models.names())
def test_a_table_leaves_out_what_its_architecture_lacks(name: str) -> None:
    """And searches the dropout, depths and heads that it has."""
    space, entry = search_spaces.for_model(name), models.architecture(name)
    used = set(model_options({**space.distributions, **space.recipe}))
    assert used <= set(entry.options)
    if entry.family in ("alexnet", "vgg", "mobilenet", "efficientnet", "densenet"):
        assert "dropout" in used


def test_a_space_for_architectures_that_nobody_wrote_one_for() -> None:
    space = search_spaces.for_model("timm:convnext_atto")
    assert space.conditions["momentum"] == ("optimizer", "sgd")
    assert "momentum" not in space.recipe
    assert set(search_spaces.names()) == set(models.names())
