"""Days that may miss changes, since a trigger was off: each refresh computes one of them again."""

import logging
from datetime import date

from usage.models import UsageState
from usage.services.capture import triggers
from usage.services.totals import repair
from usage.services.totals.changes import Changes
from usage.services.totals.days import kept_sealed_days
from usage.services.totals.removals import removals

logger = logging.getLogger(__name__)


def look(state: UsageState) -> list[str]:
    """Compare the triggers with those of the last refresh, and return their faults.

    If they differ, all sealed days with raw records become unaudited. The caller saves
    `capture_digest` and `unaudited_days` of the state.
    """
    current = triggers.digest()
    if state.capture_digest not in (None, current):
        state.unaudited_days = kept_sealed_days(state) or None
        logger.warning(
            "Triggers were changed, so %s sealed days are unaudited.", len(state.unaudited)
        )
    state.capture_digest = current
    return triggers.faults()


def audit_next(state: UsageState, changes: Changes) -> str:
    """Compute the oldest unaudited day again and return a remark, or "" if there is no such day.

    Runs inside the transaction of a refresh. The caller saves `unaudited_days` of the state.
    """
    first, end = state.raw_kept_from or date.min, state.sealed_before or date.min
    days = [day for day in state.unaudited if first <= day < end]
    if not days:
        state.unaudited_days = None
        return ""
    day, *left = days
    found = removals(day)
    changed = repair.reseal(state, day, changes, remove=not found.are_too_many)
    if found.are_too_many:
        # An unaudited day is not dropped, so its raw records stay until an operator decides.
        left.append(day)
    state.unaudited_days = left or None
    remark = (
        "Triggers on raw tables were off, changed, or made again by a restore or an upgrade, so "
        f"{day} was computed again: {changed} totals were wrong. {len(left)} more days must be "
        "audited."
    )
    if found.are_too_many:
        remark += (
            f" Totals without raw records were not removed: on {found}. If somebody deleted the "
            "records on purpose, run: manage.py verify_usage --repair --remove. If a restore left "
            "them out, run: manage.py check_restore. Retention does not drop the day until then."
        )
    return remark
