"""Tasks: each calls one service."""

import logging

from celery import shared_task
from celery.signals import worker_ready
from django.core.management import call_command

from usage.errors import IndexesHeldError, RefreshRunningError
from usage.models import RefreshRun
from usage.services.audit.verification import verify
from usage.services.raw import partitions
from usage.services.totals import indexes, retention
from usage.services.totals.refresh import refresh as refresh_totals
from usage.services.totals.refresh_requests import run_requested

logger = logging.getLogger(__name__)

AUDITED_SUBSCRIPTIONS = 1_000

RETRY_WHILE_REFRESHING = shared_task(
    autoretry_for=(RefreshRunningError,), retry_backoff=1, retry_backoff_max=60, max_retries=10
)


@shared_task
def refresh() -> str:
    """Refresh the totals; return the status of the run."""
    return refresh_totals(trigger=RefreshRun.Trigger.SCHEDULE).status


@shared_task
def refresh_requested(run_id: int) -> str | None:
    """Refresh the totals for a queued run; return its status, or None if it had ended before."""
    run = run_requested(run_id)
    return run.status if run else None


@shared_task
def clear_sessions() -> None:
    """Delete the sessions of people that have expired."""
    call_command("clearsessions")


@RETRY_WHILE_REFRESHING
def maintain_partitions() -> list[str]:
    """Make the partitions ahead; return the days that got a partition."""
    return [day.isoformat() for day in partitions.maintain_partitions()]


@RETRY_WHILE_REFRESHING
def prune() -> list[str]:
    """Drop raw records beyond retention; return the dropped partitions."""
    return retention.prune().partitions_dropped


@RETRY_WHILE_REFRESHING
def audit() -> int:
    """Compare a sample of subscriptions with their raw records; return how many keys differ."""
    report = verify(sample=AUDITED_SUBSCRIPTIONS)
    differing = report.differing + report.periods_differing
    if differing:
        logger.error("The audit found %s differing keys. Run: manage.py verify_usage", differing)
    return differing


@shared_task(autoretry_for=(IndexesHeldError,), default_retry_delay=600, max_retries=5)
def rebuild_indexes() -> list[str]:
    """Rebuild indexes whose pages are half empty; return their names."""
    return indexes.rebuild_loose()


@worker_ready.connect
def make_first_partitions(**_kwargs: object) -> None:
    """Make partitions at once: a new deployment must not wait until midnight for them."""
    maintain_partitions.apply_async(expires=3600)
