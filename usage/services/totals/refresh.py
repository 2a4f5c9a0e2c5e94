"""The refresh: it brings the totals up to date, and stores how it went as a run."""

import logging

from django.db import DatabaseError, connection
from structlog.contextvars import bound_contextvars

from usage.database.errors import first_line
from usage.errors import RefreshFailedError, RefreshPausedError, RefreshRunningError, UsageError
from usage.models import RefreshRun
from usage.services.steps import timed
from usage.services.totals import periods, runs, sealing
from usage.services.totals.failures import explain
from usage.services.totals.publication import Check, publish

logger = logging.getLogger(__name__)


def refresh(
    *,
    trigger: RefreshRun.Trigger,
    run: RefreshRun | None = None,
    then: Check | None = None,
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


def _carry_out(run: RefreshRun, then: Check | None) -> RefreshRun:
    phases: dict[str, float] = {}
    try:
        with timed(phases, "fence"):
            run.add_remark(sealing.announce_days())
        while publish(run, phases, then):
            logger.info("Days are left to seal: the run goes on with another transaction.")
    except (RefreshRunningError, RefreshPausedError) as error:
        if run.as_of is None:
            return runs.finish(run, RefreshRun.Status.SKIPPED, phases, str(error))
        # An earlier transaction of this run has published totals. The next run seals the rest.
    except (DatabaseError, UsageError) as error:
        reason = explain(error)
        if not runs.has_published(run):
            runs.finish(run, RefreshRun.Status.FAILED, phases, reason)
            raise RefreshFailedError(
                f"The refresh failed, and the earlier totals stay. {reason}"
            ) from error
        logger.exception("The refresh failed after it had published totals.")
        run.add_remark(f"The totals are published. Then the run failed: {reason}")
    # The totals are committed, so a failure from here on is only a remark.
    try:
        with timed(phases, "vacuum"):
            _clean_up(run)
        runs.prune()
    except DatabaseError as error:
        run.add_remark(
            f"The totals are published. The cleanup afterwards failed: {first_line(error)}. The "
            "next run repeats it.",
        )
        connection.close_if_unusable_or_obsolete()
    try:
        return runs.finish(run, RefreshRun.Status.SUCCESS, phases)
    except DatabaseError:
        logger.exception("The totals are published, but the end of the run could not be stored.")
        connection.close_if_unusable_or_obsolete()
        return run


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


def refresh_now(trigger: RefreshRun.Trigger, *, then: Check | None = None) -> RefreshRun:
    """Refresh for a job that needs it: raise RefreshRunningError if the run is skipped."""
    run = refresh(trigger=trigger, then=then)
    if run.status == RefreshRun.Status.SKIPPED:
        raise RefreshRunningError(run.error)
    return run
