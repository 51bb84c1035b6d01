"""The journal loses at most a torn last line, wherever it is cut, and refuses to guess at more."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tuning.budget import Meter
from tuning.journal import DamagedJournal, Event, Journal, read
from tuning.record import Records, StudyLog, apply, replay

EVENTS: list[Event] = [
    {"event": "start", "trial": 0, "config": {"lr": 0.1, "name": "ä"}},
    {"event": "report", "trial": 0, "metrics": {"epoch": 1, "val_accuracy": 0.5}},
    {"event": "report", "trial": 0, "metrics": {"epoch": 2, "val_accuracy": 0.75}},
    {"event": "report", "trial": 0, "metrics": {"epoch": 3, "val_accuracy": 0.75}},
    {"event": "end", "trial": 0, "outcome": "completed", "reason": ""},
]


def write(path: Path, events: list[Event] = EVENTS) -> bytes:
    journal = Journal(path)
    for event in events:
        journal.append(event)
    journal.close()
    return path.read_bytes()


def test_every_cut_loses_only_the_line_it_tears_and_can_be_appended_to(tmp_path: Path) -> None:
    content = write(tmp_path / "whole")
    ends = [i + 1 for i, byte in enumerate(content) if byte == ord("\n")]
    for offset in range(len(content) + 1):
        path = tmp_path / "cut"
        path.write_bytes(content[:offset])
        whole = sum(end <= offset for end in ends)
        assert len(read(path)[0]) == whole
        journal = Journal(path)
        journal.append({"event": "again"})
        journal.close()
        events, _ = read(path)
        assert [event["seq"] for event in events] == list(range(whole + 1))
        assert events[-1]["event"] == "again"


TEXTS = st.text(st.characters(codec="utf-8"), max_size=8)
ANY_EVENT = st.fixed_dictionaries(
    {"event": st.sampled_from(["start", "report", "checkpoint", "other"])},
    optional={"text": TEXTS, "value": st.floats(allow_nan=False, allow_infinity=False)},
)


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(ANY_EVENT, min_size=1, max_size=2))
def test_whatever_was_written_a_cut_leaves_the_lines_before_it(tmp_path: Path, events: list[Event]) -> None:
    path = tmp_path / "any"
    path.unlink(missing_ok=True)
    written = write(path, events)
    ends = [i + 1 for i, byte in enumerate(written) if byte == ord("\n")]
    for offset in range(len(written) + 1):
        path.write_bytes(written[:offset])
        whole = sum(end <= offset for end in ends)
        write(path, [{"event": "again"}])
        assert [without_stamp(event) for event in read(path)[0]] == [*events[:whole], {"event": "again"}]


def without_stamp(event: Event) -> Event:
    return {key: value for key, value in event.items() if key not in ("seq", "time")}


def test_every_changed_byte_before_the_last_line_is_noticed(tmp_path: Path) -> None:
    content = write(tmp_path / "whole")
    path = tmp_path / "changed"
    for offset in range(0, len(content) - 120, 7):
        path.write_bytes(content[:offset] + bytes([content[offset] ^ 1]) + content[offset + 1 :])
        with pytest.raises(DamagedJournal, match="is damaged; restore"):
            read(path)


def test_a_missing_line_is_noticed(tmp_path: Path) -> None:
    lines = write(tmp_path / "whole").splitlines(keepends=True)
    (tmp_path / "hole").write_bytes(b"".join(lines[:1] + lines[2:]))
    with pytest.raises(DamagedJournal, match="line 2"):
        read(tmp_path / "hole")


def test_records_follow_from_the_events(tmp_path: Path) -> None:
    write(tmp_path / "whole")
    record = replay(read(tmp_path / "whole")[0])[0]
    assert record.config == {"lr": 0.1, "name": "ä"}
    assert record.outcome == "completed"
    assert record.score == 0.75
    assert record.best is not None
    assert record.best["epoch"] == 2, "the first of the best epochs"


def test_a_trial_that_starts_again_keeps_its_epochs() -> None:
    records: Records = {}
    for event in [*EVENTS[:2], {"event": "end", "trial": 0, "outcome": "interrupted", "reason": ""}, EVENTS[0]]:
        apply(records, {"time": 0.0, **event})
    assert records[0].outcome == "running"
    assert len(records[0].epochs) == 1


def test_a_log_writes_first_and_then_tells(tmp_path: Path) -> None:
    path, told = tmp_path / "journal", []
    journal = Journal(path)
    log = StudyLog(
        journal, {}, Meter(), [lambda event, records: told.append((event["event"], len(read(path)[0]), len(records)))]
    )
    log.emit("start", trial=0, config={})
    log.emit("report", trial=0, metrics={"epoch": 1, "val_accuracy": 0.1})
    journal.close()
    assert told == [("start", 1, 1), ("report", 2, 1)]
