"""A real worker and a real beat: their messages, the schedule, and a worker that was away."""

import json
import subprocess
from pathlib import Path

import pytest
import redis
from celery.schedules import crontab
from django.conf import LazySettings
from django.core.management import call_command
from django.test import override_settings
from rest_framework.test import APIClient

from bin import processes
from tests.connections import ask, second_session, wait_until
from tests.factories import data_record, make_subscription
from tests.processes import broker_url, database_url, scratch_database, started
from tests.restoring import connected_to
from usage.database import identity
from usage.database.identity import queue_name
from usage.models import RAW_TABLES, RefreshRun, UsageState
from usage.services.raw.partitions import partition_days
from usage.services.totals import refresh_requests
from usage.services.totals.refresh_requests import request_refresh
from worker.app import app
from worker.schedule import beat_schedule


@pytest.mark.usefixtures("only_default_partitions")
def test_scheduled_refresh_brings_new_usage_to_the_api(
    broker: redis.Redis, client_with_token: APIClient, tmp_path: Path
) -> None:
    subscription = make_subscription("A")

    def results() -> list[dict[str, object]]:
        response = client_with_token.get(
            "/api/v1/usage/daily/", {"subscription_id": subscription.pk}
        )
        assert response.status_code == 200, response.content
        return response.json()["results"]

    log = tmp_path / "log"
    with (
        started(processes.worker("test@%h"), broker, log),
        started(processes.beat(str(tmp_path / "schedule")), broker, log),
    ):
        data_record(subscription, "2026-11-01T10:00:00Z", "1.25", 10)
        [first] = wait_until(results, seconds=30, what="the first usage in the API")
        assert first["total_price"] in {"1.25", "1.25000000"}
        assert first["day"] == "2026-11-01"
        data_record(subscription, "2026-11-01T11:00:00Z", "0.25", 10)
        wait_until(
            lambda: results()[0]["record_count"] == 2, seconds=15, what="more usage in the API"
        )
        wait_until(
            lambda: all(len(partition_days(table)) == 15 for table in RAW_TABLES),
            seconds=15,
            what="the partitions a new worker makes",
        )
        before = RefreshRun.objects.filter(status="success").count()
        wait_until(
            lambda: RefreshRun.objects.filter(status="success").count() > before,
            what="another refresh of beat",
        )
    assert set(RefreshRun.objects.values_list("trigger", flat=True)) == {"schedule"}
    assert RefreshRun.objects.filter(status="failed").count() == 0
    assert UsageState.objects.get().as_of is not None
    assert_lines_name_run_and_task(log.read_text())


def assert_lines_name_run_and_task(log: str) -> None:
    """Assert that each refresh has a line of its own, with the ids of its run and its task."""
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    ended = [line for line in lines if line["event"] == "The refresh ended: success"]
    assert {line["task"] for line in ended} == {"worker.tasks.refresh"}
    assert len({line["task_id"] for line in ended}) == len(ended)
    assert len({line["run_id"] for line in ended}) == len(ended)
    assert {line["run_id"] for line in ended} <= set(
        RefreshRun.objects.values_list("pk", flat=True)
    )
    # Celery's own lines about a task have the same form and the same id.
    of_celery = {line.get("task_id") for line in lines if line["logger"] == "celery.app.trace"}
    assert {line["task_id"] for line in ended} <= of_celery


@pytest.mark.usefixtures("only_default_partitions")
def test_worker_that_was_away_finds_no_queue_of_refreshes(
    broker: redis.Redis, tmp_path: Path
) -> None:
    """Fails when messages don't expire: then each of them runs a refresh."""
    log = tmp_path / "log"
    with started(processes.beat(str(tmp_path / "schedule")), broker, log):
        wait_until(
            lambda: broker.llen(queue_name()) >= 3, seconds=30, what="beat to send refreshes"
        )
    expired = broker.llen(queue_name())
    subprocess.run(["sleep", "1.1"], check=True)
    with started(processes.worker("test@%h"), broker, log):
        # A new worker sends a message to make partitions. It is behind the older messages.
        wait_until(
            lambda: all(len(partition_days(table)) == 15 for table in RAW_TABLES),
            seconds=30,
            what="the worker to reach its own message",
        )
        wait_until(lambda: broker.llen(queue_name()) == 0, what="the queue to be empty")
    assert expired >= 3
    assert RefreshRun.objects.count() == 0


def runs_in(database: str) -> list[tuple[str, str]]:
    with second_session(dbname=database) as session:
        return ask(session, "SELECT trigger, status FROM usage_refreshrun ORDER BY id")


@pytest.mark.usefixtures("only_default_partitions")
def test_worker_of_another_database_takes_no_message_of_this_one(
    broker: redis.Redis, tmp_path: Path, settings: LazySettings
) -> None:
    """Fails when two databases with one broker share a queue, or when a worker runs a message that
    names another database."""
    settings.REDIS_URL = broker_url(broker)
    log = tmp_path / "log"
    with scratch_database() as other:
        with connected_to(other):
            call_command("migrate", verbosity=0)
            queue_of_other = queue_name()
        assert queue_of_other != queue_name()
        ours = identity.read("default")
        assert ours is not None
        environment = {"DATABASE_URL": database_url(other)}
        with started(processes.worker("test@%h"), broker, log, **environment):
            run = request_refresh()
            for key in (ours.key, None):
                refresh_requests._sender(settings.REDIS_URL).send_task(
                    "worker.tasks.refresh",
                    queue=queue_of_other,
                    headers={identity.HEADER: key} if key else {},
                )
            wait_until(
                lambda: log.read_text().count("Refused worker.tasks.refresh") == 2,
                seconds=30,
                what="both messages to be refused",
            )
            assert runs_in(other) == []
            assert broker.llen(queue_name()) == 1
        assert ours.key in log.read_text()
        # The worker of this database finds its message. It may skip the run, since it makes
        # partitions as it starts.
        with started(processes.worker("test@%h"), broker, log):
            wait_until(
                lambda: RefreshRun.objects.get(pk=run.pk).status in {"success", "skipped"},
                seconds=30,
                what="the run to end",
            )
        assert runs_in(other) == []


@override_settings(USAGE_REFRESH_SECONDS=7)
def test_schedule_follows_the_settings() -> None:
    schedule = beat_schedule()
    assert schedule["refresh"] == {
        "task": "worker.tasks.refresh",
        "schedule": 7.0,
        "options": {"expires": 7},
    }
    assert schedule["partitions"]["schedule"] == crontab(hour="0", minute="15")


def test_everything_scheduled_is_a_task_and_expires() -> None:
    app.loader.import_default_modules()
    for name, entry in beat_schedule().items():
        assert entry["task"] in app.tasks, name
        assert 0 < entry["options"]["expires"] <= 3600, name


def test_messages_are_json_and_times_are_utc() -> None:
    assert app.conf.accept_content == ["json"]
    assert app.conf.task_serializer == "json"
    assert (app.conf.timezone, app.conf.enable_utc) == ("UTC", True)
    assert app.conf.worker_prefetch_multiplier == 1
    assert app.conf.task_ignore_result is True
