"""Tasks: each calls one service."""

from celery import shared_task
from celery.signals import worker_ready

from usage.errors import RefreshRunningError
from usage.models import RefreshRun
from usage.services import partitions
from usage.services.refresh import refresh as refresh_totals


@shared_task
def refresh() -> str:
    """Refresh the totals; returns how the run ended."""
    return refresh_totals(trigger=RefreshRun.Trigger.SCHEDULE).status


@shared_task(
    autoretry_for=(RefreshRunningError,), retry_backoff=1, retry_backoff_max=60, max_retries=10
)
def maintain_partitions() -> list[str]:
    """Make the partitions ahead; returns the days that got one."""
    return [day.isoformat() for day in partitions.maintain_partitions()]


@worker_ready.connect
def make_first_partitions(**_kwargs: object) -> None:
    """A new deployment doesn't wait until midnight for its partitions."""
    maintain_partitions.apply_async(expires=3600)
