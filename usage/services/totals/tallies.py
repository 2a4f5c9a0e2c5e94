"""Counters over all runs of the refresh, from which a monitor computes rates.

The names are `runs` (label: status), `phase_seconds` (label: phase), `rows_changed`,
`keys_repaired` and `days_sealed`. The histogram of delays has `delay_bucket` (label: upper bound in
seconds; each delay is in one bucket only) and `delay_seconds`, the sum of the delays.
"""

from bisect import bisect_left
from collections.abc import Mapping
from datetime import timedelta

from django.db import connection

from usage.models import RefreshRun, RefreshTally

# Upper bounds in seconds, around the usual targets of one to three minutes.
DELAY_BUCKETS = ("5", "15", "30", "45", "60", "75", "90", "120", "180", "300", "600", "3600")
BEYOND = "+Inf"

ADD = """
    INSERT INTO usage_refreshtally AS tally (name, label, value)
    SELECT added.name, added.label, added.value
    FROM unnest(%s, %s, %s) AS added (name, label, value)
    -- In a fixed order, so that two runs that end at the same time do not deadlock.
    ORDER BY added.name, added.label
    ON CONFLICT (name, label) DO UPDATE SET value = tally.value + excluded.value
"""


def count(run: RefreshRun) -> None:
    """Add a run that has ended; call it in the transaction that stores the end."""
    added: dict[tuple[str, str], float] = {
        ("runs", run.status): 1,
        ("rows_changed", ""): run.rows_changed or 0,
        ("keys_repaired", ""): run.keys_repaired,
        ("days_sealed", ""): run.days_sealed,
        **{("phase_seconds", phase): seconds for phase, seconds in run.phases.items()},
    }
    if (delay := _longest_delay(run)) is not None:
        seconds = delay.total_seconds()
        added["delay_bucket", _bucket(seconds)] = 1
        added["delay_seconds", ""] = seconds
    _add(added)


def count_ended(status: RefreshRun.Status, runs: int) -> None:
    """Add a number of runs with this status whose process ended before it stored their end."""
    if runs:
        _add({("runs", status.value): runs})


def read() -> dict[str, dict[str, float]]:
    """Return the counters by name and label."""
    found: dict[str, dict[str, float]] = {}
    for name, label, value in RefreshTally.objects.values_list("name", "label", "value"):
        found.setdefault(name, {})[label] = value
    return found


def _longest_delay(run: RefreshRun) -> timedelta | None:
    """Return the longest time that a record may have waited until this run published it.

    Such a record was committed just after the snapshot of the run before, and is visible at the
    latest when this run ends. None for a run that published nothing, and for the first run.
    """
    if run.status != RefreshRun.Status.SUCCESS or run.as_of is None or run.finished_at is None:
        return None
    before = (
        RefreshRun.objects.filter(
            status=RefreshRun.Status.SUCCESS, finished_at__isnull=False, as_of__lt=run.as_of
        )
        .order_by("-finished_at")
        .values_list("as_of", flat=True)
        .first()
    )
    return run.finished_at - before if before else None


def _bucket(seconds: float) -> str:
    place = bisect_left([float(bound) for bound in DELAY_BUCKETS], seconds)
    return (*DELAY_BUCKETS, BEYOND)[place]


def _add(added: Mapping[tuple[str, str], float]) -> None:
    names, labels = zip(*added, strict=True)
    with connection.cursor() as cursor:
        cursor.execute(ADD, [list(names), list(labels), list(map(float, added.values()))])
