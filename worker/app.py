"""The Celery application: `celery -A worker.app worker` and `celery -A worker.app beat`."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

from celery import Celery, Task
from celery.signals import (
    beat_init,
    before_task_publish,
    celeryd_init,
    setup_logging,
    task_postrun,
    task_prerun,
    worker_init,
)
from django.conf import settings
from structlog.contextvars import bind_contextvars, clear_contextvars

from worker.database_task import DatabaseTask, use_own_queue
from worker.schedule import beat_schedule

app = Celery("usage", broker=settings.REDIS_URL, task_cls=DatabaseTask)
app.conf.update(
    beat_schedule=beat_schedule(),
    timezone="UTC",
    enable_utc=True,
    task_serializer="json",
    accept_content=["json"],
    task_ignore_result=True,
    # A worker reserves one message at a time: a refresh that waits behind another would be skipped.
    worker_prefetch_multiplier=1,
    broker_connection_retry_on_startup=True,
)
app.autodiscover_tasks(["worker"])


# The key of the database that this worker or beat was started for.
_database = ""


@celeryd_init.connect
@beat_init.connect
def know_the_database(**_kwargs: object) -> None:
    """Read the key of the database before the worker listens to a queue, and before beat sends."""
    global _database
    _database = use_own_queue(app)


@before_task_publish.connect
def name_the_database(*, headers: dict[str, object], **_kwargs: object) -> None:
    """Add the key to messages of beat and of the worker; a web process sets its own key."""
    from usage.database.identity import HEADER

    headers.setdefault(HEADER, _database)


@setup_logging.connect
def leave_the_log_to_django(**_kwargs: object) -> None:
    """Listen to this signal and do nothing: without a listener Celery would set up its own log."""


@task_prerun.connect
def name_the_task(*, task_id: str, task: Task, **_kwargs: object) -> None:
    """Add the task to every line that it logs."""
    clear_contextvars()
    bind_contextvars(task_id=task_id, task=task.name)


@task_postrun.connect
def leave_the_task(**_kwargs: object) -> None:
    clear_contextvars()


@worker_init.connect
@beat_init.connect
def refuse_other_settings(**_kwargs: object) -> None:
    from usage.database.startup import refuse_other_settings
    from usage.errors import SettingChangedError

    try:
        refuse_other_settings()
    except SettingChangedError as error:
        # Celery logs every other exception of a signal handler, and starts all the same.
        raise SystemExit(str(error)) from error
