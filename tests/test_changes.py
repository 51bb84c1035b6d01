"""What a resumed study may change, how a change is told, and which earlier trials still speak for a changed space."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import search_spaces
from search_spaces import SearchSpace
from search_spaces.one_factor import OneFactor
from search_spaces.override import override, parse
from tuning.changes import Changes, More, anchored, differences, extend
from tuning.record import TrialRecord, apply
from tuning.spec import StudySpec

SPACE = search_spaces.for_model("resnet20")


def spec(**fields: Any) -> StudySpec:
    return anchored(StudySpec(**{"model": "resnet20", "name": "x", **fields}))


def changed(space: SearchSpace, *settings: str) -> SearchSpace:
    for setting in settings:
        key, _, text = setting.partition("=")
        space = override(space, key, parse(key, text))
    return space


def extended(spec: StudySpec, values: dict[str, Any] | None = None, **fields: Any) -> tuple[StudySpec, Changes | None]:
    new, _, changes = extend(spec, {"resnet20": SPACE}, fields, values or {}, None)
    return new, changes


def changed_by(
    space: SearchSpace, values: dict[str, Any], file: str | None = None
) -> tuple[SearchSpace, Changes | None]:
    _, new, changes = extend(spec(), {"resnet20": space}, {}, values, file)
    assert not isinstance(new, OneFactor)
    return new["resnet20"], changes


@pytest.mark.parametrize(
    ("before", "asked", "after"),
    [
        ({"trials": 12}, {"trials": More(50)}, {"trials": 62}),
        ({"trials": 12}, {"trials": 20}, {"trials": 20}),
        ({"time_budget": 60.0}, {"time_budget": More(1800.0)}, {"time_budget": 1860.0}),
        ({"epoch_budget": 100}, {"epoch_budget": More(200)}, {"epoch_budget": 300}),
        ({}, {"epoch_budget": 30}, {"epoch_budget": 30}),
        ({"gpu_hours": 0.5}, {"gpu_hours": More(0.25)}, {"gpu_hours": 0.75}),
    ],
)
def test_budgets_grow_by_a_sum_or_to_a_total(
    before: dict[str, Any], asked: dict[str, Any], after: dict[str, Any]
) -> None:
    new, changes = extended(spec(**before), **asked)
    assert new == spec(**{**before, **after})
    assert changes
    ((name, value),) = after.items()
    assert changes.lines[0].startswith(f"{name}: ")
    assert changes.lines[0].endswith(f"{value:g} asked for")


def test_nothing_new_is_no_change() -> None:
    plain = spec()
    same: dict[str, Any] = {
        "model": ["resnet20"], "dataset": "digits", "data_dir": "data", "trials": 12, "name": "x", "seed": 0
    }  # fmt: skip
    assert extended(plain, **same) == (plain, None)
    assert extended(plain, address="auto") == (dataclasses.replace(plain, address="auto"), None)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (
            {"epochs": 27},
            r"not epochs: 9 in the study, 27 asked for; start another study for that, with another --name",
        ),
        ({"seed": 1, "epochs": 27}, "not seed: 0 in the study, 1 asked for; epochs: 9 in the study, 27 asked for;"),
        ({"model": ["resnet32"]}, "model: resnet20 in the study, resnet32 asked for"),
        ({"model": ["resnet20", "vgg11"]}, "rivals: none in the study, vgg11 asked for"),
        ({"image_size": 16}, "image_size: none in the study, 16 asked for"),
        ({"dataset": "nowhere"}, "unknown data set 'nowhere'"),
        ({"epoch_budget": More(5)}, r"epoch_budget \+5: the study x has no epoch_budget to add to; give the total"),
        ({"trials": More(10**6)}, "trials must be a whole number from 1"),
    ],
)
def test_the_rest_stays_as_it_was_started(asked: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        extended(spec(), **asked)


def test_a_one_factor_study_takes_a_budget_and_no_trials_or_space() -> None:
    study = OneFactor(question="?", published="", model=None, levels={"a": {}, "b": {"mixup": 0.2}}, seeds=1)
    new, _, changes = extend(spec(seeds=1), study, {"time_budget": 60.0}, {}, None)
    assert new.time_budget == 60.0
    assert changes == Changes(lines=("time_budget: none in the study, 60 asked for",), fixed={})
    for fields, values in (({"trials": 3}, {}), ({}, {"lr": 0.1})):
        with pytest.raises(ValueError, match="x is a one-factor study, whose trials and levels are given"):
            extend(spec(seeds=1), study, fields, values, None)


def test_several_architectures_take_a_budget_and_keep_their_spaces() -> None:
    both = spec(rivals=("vgg11",))
    spaces = {model: search_spaces.for_model(model) for model in both.architectures}
    new, kept, changes = extend(both, spaces, {"trials": More(5), "model": ["resnet20", "vgg11"]}, {}, None)
    assert (new.trials, kept) == (both.trials + 5, spaces)
    assert changes
    with pytest.raises(ValueError, match="x has several architectures, whose search spaces are given"):
        extend(both, spaces, {}, {"lr": 0.1}, None)


def test_a_changed_space_is_told_by_hyperparameter_and_keeps_what_was_fixed() -> None:
    space = changed(SPACE, "clip_norm=1")
    values = {"lr": parse("lr", "0.02:0.1:log"), "clip_norm": parse("clip_norm", "0:2"), "momentum": 0.8}
    _, changes = changed_by(space, values)
    assert changes
    assert set(changes.lines) == {
        "lr: 0.01 .. 0.5, log in the study, 0.02 .. 0.1, log asked for",
        "clip_norm: always 1 in the study, 0 .. 2 asked for",
        f"momentum: {space.describe('momentum')} in the study, always 0.8 asked for",
    }
    assert {name: changes.fixed[name] for name in changes.fixed if name in values} == {"clip_norm": 1.0} | (
        {"momentum": space.fixed["momentum"]} if "momentum" in space.fixed else {}
    )


def test_a_space_file_changes_the_study_s_own_space(tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text("lr: 0.1\n")
    new, changes = changed_by(changed(SPACE, "clip_norm=1"), {}, str(tmp_path / "space.yaml"))
    assert (new.fixed["lr"], new.fixed["clip_norm"]) == (0.1, 1.0)
    assert changes
    assert changes.fixed == {}


def test_a_path_that_is_written_otherwise_is_no_difference() -> None:
    started = spec()
    assert differences(started, {"data_dir": "./data", "tracking_uri": "sqlite:///mlflow.db"}) == []
    assert differences(started, {"data_dir": "/elsewhere"}) == [
        f"data_dir: {Path('data').absolute()} in the study, /elsewhere asked for"
    ]


def fitting(space: SearchSpace, settings: tuple[str, ...], config: dict[str, Any]) -> dict[str, Any] | None:
    """What a study of a changed space learns from a trial of `space`, through the events of its journal."""
    values = {key: parse(key, text) for key, _, text in (setting.partition("=") for setting in settings)}
    new, changes = changed_by(space, values)
    records = {0: TrialRecord(0, config, 0.0)}
    if changes:
        apply(records, {"event": "changed", "fixed": changes.fixed})
    return new.fitting(records[0].config)


BASE = SPACE.active(SPACE.baseline)


@pytest.mark.parametrize(
    ("before", "after", "config", "expected"),
    [
        ((), (), {}, {}),
        ((), ("lr=0.05:0.2",), {"lr": 0.1}, {}),
        ((), ("lr=0.05:0.2",), {"lr": 0.3}, None),
        ((), ("lr=0.1",), {"lr": 0.1}, {"lr": ...}),
        ((), ("lr=0.1",), {"lr": 0.2}, None),
        ((), ("batch_size=32,64",), {"batch_size": 64}, {}),
        ((), ("batch_size=32,64",), {"batch_size": 256}, None),
        (("clip_norm=1",), ("clip_norm=0:2",), {}, {"clip_norm": 1.0}),
        (("clip_norm=3",), ("clip_norm=0:2",), {}, None),
        ((), ("clip_norm=0:2",), {}, {"clip_norm": 0.0}),
        ((), ("clip_norm=1",), {}, None),
        ((), ("clip_norm=0",), {}, {}),
    ],
)
def test_a_trial_counts_where_the_new_space_could_have_made_it(
    before: tuple[str, ...], after: tuple[str, ...], config: dict[str, Any], expected: dict[str, Any] | None
) -> None:
    seen = fitting(changed(SPACE, *before), after, {**BASE, **config})
    if expected is None:
        assert seen is None
    else:
        whole = {**BASE, **config, **expected}
        assert seen == {name: value for name, value in whole.items() if value is not ...}


@given(st.sampled_from(search_spaces.names()))
def test_every_published_recipe_fits_its_own_space(model: str) -> None:
    space = search_spaces.for_model(model)
    assert space.fitting(space.active(space.baseline)) == space.active(space.baseline)
