"""The Celery application: `celery -A worker.app worker` and `celery -A worker.app beat`."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

from celery import Celery
from celery.signals import beat_init, worker_init
from django.conf import settings

from worker.schedule import beat_schedule

app = Celery("usage", broker=settings.REDIS_URL)
app.conf.update(
    beat_schedule=beat_schedule(),
    timezone="UTC",
    enable_utc=True,
    task_serializer="json",
    accept_content=["json"],
    task_ignore_result=True,
    task_default_queue="usage",
    # A refresh that waits behind another would only be skipped: take one message at a time.
    worker_prefetch_multiplier=1,
    broker_connection_retry_on_startup=True,
    worker_hijack_root_logger=False,
)
app.autodiscover_tasks(["worker"])


@worker_init.connect
@beat_init.connect
def refuse_another_time_zone(**_kwargs: object) -> None:
    from usage.errors import TimeZoneChangedError
    from usage.services.startup import refuse_another_time_zone

    try:
        refuse_another_time_zone()
    except TimeZoneChangedError as error:
        # Celery logs an exception of a signal handler and starts all the same.
        raise SystemExit(str(error)) from error
