"""The schedule of beat. Times are UTC."""

from typing import Any

from celery.schedules import crontab
from django.conf import settings


def beat_schedule() -> dict[str, dict[str, Any]]:
    """Return the schedule from the settings.

    A refresh message expires after one interval, so that a worker that was away does not find a
    queue of old refreshes.
    """
    return {
        "refresh": {
            "task": "worker.tasks.refresh",
            "schedule": float(settings.USAGE_REFRESH_SECONDS),
            "options": {"expires": settings.USAGE_REFRESH_SECONDS},
        },
        "partitions": {
            "task": "worker.tasks.maintain_partitions",
            "schedule": crontab(hour="0", minute="15"),
            "options": {"expires": 3600},
        },
        "sessions": {
            "task": "worker.tasks.clear_sessions",
            "schedule": crontab(hour="0", minute="45"),
            "options": {"expires": 3600},
        },
        "prune": {
            "task": "worker.tasks.prune",
            "schedule": crontab(hour="1", minute="15"),
            "options": {"expires": 3600},
        },
        "audit": {
            "task": "worker.tasks.audit",
            "schedule": crontab(hour="2", minute="15"),
            "options": {"expires": 3600},
        },
        "indexes": {
            "task": "worker.tasks.rebuild_indexes",
            "schedule": crontab(hour="3", minute="15"),
            "options": {"expires": 3600},
        },
    }
