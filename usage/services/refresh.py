"""The refresh: the one transaction that brings the totals up to date."""

import logging
import time
from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal

from django.conf import settings
from django.db import DatabaseError, connection, transaction
from django.db.models.functions import Now
from structlog.contextvars import bound_contextvars

from usage.errors import (
    RefreshFailedError,
    RefreshPausedError,
    RefreshRunningError,
    UsageError,
)
from usage.models import LateKeysMode, RefreshRun, UsageState
from usage.services import (
    clock,
    database_errors,
    identity,
    locks,
    open_view,
    overflow,
    periods,
    placement,
    repair,
    runs,
    sealing,
    triggers,
)
from usage.services.changes import Changes
from usage.services.locks import (
    DEADLOCK,
    LOCK_NOT_AVAILABLE,
    QUERY_CANCELED,
    SERIALIZATION_FAILURE,
    begin_totals,
    sqlstate,
    take_refresh_lock,
)
from usage.services.open_view import OpenRows
from usage.services.phases import add_time, timed
from usage.services.startup import compare_settings

logger = logging.getLogger(__name__)

# Named in the error when a manual refresh, committed after our snapshot, wrote the same key.
OPEN_VIEW_KEY = "usage_daily_open_key"

# How long pause() waits for a running refresh.
PAUSE_SECONDS = 60


def refresh(
    *,
    trigger: RefreshRun.Trigger,
    run: RefreshRun | None = None,
    then: Callable[[UsageState, RefreshRun], None] | None = None,
) -> RefreshRun:
    """Refresh the totals and return the run.

    The run is `success`, or `skipped` if another refresh runs or refreshes are paused: a refresh
    never waits for another. Raises RefreshFailedError when the refresh fails; readers then keep the
    earlier totals, and the run has the reason. Announced days are sealed in several transactions if
    they take long; readers see each transaction as a whole.

    `run` is an existing run to use, already `running`. `then` is called before the commit, at the
    snapshot of the totals, with the new state and the run.
    """
    run = run or runs.begin(trigger)
    with bound_contextvars(run_id=run.pk):
        return _carry_out(run, then)


def _carry_out(
    run: RefreshRun, then: Callable[[UsageState, RefreshRun], None] | None
) -> RefreshRun:
    phases: dict[str, float] = {}
    try:
        with timed(phases, "fence"):
            run.remark = sealing.prepare()
        while _refresh(run, phases, then):
            pass
    except (RefreshRunningError, RefreshPausedError) as error:
        if run.as_of is None:
            return runs.finish(run, RefreshRun.Status.SKIPPED, phases, str(error))
        # An earlier transaction of this run has published totals. The next run seals the rest.
    except (DatabaseError, UsageError) as error:
        reason = _explain(error)
        if not runs.has_published(run):
            runs.finish(run, RefreshRun.Status.FAILED, phases, reason)
            raise RefreshFailedError(
                f"The refresh failed, and the earlier totals stay. {reason}"
            ) from error
        logger.exception("The refresh failed after it had published totals.")
        _remark(run, f"The totals are published. Then the run failed: {reason}")
    # The totals are committed, so a failure from here on is only a remark.
    try:
        with timed(phases, "vacuum"):
            _clean_up(run)
        runs.prune()
    except DatabaseError as error:
        _remark(
            run,
            f"The totals are published. The cleanup afterwards failed: {_first_line(error)}. The "
            "next run repeats it.",
        )
        connection.close_if_unusable_or_obsolete()
    try:
        return runs.finish(run, RefreshRun.Status.SUCCESS, phases)
    except DatabaseError:
        logger.exception("The totals are published, but the end of the run could not be stored.")
        connection.close_if_unusable_or_obsolete()
        return run


def _remark(run: RefreshRun, text: str) -> None:
    """Add a remark, unless the run already has it."""
    if text and text not in run.remark:
        run.remark = f"{run.remark} {text.rstrip('.')}.".lstrip()


def _clean_up(run: RefreshRun) -> None:
    """VACUUM the tables that the refresh wrote to.

    A concurrent refresh leaves a dead version of every changed row, and every run empties the log
    of late keys. TRUNCATE FALSE, because to give pages back would wait seconds for the lock of an
    idle reader. The visibility map of days just sealed allows index-only scans.
    """
    tables = ["usage_daily_open", "usage_late_key", "usage_state"]
    if run.days_sealed:
        tables.append("usage_daily_sealed")
    if periods.has_many_dead_rows():
        tables.append("usage_period_total")
    with connection.cursor() as cursor:
        cursor.execute(f"VACUUM (SKIP_LOCKED, TRUNCATE FALSE) {', '.join(tables)}")


def refresh_now(
    trigger: RefreshRun.Trigger, *, then: Callable[[UsageState, RefreshRun], None] | None = None
) -> RefreshRun:
    """Refresh for a job that needs it: raise RefreshRunningError if the run is skipped."""
    run = refresh(trigger=trigger, then=then)
    if run.status == RefreshRun.Status.SKIPPED:
        raise RefreshRunningError(run.error)
    return run


def _refresh(
    run: RefreshRun, phases: dict[str, float], then: Callable[[UsageState, RefreshRun], None] | None
) -> bool:
    """Run one transaction of the refresh, without savepoints; readers see its changes at once.

    Returns whether days are left to seal.
    """
    # On a cluster, a server that holds raw records takes its snapshot when it takes the lock.
    before_lock = clock.now() if settings.USAGE_LATE_KEYS == LateKeysMode.WINDOW else None
    with transaction.atomic(durable=True):
        with timed(phases, "lock"):
            begin_totals()
        # The first query takes the snapshot. Now() is the moment at which the server received this
        # query, which is earlier. So the snapshot has every record that was committed by as_of.
        state = UsageState.objects.annotate(read_at=Now()).get()
        state.as_of = before_lock or state.read_at
        compare_settings(state)
        if state.paused_at is not None:
            raise RefreshPausedError(
                f"Refreshes are paused since {state.paused_at:%Y-%m-%d %H:%M:%S} UTC. "
                "Run: manage.py resume_refresh"
            )
        with timed(phases, "compare"):
            placement.refuse_misplaced(state)
            changes = Changes()
            before = open_view.fingerprint()
        open_from = state.sealed_before or date.min
        if capture_faults := triggers.look(state):
            _remark(run, f"Found: {', '.join(capture_faults)}: {triggers.ADVICE}.")
        with timed(phases, "repair"):
            run.keys_repaired += repair.repair_late_keys(state, changes)
            if not capture_faults:
                _remark(run, triggers.audit_next_day(state, changes))
        with timed(phases, "seal"):
            run.days_sealed += sealing.seal(state, changes)
        # Saved before the view is refreshed: the view reads this watermark and leaves out the days
        # just sealed.
        state.save(
            update_fields=[
                *("as_of", "sealed_before", "raw_kept_from", "capture_digest", "unaudited_days")
            ]
        )
        with timed(phases, "view"):
            open_rows = _refresh_open_view(state, changes, before, open_from)
        run.open_rows, run.rows_changed = open_rows.count, open_rows.changed
        with timed(phases, "periods"):
            _remark(run, _keep_periods(state, changes, before, open_from))
            state.open_digest = open_rows.fingerprint
            state.save(update_fields=["open_digest", "timeline", "place"])
        if then is not None:
            with timed(phases, "check"):
                then(state, run)
        run.status, run.as_of, run.sealed_before = (
            RefreshRun.Status.SUCCESS,
            state.as_of,
            state.sealed_before,
        )
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
        commit_began = time.monotonic()
    add_time(phases, "commit", commit_began)
    return run.days_sealed > 0 and state.has_days_to_seal


def _refresh_open_view(
    state: UsageState, changes: Changes, before: Decimal | None, open_from: date
) -> OpenRows:
    """Refresh the view. Note its changes only if it is unchanged since the last refresh."""
    if before is None or before != state.open_digest:
        return open_view.refresh()
    return open_view.refresh_and_note(changes, before, open_from)


def _keep_periods(
    state: UsageState, changes: Changes, before: Decimal | None, open_from: date
) -> str:
    """Update the period totals; return a remark if more was needed than to add the changes.

    If the table is another file than at the last refresh, compare all of it once.
    """
    known_place = state.place
    state.timeline, state.place = identity.place()
    if state.open_digest is None:
        return periods.fill()
    remark = _add_changes(state, changes, before, open_from)
    if known_place != state.place:
        return periods.compare_all() or remark
    return remark


def _add_changes(
    state: UsageState, changes: Changes, before: Decimal | None, open_from: date
) -> str:
    if before == state.open_digest:
        return periods.apply_changes(changes)
    first_day = min(open_from, changes.first_day or open_from)
    periods.add_up_again(first_day)
    return (
        "usage_daily_open was refreshed by hand or restored since the last refresh. The totals of "
        "its months were added up again."
    )


def pause() -> datetime:
    """Pause refreshes until resume() and return when they were paused; no refresh runs then.

    Waits a minute for a running refresh, then raises RefreshRunningError.
    """
    with transaction.atomic():
        take_refresh_lock(wait_seconds=PAUSE_SECONDS)
        UsageState.objects.filter(paused_at=None).update(paused_at=Now())
        paused_at = UsageState.objects.values_list("paused_at", flat=True).get()
    assert paused_at is not None  # noqa: S101 - set above, under the lock
    return paused_at


def resume() -> bool:
    """Let refreshes run again; return False if they were not paused."""
    with transaction.atomic():
        take_refresh_lock(wait_seconds=PAUSE_SECONDS)
        return bool(UsageState.objects.exclude(paused_at=None).update(paused_at=None))


def _explain(error: Exception) -> str:
    """Return what happened and what to do next, in one line for an operator."""
    if (named := overflow.explain(error)) is not None:
        return str(named)
    first_line = _first_line(error)
    match sqlstate(error):
        case code if code == QUERY_CANCELED:
            return (
                f"The refresh took longer than USAGE_REFRESH_TIMEOUT_SECONDS="
                f"{settings.USAGE_REFRESH_TIMEOUT_SECONDS} or was cancelled: {first_line}. Raise "
                "the setting if the raw tables have grown."
            )
        case code if code == LOCK_NOT_AVAILABLE:
            return (
                f"A table of totals stayed locked for {locks.RAW_LOCK_SECONDS} s: {first_line}. "
                "Find the session that holds it in pg_stat_activity. The next run tries again."
            )
        case code if code in (SERIALIZATION_FAILURE, DEADLOCK) or OPEN_VIEW_KEY in first_line:
            return (
                f"{first_line}. At the same time another session refreshed usage_daily_open by "
                "hand, or wrote to the tables of totals. The next run tries again."
            )
    if (cause := database_errors.explain(error)) is not None:
        return cause
    if sqlstate(error) is None and locks.is_server_error(error):
        return (
            f"{first_line}. The log of the database has the reason. PostgreSQL ends the session of "
            f"a worker that is frozen for {locks.IDLE_REFRESH_SECONDS} s. The next run goes on."
        )
    return first_line or type(error).__name__


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
