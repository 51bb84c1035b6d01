"""The finals: the only place that reads the test set, once, for each architecture's winner and published recipe."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import mean
from typing import Any

import ray

from cluster.resources import Resources
from cluster.session import call_on_worker
from tuning.classifier import predict
from tuning.data_parallel import together
from tuning.export import rebuild
from tuning.front import candidates, pareto_front, violation
from tuning.loader import Loader
from tuning.objectives import Objectives
from tuning.record import Records, TrialRecord, recipe_of
from tuning.scores import score_of, standard_error
from tuning.seeds import derive_seed
from tuning.spec import METRIC
from tuning.storage import Storage
from tuning.training import Diverged, Training
from tuning.trial import TrialSetup, best_of, build_arguments, trial_name

CONFIDENCE_Z = 1.96  # 95 %


@dataclass(frozen=True, kw_only=True)
class Finalist:
    """One configuration, trained once or over several seeds, and the checkpoint of its best validation accuracy."""

    number: int
    config: Mapping[str, Any]
    checkpoints: tuple[str, ...]  # among the files of the study
    val_accuracies: tuple[float, ...]
    test_accuracies: tuple[float, ...] = ()
    standard_error: float = 0.0  # of the first of them, for the choice of the test images

    @property
    def val_accuracy(self) -> float:
        return mean(self.val_accuracies)

    @property
    def test_accuracy(self) -> float:
        return mean(self.test_accuracies)

    @property
    def checkpoint(self) -> str:
        return max(zip(self.val_accuracies, self.checkpoints, strict=True), key=lambda pair: pair[0])[1]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Winner against baseline on the test set; `margin` is half of the 95 % interval of their difference."""

    winner: Finalist
    baseline: Finalist | None  # None: the published recipe gave no finite result
    margin: float
    front: Mapping[int, float] = field(default_factory=dict)  # test score of each trial on the front
    note: str = ""  # on the constraints

    @property
    def gain(self) -> float:
        """Test accuracy won over the baseline."""
        return self.winner.test_accuracy - (self.baseline.test_accuracy if self.baseline else 0.0)

    def __str__(self) -> str:
        return "; ".join(part for part in (self._comparison(), self.note) if part)

    def _comparison(self) -> str:
        if self.baseline is None:
            return "the published recipe did not train at all here"
        if self.winner.number == self.baseline.number:
            return "no configuration beat the published recipe on the validation images"
        noise = f"95 % interval +-{100 * self.margin:.1f}"
        if abs(self.gain) <= self.margin:
            return f"a tie with the published recipe: {100 * self.gain:+.1f} points, {noise}"
        better = "better" if self.gain > 0 else "worse"
        return f"{better} than the published recipe by {100 * abs(self.gain):.1f} points, {noise}"


def run_finals(setup: TrialSetup, records: Records, trial: Resources, concurrent: int) -> dict[str, Verdict]:
    """Chooses winners by validation accuracy, then measures them, the published recipes and the front on the test set.

    The finalists are the best of all, and of each architecture its best and its published recipe. Gives a verdict for
    each architecture with a finalist that trained, the winner of all first. At most `concurrent` train at once.
    """
    (best, seeds), goals = setup.spec.finalists, setup.spec.goals
    order = candidates(records, goals)
    leaders = {record.model: record for record in reversed(order)}
    chosen = [record for place, record in enumerate(order) if place < best or record is leaders[record.model]]
    chosen += [r for r in records.values() if r.recipe and r.epochs and all(r is not other for other in chosen)]
    if (best, seeds) == (1, 1):
        finalists = [_from_search(record) for record in chosen]
    else:
        finalists = _retrain(setup, {record.number: record.config for record in chosen}, seeds, trial, concurrent)
    by_model: dict[str, list[Finalist]] = {}
    for finalist in sorted(finalists, key=lambda f: (violation(records[f.number], goals), -f.val_accuracy)):
        by_model.setdefault(setup.of(finalist.config).spec.model, []).append(finalist)
    return {model: _verdict(setup.of(own[0].config), own, records, trial) for model, own in by_model.items()}


def _verdict(setup: TrialSetup, finalists: Sequence[Finalist], records: Records, trial: Resources) -> Verdict:
    """The best of one architecture's finalists, which comes first, against its published recipe."""
    winner, goals = finalists[0], setup.spec.goals
    baseline = next((finalist for finalist in finalists if records[finalist.number].recipe), None)
    front = [_from_search(record) for record in pareto_front(records, goals)] if goals.several else []
    tested = _test(setup, [winner, *([baseline] if baseline else []), *front], trial)
    first, second = tested[winner.checkpoints], tested[baseline.checkpoints] if baseline else None
    return Verdict(
        winner=first,
        baseline=second,
        margin=margin(first, second or first),
        front={finalist.number: tested[finalist.checkpoints].test_accuracy for finalist in front},
        note=_note(records, winner.number, goals),
    )


def _note(records: Records, winner: int, goals: Objectives) -> str:
    """Who does not satisfy the constraints, of winner and published recipe."""
    best = records[winner].best or {}
    if violation(records[winner], goals):
        return f"no trial satisfies the constraints, trial {winner} comes nearest: {goals.broken(best)}"
    recipe = recipe_of(records[winner], records)
    broken = goals.broken(recipe.best or {}) if recipe else ""
    return f"the published recipe does not satisfy the constraints: {broken}" if broken else ""


def description(setup: TrialSetup, meta: Mapping[str, Any]) -> dict[str, Any]:
    """What `export.rebuild` needs for the weights of a trial's checkpoint."""
    splits = setup.splits
    return {
        "model": setup.spec.model,
        "build": {**build_arguments(splits), **meta["options"]},
        "classes": list(splits.classes),
        "mean": list(splits.mean),
        "std": list(splits.std),
        "task": splits.task,
        "format": dataclasses.asdict(setup.format),
    }


def _from_search(record: TrialRecord) -> Finalist:
    return Finalist(
        number=record.number,
        config=record.config,
        checkpoints=(best_of(record.number),),
        val_accuracies=(record.score,),
    )


def _retrain(
    setup: TrialSetup, configs: Mapping[int, Mapping[str, Any]], seeds: int, trial: Resources, concurrent: int
) -> list[Finalist]:
    """Trains each configuration to the full length over fresh seeds, the same for all, so many at once."""
    shared, task = ray.put(setup), ray.remote(_train_final).options(num_cpus=trial.cpus, num_gpus=trial.gpus)
    files = {n: [f"finals/{trial_name(n)}_{s}.safetensors" for s in range(seeds)] for n in configs}
    pending: dict[int, list[Any]] = {number: [] for number in configs}
    for number, config in configs.items():
        for seed, file in enumerate(files[number]):
            wait_for_place([ref for refs in pending.values() for ref in refs], concurrent)
            own_seed = derive_seed(setup.spec.seed, "finals", seed)
            pending[number].append(task.remote(shared, dict(config), own_seed, file))
    finalists = []
    for number, config in configs.items():
        scores = ray.get(pending[number])
        kept = [(file, score) for file, score in zip(files[number], scores, strict=True) if score is not None]
        if len(kept) == seeds:  # a configuration that diverges with some seeds is no winner
            finalists.append(
                Finalist(
                    number=number,
                    config=config,
                    checkpoints=tuple(file for file, _ in kept),
                    val_accuracies=tuple(score for _, score in kept),
                )
            )
    if not finalists:
        raise RuntimeError("every finalist diverged when trained again with another seed")
    return finalists


def wait_for_place(begun: Sequence[Any], places: int) -> None:
    """Returns once fewer than so many of these tasks are left to end."""
    if len(begun) >= places:
        ray.wait(list(begun), num_returns=len(begun) - places + 1)


def _train_final(setup: TrialSetup, config: dict[str, Any], seed: int, file: str) -> float | None:
    own = setup.of(config)
    with together(own, config, seed):
        return _best_epoch(own.training(config, seed), config, own.storage, file)


def _best_epoch(training: Training, config: dict[str, Any], storage: Storage, file: str) -> float | None:
    """Its validation accuracy; None if the training diverged."""
    best = None
    try:
        for metrics in training.run():
            if best is None or metrics.val_accuracy > best:
                best = metrics.val_accuracy
                meta = {
                    "metrics": dataclasses.asdict(metrics),
                    "options": training.hparams.model_options,
                    "config": config,
                }
                storage.save(file, training.weights(), meta)
    except Diverged:
        return None
    return best


def _test(setup: TrialSetup, finalists: Sequence[Finalist], trial: Resources) -> dict[tuple[str, ...], Finalist]:
    """The finalists with their test scores, by their checkpoints; whoever is named twice is measured once."""
    finalists = list({finalist.checkpoints: finalist for finalist in finalists}.values())
    files = [file for finalist in finalists for file in finalist.checkpoints]
    measured = iter(call_on_worker(measure, setup, files, address=setup.spec.address, trial=trial))
    tested = {}
    for finalist in finalists:
        scores, errors = zip(*(next(measured) for _ in finalist.checkpoints), strict=True)
        tested[finalist.checkpoints] = dataclasses.replace(finalist, test_accuracies=scores, standard_error=errors[0])
    return tested


def measure(setup: TrialSetup, files: Sequence[str]) -> list[tuple[float, float]]:
    """Test score of each checkpoint with its standard error; its validation score must come out as it was logged."""
    val, test = Loader(setup.splits.val, setup.device), Loader(setup.splits.test, setup.device)
    measured = []
    for file in files:
        weights, meta = setup.storage.load(file)
        model = rebuild(description(setup, meta), weights).to(setup.device)
        again = score_of(*predict(model, val, setup.format))
        tolerance = 0.0 if setup.device == "cpu" else 0.005  # GPU kernels may round a few images differently
        if abs(again - meta["metrics"][METRIC]) > tolerance:
            raise RuntimeError(f"{file} gives validation accuracy {again}, logged was {meta['metrics'][METRIC]}")
        logits, labels = predict(model, test, setup.format)
        measured.append((score_of(logits, labels), standard_error(logits, labels)))
    return measured


def margin(winner: Finalist, baseline: Finalist) -> float:
    """Half of the 95 % interval of the difference in test score, over seeds if there are several, else images."""
    if len(winner.test_accuracies) > 1:
        from scipy.stats import ttest_ind

        interval = ttest_ind(winner.test_accuracies, baseline.test_accuracies, equal_var=False).confidence_interval()
        return 0.0 if math.isnan(interval.high) else float(interval.high - interval.low) / 2
    return CONFIDENCE_Z * math.hypot(winner.standard_error, baseline.standard_error)
