"""Refreshes requested through the API or a page. The worker runs them; at most one is queued."""

from datetime import timedelta
from functools import lru_cache

from celery import Celery
from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import Q
from django.db.models.functions import Now
from kombu.exceptions import OperationalError as BrokerError

from usage.database import identity
from usage.errors import BrokerAwayError, RefreshInProgressError
from usage.models import RefreshRun
from usage.services.raw.locks import refresh_is_on
from usage.services.totals import runs
from usage.services.totals.refresh import refresh

TASK = "worker.tasks.refresh_requested"
BROKER_SECONDS = 3


def request_refresh() -> RefreshRun:
    """Queue a run for the worker and return it; it expires after USAGE_REFRESH_SECONDS.

    Raises RefreshInProgressError when a run is queued or running, and BrokerAwayError when the
    broker does not take the message.
    """
    runs.fail_overdue()
    if (current := _in_progress()) is not None:
        raise RefreshInProgressError(current)
    try:
        with transaction.atomic():
            run = RefreshRun.objects.create(
                trigger=RefreshRun.Trigger.API, status=RefreshRun.Status.QUEUED, started_at=Now()
            )
    except IntegrityError as error:
        # Another request queued a run a moment earlier. That run may already have ended.
        current = _in_progress()
        if current is None:
            raise
        raise RefreshInProgressError(current) from error
    database = identity.read("default")
    assert database is not None  # noqa: S101 - migrations make the row of state
    try:
        _sender(settings.REDIS_URL).send_task(
            TASK,
            args=[run.pk],
            queue=identity.queue_of(database),
            headers={identity.HEADER: database.key},
            expires=settings.USAGE_REFRESH_SECONDS,
            retry=False,
        )
    except BrokerError as error:
        RefreshRun.objects.filter(pk=run.pk).update(
            status=RefreshRun.Status.FAILED, finished_at=Now(), error=str(BrokerAwayError())
        )
        raise BrokerAwayError from error
    run.refresh_from_db()
    return run


def run_requested(run_id: int) -> RefreshRun | None:
    """Refresh for the queued run and return it; return None if it is no longer queued.

    Raises RefreshFailedError when the refresh fails.
    """
    taken = RefreshRun.objects.filter(pk=run_id, status=RefreshRun.Status.QUEUED)
    if not taken.update(status=RefreshRun.Status.RUNNING, started_at=Now()):
        return None
    run = RefreshRun.objects.get(pk=run_id)
    return refresh(trigger=RefreshRun.Trigger.API, run=run)


def _in_progress() -> RefreshRun | None:
    """Return the newest run that is queued or running, without runs whose process was lost."""
    running = Q(status=RefreshRun.Status.RUNNING)
    if not refresh_is_on():
        running &= Q(started_at__gte=Now() - timedelta(minutes=1))
    return (
        RefreshRun.objects.filter(Q(status=RefreshRun.Status.QUEUED) | running)
        .order_by("-pk")
        .first()
    )


@lru_cache(maxsize=4)
def _sender(broker: str) -> Celery:
    """Return a Celery app that only sends messages and gives up a silent broker in seconds."""
    sender = Celery("usage", broker=broker, set_as_current=False)
    sender.conf.update(
        task_ignore_result=True,
        broker_transport_options={
            "socket_connect_timeout": BROKER_SECONDS,
            "socket_timeout": BROKER_SECONDS,
            "max_retries": 0,
        },
    )
    return sender
