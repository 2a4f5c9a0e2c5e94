"""The repair of totals of sealed days whose raw records changed.

Everything here runs inside the transaction of the refresh (or of a rebuild), in REPEATABLE READ
and under the refresh lock, and notes its changes for the period totals.
"""

from datetime import date

from django.db import connection

from usage.models import UsageState, UsageType
from usage.services.capture.strategies import capture_of
from usage.services.totals.changes import Changes
from usage.sql import queries

# To read a whole day is cheaper than to look up more than this share of its keys.
WHOLE_DAY_SHARE = 0.08
WHOLE_DAY_KEYS = 1_000


def repair_late_keys(state: UsageState, changes: Changes) -> int:
    """Compute the late keys again and empty the log; return how many keys were repaired."""
    if capture_of(state).sealed_days_are_final:
        # The log can hold keys that were logged before the switch to a window; their days are open.
        with connection.cursor() as cursor:
            cursor.execute("DELETE FROM usage_late_key")
        return 0
    if state.sealed_before is None:
        bounds = {"kept_from": date.max, "sealed_before": date.min}
    else:
        bounds = {
            "kept_from": state.raw_kept_from or date.min,
            "sealed_before": state.sealed_before,
        }
    whole = _days_cheaper_read_whole(bounds)
    for day, usage_type, _ in whole:
        _reseal(day, usage_type, changes, remove=True)
    with connection.cursor() as cursor:
        cursor.execute(
            queries.read("repair_keys"),
            {
                **bounds,
                "remove": True,
                "days": [day for day, _, _ in whole],
                "usage_types": [usage_type for _, usage_type, _ in whole],
            },
        )
        by_key, fingerprint, first_day = cursor.fetchone()
    if first_day is not None:
        changes.add_written(fingerprint, first_day)
    return by_key + sum(keys for _, _, keys in whole)


def reseal(state: UsageState, day: date, changes: Changes, *, remove: bool = True) -> int:
    """Compute a sealed day again; return how many rows changed. Without `remove`, keep totals that
    have no raw record."""
    if state.sealed_before is None or day >= state.sealed_before:
        raise ValueError(f"{day} is open: the view has its totals")
    return sum(_reseal(day, usage_type, changes, remove=remove) for usage_type in UsageType.values)


def _reseal(day: date, usage_type: str, changes: Changes, *, remove: bool) -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            queries.read("reseal_day"), {"day": day, "usage_type": usage_type, "remove": remove}
        )
        changed, fingerprint = cursor.fetchone()
    changes.add_written(fingerprint, day)
    return changed


def _days_cheaper_read_whole(bounds: dict[str, date]) -> list[tuple[date, str, int]]:
    """Return (day, usage type, number of late keys) where it is cheaper to read the whole day."""
    with connection.cursor() as cursor:
        cursor.execute(
            queries.read("days_cheaper_read_whole"),
            {**bounds, "keys": WHOLE_DAY_KEYS, "share": WHOLE_DAY_SHARE},
        )
        return cursor.fetchall()
