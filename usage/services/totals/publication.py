"""One transaction of a refresh: steps 2 to 12 of "A refresh, step by step" in docs/architecture.md.

A run needs more than one only to seal many days. Readers see each transaction as a whole.
"""

import time
from collections.abc import Callable
from datetime import date, datetime

from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now

from usage.database import identity
from usage.database.startup import compare_settings
from usage.errors import RefreshPausedError
from usage.models import LateKeysMode, RefreshRun, UsageState
from usage.services.capture import triggers
from usage.services.raw import clock
from usage.services.raw.locks import begin_totals
from usage.services.steps import Step, add_time, done, timed
from usage.services.totals import (
    open_view,
    periods,
    placement,
    repair,
    sealing,
    unaudited_days,
)
from usage.services.totals.changes import Changes
from usage.services.totals.open_view import OpenRows

# Called before the commit, at the snapshot of the totals, with the new state and the run.
Check = Callable[[UsageState, RefreshRun], None]


def publish(run: RefreshRun, phases: dict[str, float], then: Check | None = None) -> bool:
    """Bring the totals up to date; return whether days are left to seal in another transaction.

    It uses no savepoints, since period totals find the rows of this transaction by its id. Raises
    RefreshRunningError while another refresh runs, RefreshPausedError while refreshes are paused,
    and DatabaseError or UsageError when it fails. Nothing is changed then, unless only the response
    to the COMMIT was lost (runs.has_published).
    """
    # On a cluster, a server that holds raw records takes its snapshot when it takes the lock.
    before_lock = clock.now() if settings.USAGE_LATE_KEYS == LateKeysMode.WINDOW else None
    with transaction.atomic(durable=True):
        with timed(phases, "lock"):
            begin_totals()
            done(Step.TOTALS_LOCKED)
        state = _read_state(before_lock)
        with timed(phases, "compare"):
            placement.refuse_misplaced(state)
            changes = Changes()
            before = open_view.fingerprint()
            capture_faults = unaudited_days.look(state)
        if capture_faults:
            run.add_remark(f"Found: {', '.join(capture_faults)}: {triggers.ADVICE}.")
        open_from = state.sealed_before or date.min
        with timed(phases, "repair"):
            run.keys_repaired += repair.repair_late_keys(state, changes)
            if not capture_faults:
                run.add_remark(unaudited_days.audit_next(state, changes))
            done(Step.KEYS_REPAIRED)
        with timed(phases, "seal"):
            run.days_sealed += sealing.seal_days(state, changes)
        # Before the view is refreshed: the view reads this watermark and leaves out the days just
        # sealed.
        _write_state(state)
        with timed(phases, "view"):
            # None if the view is not as the last refresh left it.
            known = before if before == state.open_digest else None
            if known is not None:
                rows = open_view.refresh_and_note(changes, known, open_from)
            else:
                rows = open_view.refresh()
            run.open_rows, run.rows_changed = rows.count, rows.changed
            done(Step.VIEW_REFRESHED)
        with timed(phases, "periods"):
            run.add_remark(_keep_periods(state, changes, open_from if known is None else None))
            done(Step.PERIODS_KEPT)
            _remember_view(state, rows)
        if then is not None:
            with timed(phases, "check"):
                then(state, run)
        _write_run(run, state)
        commit_began = time.monotonic()
    add_time(phases, "commit", commit_began)
    done(Step.COMMITTED)
    return run.days_sealed > 0 and state.has_days_to_seal


def _read_state(before_lock: datetime | None) -> UsageState:
    """Return the state, with `as_of` of this refresh.

    This query takes the snapshot. Now() is the moment at which the server received it, which is
    earlier. So the snapshot has every record that was committed by as_of.
    """
    state = UsageState.objects.annotate(read_at=Now()).get()
    state.as_of = before_lock or state.read_at
    compare_settings(state)
    if state.paused_at is not None:
        raise RefreshPausedError(
            f"Refreshes are paused since {state.paused_at:%Y-%m-%d %H:%M:%S} UTC. "
            "Run: manage.py resume_refresh"
        )
    done(Step.STATE_READ)
    return state


def _write_state(state: UsageState) -> None:
    state.save(
        update_fields=[
            *("as_of", "sealed_before", "raw_kept_from", "capture_digest", "unaudited_days")
        ]
    )
    done(Step.STATE_WRITTEN)


def _keep_periods(state: UsageState, changes: Changes, first_day: date | None) -> str:
    """Update the period totals; return a remark if more was needed than to add the changes.

    `first_day` is the first open day if the view was refreshed by hand or restored since the last
    refresh, otherwise None. If the table is another file than at the last refresh, compare all of
    it once.
    """
    known_place = state.place
    state.timeline, state.place = identity.place()
    if state.open_digest is None:
        return periods.fill()
    if first_day is None:
        remark = periods.apply_changes(changes)
    else:
        periods.add_up_again(min(first_day, changes.first_day or first_day))
        remark = (
            "usage_daily_open was refreshed by hand or restored since the last refresh. The totals "
            "of its months were added up again."
        )
    if known_place != state.place:
        return periods.compare_all() or remark
    return remark


def _remember_view(state: UsageState, rows: OpenRows) -> None:
    state.open_digest = rows.fingerprint
    state.save(update_fields=["open_digest", "timeline", "place"])
    done(Step.VIEW_REMEMBERED)


def _write_run(run: RefreshRun, state: UsageState) -> None:
    run.status = RefreshRun.Status.SUCCESS
    run.as_of, run.sealed_before = state.as_of, state.sealed_before
    run.save(
        update_fields=[
            "status",
            "as_of",
            "sealed_before",
            "open_rows",
            "rows_changed",
            "keys_repaired",
            "days_sealed",
            "subscriptions_audited",
            "keys_differing",
            "remark",
        ]
    )
    done(Step.RUN_WRITTEN)
