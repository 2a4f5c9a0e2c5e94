"""The history of refreshes: begin and end runs, and delete old ones."""

import logging
from datetime import timedelta

from django.conf import settings
from django.db import DatabaseError, connection, transaction
from django.db.models import Max
from django.db.models.functions import Now

from usage.database import explanations
from usage.database.errors import first_line, is_server_error
from usage.errors import RefreshFailedError
from usage.models import RefreshRun
from usage.services.raw.locks import refresh_is_on
from usage.services.totals import tallies

KEEP_DAYS = 90
KEEP_RUNS = 100_000

logger = logging.getLogger(__name__)


def begin(trigger: RefreshRun.Trigger) -> RefreshRun:
    """Create a run. Raises RefreshFailedError when the database refuses the row."""
    try:
        return RefreshRun.objects.create(trigger=trigger, started_at=Now())
    except DatabaseError as error:
        if is_server_error(error):
            raise  # the database is unavailable: every caller reports that itself
        cause = explanations.explain(error) or (
            f"{first_line(error)}. If this release was not migrated yet, run: manage.py migrate"
        )
        raise RefreshFailedError(
            f"The refresh could not begin, and the earlier totals stay. {cause}"
        ) from error


def has_published(run: RefreshRun) -> bool:
    """Return whether a transaction of the run was committed, by reading its row again: a COMMIT may
    succeed although the client gets an error. This also resets the fields of `run` to the row.

    Returns False if the database is unavailable; the next run then corrects the status.
    """
    connection.close_if_unusable_or_obsolete()
    try:
        run.refresh_from_db()
    except DatabaseError:
        return False
    return run.as_of is not None


def finish(
    run: RefreshRun, status: RefreshRun.Status, phases: dict[str, float], error: str = ""
) -> RefreshRun:
    """Store how a run ended and return the stored run. If it was marked failed, it stays failed."""
    with transaction.atomic():
        is_first = (
            RefreshRun.objects.filter(pk=run.pk)
            .exclude(status=RefreshRun.Status.FAILED)
            .update(
                status=status,
                phases=phases,
                error=error,
                remark=run.remark,
                finished_at=Now(),
            )
        )
        run.refresh_from_db()
        if is_first:
            tallies.count(run)
    logger.log(
        logging.ERROR if status == RefreshRun.Status.FAILED else logging.INFO,
        "The refresh ended: %s%s",
        status,
        f". {error or run.remark}" if error or run.remark else "",
        extra={
            "trigger": run.trigger,
            "seconds": run.seconds,
            "open_rows": run.open_rows,
            "rows_changed": run.rows_changed,
            "keys_repaired": run.keys_repaired,
            "days_sealed": run.days_sealed,
            "phases": phases,
        },
    )
    return run


def fail_overdue() -> None:
    """Mark queued runs failed whose messages have expired, so that no worker can take them."""
    wait = settings.USAGE_REFRESH_SECONDS
    RefreshRun.objects.filter(
        status=RefreshRun.Status.QUEUED, started_at__lt=Now() - timedelta(seconds=wait)
    ).update(
        status=RefreshRun.Status.FAILED,
        finished_at=Now(),
        error=f"No worker took it within {wait} s. Check that a worker and the broker run.",
    )


def prune() -> int:
    """Delete runs older than 90 days or beyond the newest 100,000; return how many.

    If no session holds the lock, a run that is still `running` has lost its process, or its
    session while the process was frozen: mark it failed. Leave runs younger than a minute: they may
    be about to end as skipped. A run that is `success` without an end has published its totals: set
    its end.
    """
    fail_overdue()
    if not refresh_is_on():
        with transaction.atomic():
            lost = RefreshRun.objects.filter(
                status=RefreshRun.Status.RUNNING, started_at__lt=Now() - timedelta(minutes=1)
            ).update(
                status=RefreshRun.Status.FAILED,
                finished_at=Now(),
                error="The process ended or was frozen before the run ended. PostgreSQL rolled its "
                "totals back; see the logs of the worker and of the database.",
            )
            tallies.count_ended(RefreshRun.Status.FAILED, lost)
            published = RefreshRun.objects.filter(
                status=RefreshRun.Status.SUCCESS,
                finished_at=None,
                started_at__lt=Now() - timedelta(minutes=1),
            ).update(finished_at=Now())
            tallies.count_ended(RefreshRun.Status.SUCCESS, published)
    newest = RefreshRun.objects.aggregate(newest=Max("pk"))["newest"] or 0
    old, _ = RefreshRun.objects.filter(started_at__lt=Now() - timedelta(days=KEEP_DAYS)).delete()
    surplus, _ = RefreshRun.objects.filter(pk__lte=newest - KEEP_RUNS).delete()
    return old + surplus
