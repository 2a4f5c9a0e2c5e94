"""The data of the charts."""

from datetime import UTC, datetime, timedelta
from typing import Any

from usage.dashboard import charts
from usage.models import RefreshRun

NOON = datetime(2026, 11, 3, 12, tzinfo=UTC)


def run(number: int, status: str, **fields: Any) -> RefreshRun:
    """Return a run `number` minutes after noon that took two seconds."""
    started_at = NOON + timedelta(minutes=number)
    finished_at = started_at + timedelta(seconds=2)
    return RefreshRun(status=status, started_at=started_at, finished_at=finished_at, **fields)


def test_phases_of_a_run_add_up_by_part() -> None:
    phases = {
        "fence": 0.1,
        "lock": 0.2,
        "compare": 0.01,
        "repair": 0.3,
        "seal": 0.4,
        "view": 1.0,
        "count": 0.5,
        "periods": 0.02,
        "commit": 0.03,
        "vacuum": 0.04,
        "one of a later release": 0.5,
    }
    durations, _ = charts.of_runs([run(0, "success", phases=phases)])
    assert {series["label"]: series["values"] for series in durations["series"]} == {
        "locks": [0.3],
        "late keys and seals": [0.7],
        "open days": [1.5],
        "period totals": [0.03],
        "audit, commit, vacuum": [0.57],
        "failed": [0.0],
    }


def test_runs_are_drawn_from_the_oldest_and_a_failed_one_in_its_own_colour() -> None:
    runs = [
        run(2, "failed", phases={"lock": 0.1, "view": 1.9}),
        run(1, "skipped", phases={"lock": 0.1}),
        run(0, "success", phases={"view": 0.5}, rows_changed=7, keys_repaired=3),
    ]
    durations, changes = charts.of_runs(runs)
    assert durations["labels"] == ["3 Nov 12:00:00", "3 Nov 12:02:00"]
    by_label = {series["label"]: series for series in durations["series"]}
    assert by_label["open days"]["values"] == [0.5, 0.0]
    assert by_label["failed"]["values"] == [0.0, 2.0]
    assert by_label["failed"]["colour"] == "bad"
    assert {series["label"]: series["values"] for series in changes["series"]} == {
        "open days": [7, 0],
        "late keys": [3, 0],
    }


def test_running_and_skipped_runs_are_not_drawn() -> None:
    assert charts.of_runs([run(0, "skipped"), RefreshRun(status="running", started_at=NOON)]) == []
    assert charts.of_usage([]) == []
