"""The audit of early stopping, by value: from records of trials that would have been stopped but were let run on."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, spearmanr

from tuning.audit import audit, rank_correlation, wilson
from tuning.record import Records, TrialRecord, apply
from tuning.report import _early_stopping

RUNGS = (1, 3)
REMEDY = "compare later with --set grace_epochs=N, or run all to the end with --set scheduler=none"


def study(*trials: tuple[list[float], str], lr: list[float] | None = None, **config: Any) -> Records:
    """Records of trials given as scores by epoch and outcome; an outcome of `audited` completes past its stop at 1."""
    records: Records = {}
    for number, (scores, outcome) in enumerate(trials):
        epochs = [{"epoch": epoch, "val_accuracy": score} for epoch, score in enumerate(scores, start=1)]
        record = TrialRecord(number, {**config, **({"lr": lr[number]} if lr else {})}, 0.0, outcome, epochs=epochs)
        if outcome == "audited":
            record = dataclasses.replace(record, outcome="completed", audited_at=1)
        records[number] = record
    return records


def run(start: float, end: float) -> list[float]:
    return [start, (start + end) / 2, end]


SURVIVORS = [(run(0.5 + i / 100, 0.8 + i / 100), "completed") for i in range(6)]
STOPPED = [([0.1 + i / 100], "stopped") for i in range(9)]


def test_a_go_on_event_says_where_it_would_have_ended() -> None:
    records: Records = {}
    apply(records, {"event": "start", "trial": 0, "config": {}, "time": 1.0})
    for epoch in (1, 2, 3):
        apply(records, {"event": "report", "trial": 0, "metrics": {"epoch": epoch, "val_accuracy": 0.5}})
    apply(records, {"event": "go_on", "trial": 0, "reason": "fine"})
    assert records[0].audited_at is None
    apply(records, {"event": "go_on", "trial": 0, "reason": "weak", "audited": True})
    assert records[0].audited_at == 3


def test_stops_that_were_right() -> None:
    found = audit(study(*SURVIVORS, *STOPPED, (run(0.2, 0.4), "audited"), ([0.2], "diverged")), RUNGS, 3.0)
    assert (found.audited, found.among_best, found.above_winner) == (1, 0, 0)
    assert found.agreements[0].correlation == pytest.approx(1)
    assert found.agreements[0].trials == 7
    assert found.warnings == []
    assert str(found) == (
        "0 of 1 audited trials ended among the best 1/3, 0 above the winner; "
        "rank correlation with the end 1.00 at epoch 1"
    )
    assert found.metrics == {
        "audit_trials": 1, "audit_among_best": 0, "audit_above_winner": 0,
        "rank_correlation_epoch_1": pytest.approx(1),
    }  # fmt: skip


def test_stops_that_lost_the_best_are_warned_of_with_counts() -> None:
    lost = [(run(0.1, 0.9 + i / 100), "audited") for i in range(3)]
    found = audit(study(*SURVIVORS, *STOPPED, *lost), RUNGS, 3.0)
    assert (found.audited, found.among_best, found.above_winner) == (3, 3, 3)
    claim = "early stopping cannot be trusted here: 3 of 3 trials that it would have stopped ended among the best"
    assert found.warnings[0] == f"{claim}; {REMEDY}"
    page = _early_stopping(found)
    assert "3 of 3 audited trials" in page
    assert page.count("cannot be trusted") == 1


def test_one_lost_trial_is_told_but_is_no_reason_to_warn() -> None:
    trials = [*SURVIVORS, *STOPPED, (run(0.1, 0.9), "audited"), (run(0.1, 0.2), "audited"), (run(0.1, 0.3), "audited")]
    found = audit(study(*trials), RUNGS, 3.0)
    assert (found.audited, found.among_best, found.above_winner) == (3, 1, 1)
    assert found.warnings == []


def test_a_rate_is_told_only_of_enough() -> None:
    many = [(run(0.1, 0.9 + i / 1000), "audited") for i in range(2)] + [(run(0.1, 0.2), "audited")] * 12
    found = audit(study(*SURVIVORS, *STOPPED, *many), RUNGS, 3.0)
    assert str(found).startswith(
        "2 of 14 audited trials ended among the best 1/3 (14 %, 95 % interval 4 to 40 %), 2 ab"
    )


def test_an_audited_trial_that_diverged_was_stopped_rightly() -> None:
    records = study(*SURVIVORS, ([0.2, 0.3], "diverged"))
    records[6].audited_at = 1
    assert audit(records, RUNGS, 3.0).audited == 1
    assert audit(records, RUNGS, 3.0).among_best == 0


def test_without_audited_trials_nothing_is_claimed() -> None:
    """Those that did well early, compared among themselves, look as if the early scores told nothing."""
    rng = np.random.default_rng(0)
    noise = [(run(*rng.random(2)), "completed") for _ in range(40)]
    found = audit(study(*noise), RUNGS, 3.0)
    assert abs(found.agreements[0].correlation) < 0.4
    assert found.warnings == []
    assert str(found).startswith("no stopped trial was audited; rank correlation with the end ")
    assert audit({}, RUNGS, 3.0).warnings == []
    assert str(audit({}, RUNGS, 3.0)) == "no stopped trial was audited"


def test_early_scores_that_tell_nothing_are_warned_of() -> None:
    rng = np.random.default_rng(0)
    noise = [(run(*rng.random(2)), "audited" if i % 2 else "completed") for i in range(40)]
    found = audit(study(*noise), RUNGS, 3.0)
    assert any(warning.startswith("scores at epoch 1 say little about the end: rank") for warning in found.warnings)


def test_an_audited_trial_stands_for_those_stopped_with_it() -> None:
    """Four survivors in the wrong order and one audited trial far below: alone they say little, with its peers much."""
    survivors = [(run(0.5 + i / 100, 0.9 - i / 100), "completed") for i in range(4)]
    alone = audit(study(*survivors, (run(0.1, 0.2), "audited")), RUNGS, 3.0).agreements[0]
    peers = audit(study(*survivors, (run(0.1, 0.2), "audited"), *STOPPED), RUNGS, 3.0).agreements[0]
    assert alone.correlation == pytest.approx(0.0)
    assert peers.correlation > 0.7
    assert peers.interval == (-1, 1), "a single trial that stands for ten proves nothing"


def test_what_the_wrongly_stopped_share() -> None:
    lost = [(run(0.1, 0.9 + i / 100), "audited") for i in range(2)]
    rates = [0.01 * i for i in range(1, 16)] + [0.4, 0.5]
    found = audit(study(*SURVIVORS, *STOPPED, *lost, lr=rates, weight_decay=0.1), RUNGS, 3.0)
    assert found.shared == ("all 2 have a higher learning rate than the median trial",)
    mixed = audit(study(*SURVIVORS, *STOPPED, *lost, lr=[*rates[:-1], 0.001]), RUNGS, 3.0)
    assert mixed.shared == ()
    strong = study(*SURVIVORS, *STOPPED, *lost)
    for number, record in strong.items():
        record.config |= {"mixup": number / 20, "cutmix": 0.1, "weight_decay": 1e-4 * (1 + number)}
    assert audit(strong, RUNGS, 3.0).shared == ("all 2 have a higher regularisation than the median trial",)


@pytest.mark.parametrize(("hits", "trials"), [(0, 3), (1, 4), (2, 14), (5, 5), (30, 100)])
def test_the_interval_is_wilsons(hits: int, trials: int) -> None:
    known = binomtest(hits, trials).proportion_ci(0.95, "wilson")
    assert wilson(hits, trials) == pytest.approx((known.low, known.high), abs=1e-4)


def test_an_interval_of_nothing_is_everything() -> None:
    assert wilson(0, 0) == (0, 1)


PAIRS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=4, max_size=20)


@given(PAIRS)
def test_with_equal_weights_it_is_spearmans(pairs: list[tuple[int, int]]) -> None:
    one, other = ([float(pair[side]) for pair in pairs] for side in (0, 1))
    found = rank_correlation(one, other, [2.0] * len(pairs))
    if len(set(one)) == 1 or len(set(other)) == 1:
        assert found is None
    else:
        assert found == pytest.approx(spearmanr(one, other).statistic)


@given(PAIRS, st.integers(1, 4))
def test_a_weight_is_a_number_of_copies(pairs: list[tuple[int, int]], copies: int) -> None:
    weighted = rank_correlation(
        [float(a) for a, _ in pairs], [float(b) for _, b in pairs], [copies] + [1] * (len(pairs) - 1)
    )
    copied = [pairs[0]] * (copies - 1) + pairs
    repeated = rank_correlation([float(a) for a, _ in copied], [float(b) for _, b in copied], [1] * len(copied))
    assert weighted == pytest.approx(repeated)
