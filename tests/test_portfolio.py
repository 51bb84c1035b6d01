"""One budget for several architectures: numbering, forwarding and replay without Ray's machinery, and the table."""

import math
from pathlib import Path
from typing import Any

import pytest
from optuna.distributions import FloatDistribution

from search_spaces import SearchSpace
from tuning.budget import Meter
from tuning.journal import Journal
from tuning.leaderboard import ArchitectureResult, markdown, rows
from tuning.portfolio import PortfolioSearcher
from tuning.prepare import prepare
from tuning.record import StudyLog, TrialRecord, recipe_of
from tuning.recorder import Recorder
from tuning.scheduler import make_scheduler
from tuning.searcher import RungSearcher
from tuning.spec import METRIC, StudySpec
from tuning.storage import Storage

RUNGS = (1, 3, 9)
SPACES = {"alpha": {"x": FloatDistribution(0, 1)}, "beta": {"y": FloatDistribution(0, 1)}}
BASELINES = {"alpha": {"x": 0.5}, "beta": {"y": 0.5}}


def own_searcher(model: str) -> RungSearcher:
    return RungSearcher(SPACES[model], metric=METRIC, mode="max", baseline=BASELINES[model], rungs=RUNGS, seed=0)


def portfolio() -> PortfolioSearcher:
    searchers = {model: own_searcher(model) for model in SPACES}
    return PortfolioSearcher(searchers, metric=METRIC, mode="max", rungs=RUNGS, reduction_factor=3.0)


def report(searcher: PortfolioSearcher, trial_id: str, score: float, epochs: tuple[int, ...] = RUNGS) -> None:
    """The last of `epochs` is told as Ray tells it, on completion."""
    for epoch in epochs[:-1]:
        searcher.on_trial_result(trial_id, {"epoch": epoch, METRIC: score})
    searcher.on_trial_complete(trial_id, {"epoch": epochs[-1], METRIC: score})


def play(searcher: PortfolioSearcher, trials: range) -> list[dict[str, Any]]:
    """Runs trials one after the other; alpha is better throughout."""
    configs = []
    for trial in trials:
        config = searcher.suggest(str(trial))
        configs.append(config)
        report(searcher, str(trial), 0.9 - trial / 1000 if config["model"] == "alpha" else 0.3 + trial / 1000)
    return configs


class TestSearcher:
    def test_hands_out_the_recipes_first_and_names_the_architecture(self) -> None:
        searcher = portfolio()
        configs = play(searcher, range(30))
        assert configs[:2] == [{"model": "alpha", "x": 0.5}, {"model": "beta", "y": 0.5}]
        for config in configs:
            assert set(config) == {"model", *SPACES[config["model"]]}
        assert searcher.numbers == {str(trial): trial for trial in range(30)}

    def test_gives_more_trials_to_the_better_one(self) -> None:
        models = [config["model"] for config in play(portfolio(), range(40))]
        assert models[:6].count("beta") == 3
        assert models.count("alpha") > 25

    def test_proposes_for_each_what_its_own_study_would_have_proposed(self) -> None:
        configs = [config for config in play(portfolio(), range(9)) if config["model"] == "alpha"]
        alone = own_searcher("alpha")
        proposals = [alone.suggest(str(n)) for n in range(len(configs))]
        assert [{"x": config["x"]} for config in configs] == proposals

    def test_tells_the_bandit_what_it_saw(self) -> None:
        searcher = portfolio()
        for trial in range(6):
            searcher.suggest(str(trial))
        report(searcher, "0", 0.6)
        report(searcher, "2", 0.7, (1, 3))
        report(searcher, "4", math.nan, (2,))  # diverged before the second rung
        searcher.on_trial_complete("3", error=True)
        alpha, beta = searcher.arms()
        assert (alpha.pulls, beta.pulls) == (3, 3)
        assert alpha.recipe == {1: 0.6, 3: 0.6, 9: 0.6}
        assert alpha.scores == {1: [0.7], 3: [0.7, -math.inf], 9: []}
        assert (beta.recipe, beta.scores) == ({}, {1: [], 3: [], 9: []})

    def test_goes_on_from_a_replay_as_if_nothing_had_happened(self) -> None:
        whole, resumed = portfolio(), portfolio()
        configs = play(whole, range(20))
        for number, config in enumerate(configs):
            score = 0.9 - number / 1000 if config["model"] == "alpha" else 0.3 + number / 1000
            resumed.replay(number, config, {rung: {METRIC: score} for rung in RUNGS}, finished=True)
        assert resumed.arms() == whole.arms()
        assert resumed.suggest("next")["model"] == whole.suggest("next")["model"]
        assert resumed.numbers == {"next": 20}

    def test_hands_out_unfinished_trials_first_under_their_numbers(self) -> None:
        configs = play(portfolio(), range(9))
        resumed = portfolio()
        unfinished = (1, 4, 8)
        for number, config in enumerate(configs):
            resumed.replay(number, config, {1: {METRIC: 0.5}}, finished=number not in unfinished)
        again = {f"{n}": resumed.suggest(f"{n}") for n in unfinished}
        assert {resumed.numbers[trial_id]: config for trial_id, config in again.items()} == {
            number: configs[number] for number in unfinished
        }
        resumed.suggest("new")
        assert resumed.numbers["new"] == 9
        assert sum(arm.pulls for arm in resumed.arms()) == 10

    def test_a_recipe_that_was_never_started_keeps_its_number(self) -> None:
        resumed = portfolio()
        resumed.replay(0, {"model": "alpha", "x": 0.5}, {1: {METRIC: 0.5}}, finished=True)
        resumed.replay(2, {"model": "alpha", "x": 0.1}, {1: {METRIC: 0.5}}, finished=True)
        assert resumed.suggest("a") == {"model": "beta", "y": 0.5}
        resumed.suggest("b")
        assert resumed.numbers == {"a": 1, "b": 3}


def spec(**fields: object) -> StudySpec:
    options = {"model": "resnet20", "rivals": ("se_resnet20",), "name": "x", "epochs": 9, **fields}
    return StudySpec(**options)  # type: ignore[arg-type]


def test_no_recipe_is_stopped() -> None:
    scheduler = make_scheduler(spec())

    class Trial:
        trial_id, config = "x", {"model": "resnet20"}

    def decide(number: int, score: float) -> str:
        return scheduler.on_trial_result(None, Trial(), {"trial": number, "epoch": 3, METRIC: score})

    assert {decide(number, 0.9 - number / 100) for number in (2, 3, 4)} == {"CONTINUE", "STOP"}
    assert [decide(number, 0.0) for number in (0, 1, 5)] == ["CONTINUE", "CONTINUE", "STOP"]


def test_a_spec_needs_a_trial_for_each_recipe_and_each_architecture_once() -> None:
    assert spec(trials=2).recipes == {0, 1}
    with pytest.raises(ValueError, match="trials must be at least 2, the published recipe of each architecture, got 1"):
        spec(trials=1)
    with pytest.raises(ValueError, match="an architecture twice: resnet20, resnet20"):
        spec(rivals=["resnet20"])
    with pytest.raises(ValueError, match="unknown model 'resnet2'"):
        spec(rivals=["resnet2"])


def test_data_is_shared_where_the_size_is_the_same(tmp_path: Path) -> None:
    places = {"results_dir": str(tmp_path), "tracking_uri": f"sqlite:///{tmp_path / 'mlflow.db'}"}
    prepared = prepare(spec(rivals=("se_resnet20", "efficientnet_b0"), **places))
    parts = prepared.architectures
    assert [part.splits.image_size for part in parts.values()] == [8, 8, 16]
    assert parts["resnet20"].splits is parts["se_resnet20"].splits
    assert [part.spec.architectures for part in parts.values()] == [(name,) for name in parts]
    assert prepared.fixed()["efficientnet_b0.optimizer"] == "rmsprop"
    narrow = SearchSpace(distributions={}, baseline={}, fixed={"lr": 0.1})
    assert prepare(spec(**places), {"se_resnet20": narrow}).architectures["se_resnet20"].space is narrow


def test_each_architecture_keeps_the_checkpoint_of_its_best(tmp_path: Path) -> None:
    """Of the others the best of all do; the published recipes always."""
    log = StudyLog(Journal(tmp_path / "journal.jsonl"), {}, Meter(), [])
    storage = Storage(str(tmp_path.parent), tmp_path.name)
    recorder = Recorder(log, make_scheduler(spec()), storage.remove, spec(epochs=1), keep=1)

    class Trial:
        def __init__(self, number: int, config: dict[str, Any]) -> None:
            self.number, self.config = number, config

        def __str__(self) -> str:
            return f"trial_{self.number:04d}"

    for number, (model, score) in enumerate([("a", 0.1), ("b", 0.1), ("a", 0.9), ("a", 0.8), ("b", 0.5), ("b", 0.4)]):
        trial = Trial(number, {"model": model})
        (tmp_path / "trials" / str(trial)).mkdir(parents=True)
        recorder.on_trial_start(0, [], trial)
        log.emit("report", trial=number, metrics={METRIC: score, "epoch": 1})
        recorder.on_trial_complete(0, [], trial)
    log.journal.close()
    assert sorted(path.name for path in (tmp_path / "trials").iterdir()) == [
        "trial_0000", "trial_0001", "trial_0002", "trial_0004",
    ]  # fmt: skip
    labels = [log.records[number].label for number in (1, 2)]
    assert labels == ["b, published recipe", "a"]
    assert recipe_of(log.records[4], log.records) is log.records[1]


def test_a_trial_of_a_lone_architecture_has_no_name_but_its_recipe() -> None:
    assert TrialRecord(0, {"lr": 0.1}, 0.0, recipe=True).label == "published recipe"
    assert TrialRecord(1, {"lr": 0.1}, 0.0).label == ""


def test_the_table_says_what_is_a_tie_and_what_did_not_train() -> None:
    first = ArchitectureResult(model="a", image_size=8, trials=9, epochs=50, val_accuracy=0.9, test_accuracy=0.88)
    second = ArchitectureResult(
        model="b", image_size=8, trials=3, epochs=5, val_accuracy=0.85, test_accuracy=0.87, gain=-0.01, margin=0.02
    )
    clear = ArchitectureResult(
        model="c", image_size=8, trials=3, epochs=5, val_accuracy=0.5, test_accuracy=0.5, gain=-0.38, margin=0.05
    )
    table = rows([first, second, clear, ArchitectureResult(model="d", image_size=8, trials=1, epochs=0)])
    assert [row[:4] for row in table] == [
        ["a", "90.00 %", "88.00 %", ""],
        ["b", "85.00 %", "87.00 %", "-1.00 +- 2.00, a tie"],
        ["c", "50.00 %", "50.00 %", "-38.00 +- 5.00"],
        ["d", "-", "-", ""],
    ]
    assert markdown([first]).splitlines()[2] == "| a | 90.00 % | 88.00 % |  | - | 9 | 50 |"
