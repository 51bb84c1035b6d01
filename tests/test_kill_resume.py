"""A driver killed without warning loses nothing: the benchmark of it, with fewer kills."""

from pathlib import Path

import pytest

from benchmarks.kill_resume import study


@pytest.mark.long
@pytest.mark.timeout(400)  # two runs of a study
def test_a_killed_study_loses_no_trial_and_repeats_little(tmp_path: Path) -> None:
    told = study(tmp_path, kills=1, trials=4, seed=1)
    assert told["exit code of the last run"] == 0
    assert told["kills"] == 1
    assert told["trials asked for, known, lost"] == (4, 4, 0)
    assert told["trials whose known epochs changed"] == 0
    assert told["MLflow runs of trials"] == 4
    assert told["of them RUNNING"] == 0
    assert told["rungs as the journal says"]
    assert all("Agent" in name for name in told["other processes killed then"]), "no worker is left behind"
