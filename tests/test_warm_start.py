"""What a new study takes over from earlier ones, by value, from folders with a real journal and study.json."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from PIL import Image

import search_spaces
from search_spaces import Condition, SearchSpace
from tuning.budget import Meter
from tuning.classifier import Format
from tuning.journal import Journal
from tuning.prepare import prepare
from tuning.record import StudyLog, TrialRecord
from tuning.spec import HParams, StudySpec
from tuning.study import _replayed
from tuning.study_file import write
from tuning.warm_start import PRIOR, distance, gather, mapped_into, merits, recall

SPACE = search_spaces.for_model("resnet20")
BASELINE = SPACE.active(SPACE.baseline)
GOOD = {**BASELINE, "lr": 0.02, "weight_decay": 2e-3, "batch_size": 32, "warmup": 0.3, "mixup": 0.4}
OTHER = {**BASELINE, "lr": 0.4, "augmentation": "none", "cutmix": 0.5, "erasing": 0.5}
SMALL = SearchSpace(
    distributions={
        "lr": FloatDistribution(0.01, 0.1, log=True),
        "batch_size": CategoricalDistribution((32, 64)),
        "policy": CategoricalDistribution(("none", "rand_augment")),
        "policy_ops": IntDistribution(1, 3),
    },
    baseline={"lr": 0.05, "batch_size": 64, "policy": "none", "policy_ops": 2},
    fixed={"optimizer": "sgd"},
    conditions={"policy_ops": Condition("policy", "rand_augment")},
)


def spec_of(name: str, results: Path, **fields: Any) -> StudySpec:
    uri = f"sqlite:///{results / 'mlflow.db'}"
    return StudySpec(**{"model": "resnet20", "name": name, "results_dir": str(results), "tracking_uri": uri, **fields})


def past(name: str, results: Path, trials: list[tuple[dict[str, Any], list[float], str]], **fields: Any) -> Path:
    """A study with these trials, each of configuration, scores and outcome."""
    prepared = prepare(spec_of(name, results, **fields))
    prepared.folder.mkdir(parents=True)
    write(prepared, {prepared.spec.model: (Format(), {})})
    journal = Journal(prepared.folder / "journal.jsonl")
    for number, (config, scores, outcome) in enumerate(trials):
        journal.append({"event": "start", "trial": number, "config": config})
        for epoch, score in enumerate(scores, start=1):
            journal.append({"event": "report", "trial": number, "metrics": {"epoch": epoch, "val_accuracy": score}})
        journal.append({"event": "end", "trial": number, "outcome": outcome, "reason": ""})
    journal.close()
    return prepared.folder


def _photos(folder: Path) -> str:
    """A data set of noise: ten classes of two hundred images, enough to prepare a study."""
    photos, rng = folder / "photos", np.random.default_rng(0)
    for index in range(0 if photos.exists() else 2000):
        path = photos / f"class{index % 10}" / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (8, 8), np.uint8)).save(path)
    return str(photos)


def flat(score: float, epochs: int = 9) -> list[float]:
    return [score] * epochs


TRIALS = [
    (BASELINE, flat(0.8), "completed"),
    (GOOD, flat(0.9), "completed"),
    ({**GOOD, "lr": 0.021}, flat(0.89), "completed"),  # the same region
    (OTHER, flat(0.85), "completed"),
    ({**OTHER, "lr": 0.5}, flat(0.2, 3), "stopped"),
    ({**GOOD, "lr": 0.5}, [], "diverged"),
    ({**GOOD, "lr": 0.03}, flat(0.99, 3), "interrupted"),
    ({**GOOD, "lr": 0.04}, [], "failed"),
    ({**GOOD, "lr": 0.05, "cutmix": 0.5}, flat(0.3, 3), "stopped"),
    ({**GOOD, "lr": 0.06, "cutmix": 0.4}, flat(0.31, 3), "stopped"),
    ({**GOOD, "lr": 0.07, "cutmix": 0.3}, flat(0.32, 3), "stopped"),
    ({**GOOD, "lr": 0.08, "cutmix": 0.2}, flat(0.33, 3), "stopped"),
]


def test_merits_compare_at_the_highest_common_rung() -> None:
    """A baseline that runs to the end whatever its score is not better than those that were stopped above it."""
    curves = [[0.1, 0.1, 0.2], [0.5, 0.6, 0.9], [0.3], [0.5, math.nan], [0.2, 0.4, 0.8]]
    assert merits(curves, (1, 3)) == [0.25, 1.0, 0.75, 0.0, 0.5]


def test_merits_of_ties_and_of_one() -> None:
    assert merits([[0.5], [0.5], [0.5]], (1,)) == [0.5, 0.5, 0.5]
    assert merits([[0.5]], (1,)) == [1.0]
    assert merits([], (1,)) == []
    assert merits([[0.9, 0.1], [0.5, 0.6]], (2,)) == [1.0, 0.0], "a trial is worth its best epoch"


@given(st.lists(st.lists(st.floats(0, 1), min_size=1, max_size=9), min_size=2, max_size=30))
def test_merits_are_shares_and_average_to_a_half(curves: list[list[float]]) -> None:
    found = merits(curves, (1, 3, 9))
    assert all(0 <= merit <= 1 for merit in found)
    assert sum(found) / len(found) == pytest.approx(0.5)


def test_a_configuration_is_brought_into_the_space() -> None:
    other = {"lr": 0.3, "batch_size": 32, "policy": "rand_augment", "policy_ops": 5, "dropout": 0.5}
    assert mapped_into(SMALL, {"optimizer": "sgd"}, other) == {
        "lr": 0.1, "batch_size": 32, "policy": "rand_augment", "policy_ops": 3,
    }  # fmt: skip
    lacking = {"lr": 0.02, "batch_size": 30, "policy": "trivial_augment", "policy_ops": 1}
    assert mapped_into(SMALL, {"optimizer": "sgd"}, lacking) == {"lr": 0.02, "batch_size": 32, "policy": "none"}
    assert mapped_into(SMALL, {"optimizer": "sgd", "lr": 0.03}, {}) == {
        "lr": 0.03, "batch_size": 64, "policy": "none",
    }  # fmt: skip


def test_a_rate_means_nothing_to_another_optimizer() -> None:
    assert mapped_into(SMALL, {"optimizer": "adamw"}, {"lr": 0.02, "batch_size": 32})["lr"] == 0.05
    assert mapped_into(SMALL, {"optimizer": "adamw"}, {"lr": 0.02, "batch_size": 32})["batch_size"] == 32


@given(st.data())
def test_whatever_comes_the_result_is_in_the_space(data: st.DataObject) -> None:
    source = search_spaces.for_model(data.draw(st.sampled_from(search_spaces.names())))
    target = search_spaces.for_model(data.draw(st.sampled_from(search_spaces.names())))
    config = mapped_into(target, source.fixed, source.active(source.baseline))
    assert set(config) == set(target.active({**target.baseline, **config}))
    assert all(
        target.distributions[n]._contains(target.distributions[n].to_internal_repr(v)) for n, v in config.items()
    )
    HParams(**{**target.fixed, **config})


def test_distance_is_a_share_of_the_ranges() -> None:
    one, other = {"lr": 0.01, "batch_size": 32}, {"lr": 0.1, "batch_size": 64}
    assert distance(SMALL, one, one) == 0
    assert distance(SMALL, one, other) == 1
    assert distance(SMALL, one, {**one, "lr": 0.01 * 10**0.5}) == pytest.approx(0.25)


def test_the_best_of_different_regions_come_first(tmp_path: Path) -> None:
    past("old", tmp_path, TRIALS)
    warm = gather(spec_of("new", tmp_path, warm_start="old"), SPACE)
    assert list(warm.first) == [GOOD, OTHER], "the second best is near the best"
    assert [str(source) for source in warm.sources] == ["old (trial 1, 0.9000)", "old (trial 3, 0.8500)"]
    assert warm.prior[0] == (GOOD, 1.0)
    assert warm.prior[-1] == ({**GOOD, "lr": 0.5}, 0.0), "the diverged one is the worst"
    assert len(warm.prior) == 10, "interrupted and failed trials tell nothing"


def test_each_study_named_gives_its_best(tmp_path: Path) -> None:
    past("a", tmp_path, TRIALS)
    past("b", tmp_path, [(OTHER, flat(0.7), "completed"), (GOOD, flat(0.1), "completed")])
    warm = gather(spec_of("new", tmp_path, warm_start="b,a"), SPACE)
    assert [source.study for source in warm.sources] == ["b", "a"]
    assert list(warm.first) == [OTHER, GOOD]


def test_what_fared_worse_than_the_baseline_is_no_start(tmp_path: Path) -> None:
    past("old", tmp_path, [(GOOD, flat(0.7), "completed"), (BASELINE, flat(0.8), "completed")])
    warm = gather(spec_of("new", tmp_path, warm_start="old"), SPACE)
    assert (warm.first, len(warm.prior)) == ((), 2)
    assert warm.notes() == ["nothing in the earlier studies beat the published recipe, which comes first anyway"]


def test_at_most_so_many_are_remembered_from_the_best_to_the_worst(tmp_path: Path) -> None:
    many = [({**GOOD, "lr": 0.01 + index / 1000}, flat(index / 1000), "completed") for index in range(450)]
    past("many", tmp_path, many)
    prior = gather(spec_of("new", tmp_path, warm_start="many"), SPACE).prior
    values = [merit for _, merit in prior]
    assert len(prior) == PRIOR
    assert values == sorted(values, reverse=True)
    assert values[0] == 1
    assert values[-1] < 0.01


def test_auto_takes_the_most_alike_first(tmp_path: Path) -> None:
    third = {**BASELINE, "augmentation": "crop", "policy": "trivial_augment", "label_smoothing": 0.2, "mixup": 0.1}
    past("cousin", tmp_path, [(third, flat(0.9), "completed")], model="resnet32", dataset=_photos(tmp_path))
    past("data", tmp_path, [(OTHER, flat(0.8), "completed")], model="alexnet_cifar", image_size=16)
    past("stranger", tmp_path, TRIALS, model="alexnet_cifar", image_size=16, dataset=_photos(tmp_path))
    past("same", tmp_path, [(GOOD, flat(0.7), "completed")])
    past("empty", tmp_path, [])
    past("broken", tmp_path, TRIALS).joinpath("study.json").write_text("{")
    new = spec_of("new", tmp_path, warm_start="auto")
    assert [source.study for source in gather(new, SPACE).sources] == ["same", "data", "cousin"]
    assert len(gather(new, SPACE).prior) == 3
    alone = spec_of("new", tmp_path / "elsewhere", warm_start="auto")
    assert gather(alone, SPACE).first == ()
    assert gather(alone, SPACE).notes() == [
        "no earlier study is like this one: starts from nothing but the published recipe"
    ]


def test_they_are_the_first_trials_and_each_comes_once(tmp_path: Path) -> None:
    past("old", tmp_path, TRIALS)
    prepared = prepare(spec_of("new", tmp_path, warm_start="old"))
    log = StudyLog(Journal(tmp_path / "journal.jsonl"), {}, Meter(), [])
    searcher, _ = _replayed(prepared, log)
    assert [searcher.suggest(name) for name in "abc"] == [BASELINE, GOOD, OTHER]
    earlier = {number: TrialRecord(number, config, 0.0) for number, config in enumerate([BASELINE, GOOD])}
    searcher, _ = _replayed(prepared, StudyLog(log.journal, earlier, Meter(), []))
    log.journal.close()
    assert [searcher.suggest(name) for name in "abc"] == [BASELINE, GOOD, OTHER], "two go on, one is new"
    assert searcher.suggest("d") not in (BASELINE, GOOD, OTHER)


def test_what_cannot_be_had_is_named(tmp_path: Path) -> None:
    past("old", tmp_path, TRIALS)
    past("empty", tmp_path, [])
    past("broken", tmp_path, TRIALS).joinpath("study.json").write_text("{")
    for name, message in (
        ("older", f"there is no study 'older' in {tmp_path}; there are: broken, empty, old"),
        ("new", "there is no study 'new'"),
        ("empty", "empty has no trials to learn from"),
        ("broken", "cannot be read"),
    ):
        with pytest.raises(ValueError, match=message):
            gather(spec_of("new", tmp_path, warm_start=f"old,{name}"), SPACE)
    for text in ("", "a,,b", "../x"):
        with pytest.raises(ValueError, match="warm_start must be auto or names"):
            spec_of("new", tmp_path, warm_start=text)


def test_a_resume_needs_no_other_folder(tmp_path: Path) -> None:
    old = past("old", tmp_path, TRIALS)
    prepared = prepare(spec_of("new", tmp_path, warm_start="old"))
    assert prepared.warm == gather(prepared.spec, SPACE)
    assert prepared.notes()[-2:] == [
        "starts from the best of old (trial 1, 0.9000)", "starts from the best of old (trial 3, 0.8500)",
    ]  # fmt: skip
    prepared.folder.mkdir()
    write(prepared, {prepared.spec.model: (Format(), {})})
    for path in old.iterdir():
        path.unlink()
    assert recall(prepared.storage, prepared.spec.model) == prepared.warm
    assert prepare(prepared.spec, resume=True).warm == prepared.warm
    assert json.loads((prepared.folder / "study.json").read_text())["spec"]["warm_start"] == "old"


def test_a_study_without_it_knows_of_none(tmp_path: Path) -> None:
    prepared = prepare(spec_of("new", tmp_path))
    assert prepared.warm is None
    prepared.folder.mkdir()
    write(prepared, {prepared.spec.model: (Format(), {})})
    assert "warm_start" not in json.loads((prepared.folder / "study.json").read_text())
    assert dataclasses.asdict(prepared.spec)["warm_start"] is None
