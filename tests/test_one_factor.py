"""One-factor studies: what their files may say, what each level trains, and how levels are compared."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest

import models
from search_spaces import one_factor
from search_spaces.one_factor import OneFactor
from tuning import one_factor as runner
from tuning.grid import GridSearcher
from tuning.levels import LevelResult, collect, difference, rows, spread
from tuning.prepare import Prepared, prepare_one_factor
from tuning.record import TrialRecord
from tuning.spec import HParams, StudySpec, model_options
from tuning.storage import STUDY_FILE

ROOT = Path(__file__).parent.parent
SHIPPED = sorted((ROOT / "search_spaces" / "one_factor").glob("*.yaml"))


def study(tmp_path: Path, text: str) -> OneFactor:
    path = tmp_path / "levels.yaml"
    path.write_text(text)
    assert one_factor.is_one_factor(path)
    return one_factor.read(path)


def spec(tmp_path: Path, model: str = "resnet20", **fields: object) -> StudySpec:
    return StudySpec(model=model, name="x", results_dir=str(tmp_path), tracking_uri=f"sqlite:///{tmp_path}/x.db",
                     scheduler="none", **fields)  # type: ignore[arg-type]  # fmt: skip


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
class TestEveryShippedStudy:
    def test_trains_what_its_architectures_have(self, path: Path, tmp_path: Path) -> None:
        shipped = one_factor.read(path)
        assert shipped.model
        assert shipped.question.endswith("?")
        assert shipped.published
        for name in shipped.levels:
            settings = {**shipped.settings(name)}
            model = settings.get("model", shipped.model)
            models.check(model, image_size=224, options=model_options(settings))

    def test_its_levels_differ(self, path: Path) -> None:
        shipped = one_factor.read(path)
        settings = [tuple(sorted(shipped.settings(name).items(), key=str)) for name in shipped.levels]
        assert len(set(settings)) == len(settings)


def test_all_experiments_of_the_reference_are_shipped() -> None:
    assert len(SHIPPED) >= 17


def test_a_file_names_levels_or_a_grid(tmp_path: Path) -> None:
    levels = study(tmp_path, "model: resnet20\nseeds: 2\ncommon: {lr: 0.05}\nlevels: {a: {}, b: {lr: 1e-2}}\n")
    assert levels.settings("a") == {"lr": 0.05}
    assert levels.settings("b") == {"lr": 0.01}
    assert (levels.seeds, levels.question) == (2, "levels")
    grid = study(tmp_path, "grid: {lr: [0.1, 0.2], batch_size: [32, 64]}\n")
    assert list(grid.levels) == [
        "lr 0.1, batch_size 32", "lr 0.1, batch_size 64", "lr 0.2, batch_size 32", "lr 0.2, batch_size 64",
    ]  # fmt: skip
    assert grid.settings("lr 0.2, batch_size 32") == {"lr": 0.2, "batch_size": 32}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("levels: {a: {}}\n", "levels needs at least two to compare, got a"),
        (
            "model: x\nlevels: {a: {}, b: {lrr: 1}}\n",
            "line 2: unknown setting 'lrr'; known: model, dataset, image_size",
        ),
        ("levels: {a: {}, b: {lr: fast}}\n", "line 1: lr must be a number above 0 to 100, got 'fast'"),
        ("levels: [a, b]\n", "line 1: levels must be a mapping"),
        ("levels: {a: {}, b: 3}\n", "line 1: level b must be a mapping, got 3"),
        ("seeds: 0\nlevels: {a: {}, b: {}}\n", "line 1: seeds must be a whole number from 1 to 1,000, got 0"),
        ("grid: {lr: 0.1}\n", "line 1: grid: lr needs a list of values, got 0.1"),
        ("lr: 0.1\nlevels: {a: {}, b: {}}\n", "line 1: unknown key 'lr'; a one-factor study has question"),
        ("question: 3\nlevels: {a: {}, b: {}}\n", "line 1: question must be text, got 3"),
    ],
)
def test_a_file_that_makes_no_sense_is_named_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        study(tmp_path, text)


def test_a_search_space_is_no_one_factor_study(tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text("lr: 0.1\n")
    assert not one_factor.is_one_factor(tmp_path / "space.yaml")


def prepared(tmp_path: Path) -> Prepared:
    levels: dict[str, dict[str, Any]] = {
        "plain": {},
        "squeezed": {"model": "se_resnet20", "se_ratio": 8},
        "large": {"image_size": 16},
    }
    return prepare_one_factor(
        spec(tmp_path, seeds=2), OneFactor(question="?", model="resnet20", levels=levels, common={"lr": 0.03})
    )


def test_levels_share_the_recipe_and_the_data_but_for_what_they_set(tmp_path: Path) -> None:
    whole = prepared(tmp_path)
    plain, squeezed, large = whole.levels.values()
    assert whole.spec.trials == 6
    assert plain.space.fixed["lr"] == 0.03
    assert {**plain.space.fixed, "se_ratio": 8} == squeezed.space.fixed
    assert squeezed.splits is plain.splits
    assert (squeezed.spec.model, large.splits.image_size) == ("se_resnet20", 16)


def test_what_they_share_is_what_no_level_sets(tmp_path: Path) -> None:
    whole = prepared(tmp_path)
    assert whole.shared() == {key: value for key, value in whole.levels["plain"].settings().items()
                              if key not in ("model", "image_size")}  # fmt: skip


def test_only_what_is_a_levels_fault_is_laid_at_its_door(tmp_path: Path) -> None:
    levels = {"small": {}, "smaller": {"image_size": 4}}
    study = OneFactor(question="?", model="resnet20", levels=levels)
    with pytest.raises(ValueError, match=r"^level 'smaller': .*image_size"):
        prepare_one_factor(spec(tmp_path), study)
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / STUDY_FILE).write_text("{}")
    with pytest.raises(ValueError, match=r"^there is a study 'x' in "):
        prepare_one_factor(spec(tmp_path), study)


def test_options_of_the_recipe_that_a_level_lacks_are_left_out(tmp_path: Path) -> None:
    levels = {"AlexNet": {}, "ResNet": {"model": "resnet20"}, "GoogLeNet": {"model": "googlenet"}}
    whole = prepare_one_factor(spec(tmp_path, model="googlenet"), OneFactor(question="?", model=None, levels=levels))
    assert whole.levels["GoogLeNet"].space.fixed["aux_weight"] == 0.3
    assert not {"aux_weight", "dropout"} & set(whole.levels["ResNet"].space.fixed)
    HParams(**whole.levels["ResNet"].space.fixed)


def test_every_level_is_trained_with_each_seed_one_seed_after_the_other(tmp_path: Path) -> None:
    configs = runner.configs(prepared(tmp_path))
    order = [(config["level"], config["replicate"]) for _, config in sorted(configs.items())]
    assert order == [(level, seed) for seed in (0, 1) for level in ("plain", "squeezed", "large")]
    searcher = GridSearcher({n: configs[n] for n in (5, 2)}, metric="val_accuracy", mode="max")
    assert [searcher.suggest("a"), searcher.suggest("b"), searcher.suggest("c")] == [configs[2], configs[5], "FINISHED"]
    assert searcher.numbers == {"a": 2, "b": 5}


def level(name: str, *accuracies: float) -> LevelResult:
    scores = dict(enumerate(accuracies))
    return LevelResult(name=name, settings={}, val_accuracies=scores, test_accuracies=scores, diverged=0, unfinished=0)


def test_differences_are_paired_by_seed() -> None:
    first, second = level("a", 0.50, 0.60, 0.70), level("b", 0.51, 0.61, 0.71)
    gain = difference(second, first)
    assert gain
    assert gain[0] == pytest.approx(0.01)
    assert gain[1] == pytest.approx(0, abs=1e-9), "each seed gained the same, however far the seeds are apart"
    shaky = difference(level("c", 0.52, 0.60, 0.71), first)
    assert shaky
    assert shaky[0] == pytest.approx(0.01)
    assert shaky[1] == pytest.approx(4.303 * 0.01 / math.sqrt(3), rel=1e-3)  # Student's t with 2 degrees of freedom
    assert difference(level("d", 0.9), first) == pytest.approx((0.4, math.inf))
    assert difference(level("e"), first) is None


def test_scores_are_shown_with_their_spread() -> None:
    assert spread([0.5, 0.6, 0.7]) == "60.00 +- 10.00"
    assert spread([0.5]) == "50.00"
    assert spread([]) == "-"


def test_what_did_not_finish_is_counted_not_averaged(tmp_path: Path) -> None:
    whole = prepared(tmp_path)
    records = {
        number: TrialRecord(number, config, 0.0, outcome="completed", epochs=[{"epoch": 1, "val_accuracy": 0.5}])
        for number, config in runner.configs(whole).items()
    }
    for record in records.values():
        record.test_accuracy = 0.4
    records[1].outcome = "diverged"
    records[5].outcome = "interrupted"
    del records[4]
    result = collect(whole, records)
    assert [(x.diverged, x.unfinished, len(x.test_accuracies)) for x in result.levels] == [
        (0, 0, 2),
        (1, 1, 0),
        (0, 1, 1),
    ]
    assert [row[-1] for row in rows(result)] == ["2", "0, 1 diverged, 1 unfinished", "1, 1 unfinished"]
    assert [row[1] for row in rows(result)] == ["50.00 +- 0.00", "-", "50.00"]
    assert dataclasses.asdict(result.levels[0])["test_accuracies"] == {0: 0.4, 1: 0.4}
