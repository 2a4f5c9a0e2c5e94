"""The commands around the refresh: their output and exit codes."""

import json
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command, load_command_class
from django.db import connection
from django.test import override_settings
from django.utils import timezone

from tests.connections import ask, run_sql, second_session
from tests.factories import refresh_totals
from tests.given import given
from tests.processes import ROOT
from usage.errors import RefreshFailedError
from usage.management import commands
from usage.models import RefreshRun, UsageState
from usage.services.raw import locks
from usage.services.totals import pause
from usage.services.totals.refresh import refresh

pytestmark = pytest.mark.usefixtures("only_default_partitions")

COMMANDS = sorted(
    file.stem for file in Path(commands.__path__[0]).glob("*.py") if file.stem != "__init__"
)


def run(command: str, *arguments: str) -> str:
    output = StringIO()
    call_command(command, *arguments, stdout=output)
    return output.getvalue()


def run_apart(command: str) -> str:
    """Run a command in another thread, then close the connection of that thread."""
    try:
        return run(command)
    finally:
        connection.close()


def run_and_exit(command: str, *arguments: str) -> tuple[int, str]:
    output = StringIO()
    with pytest.raises(SystemExit) as ended:
        call_command(command, *arguments, stdout=output)
    assert isinstance(ended.value.code, int)
    return ended.value.code, output.getvalue()


def status() -> dict[str, Any]:
    return json.loads(run("usage_status", "--json"))


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command_has_an_example(command: str) -> None:
    text = load_command_class("usage", command).create_parser("manage.py", command).format_help()
    assert re.search(rf"Examples?: manage\.py {command}", " ".join(text.split()))


def test_refresh_prints_how_it_went() -> None:
    given("data  A  2026-11-01T10:00:00Z  1  10")
    output = run("refresh_usage")
    assert output.startswith("Refreshed in ")
    assert ": 1 open rows, 0 late keys repaired, 0 days sealed, as of 2" in output
    assert RefreshRun.objects.get().trigger == "command"


def test_refresh_exits_when_it_was_skipped() -> None:
    with second_session() as session:
        ask(session, "LOCK TABLE usage_refresh_lock IN SHARE UPDATE EXCLUSIVE MODE")
        with pytest.raises(CommandError, match=r"^Skipped\. .* is running"):
            run("refresh_usage")


def test_refresh_exits_when_it_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "RAW_LOCK_SECONDS", 0.1)
    monkeypatch.setattr(locks, "TRY_SECONDS", 0.025)
    with second_session() as session:
        ask(session, "LOCK TABLE usage_datausagerecord")
        with pytest.raises(CommandError, match=r"earlier totals stay.*stayed locked"):
            run("refresh_usage")


def test_status_of_fresh_totals() -> None:
    given("data  A  2026-11-01T10:00:00Z  1  10")
    run("make_partitions")
    run("refresh_usage")
    output = run("usage_status")
    assert "fresh (at most 180 s)" in output
    assert "success in " in output
    assert "by command, 1 open rows" in output
    assert "usage_datausagerecord: 15 days, " in output
    report = status()
    assert report["fresh"] is True
    assert report["populated"] is True
    assert 0 <= report["age_seconds"] < 60
    assert report["max_age_seconds"] == 180
    assert report["time_zone"] == "UTC"
    assert report["last_run"]["status"] == report["last_success"]["status"] == "success"
    assert report["last_failure"] is None
    for table in ["usage_datausagerecord", "usage_voiceusagerecord"]:
        assert report["partitions"][table]["count"] == 15
    assert min(report["sizes"].values()) > 0


def test_status_says_that_months_are_not_added_up_yet() -> None:
    run("refresh_usage")
    assert status()["periods_filled"] is True
    assert "months" not in run("usage_status")
    UsageState.objects.update(open_digest=None)
    assert status()["periods_filled"] is False
    assert "not added up yet: the next refresh does it" in run("usage_status")


def test_status_of_old_totals_exits_one() -> None:
    UsageState.objects.update(as_of=timezone.now() - timedelta(seconds=200))
    code, output = run_and_exit("usage_status")
    assert code == 1
    assert "TOO OLD (at most 180 s)" in output
    code, output = run_and_exit("usage_status", "--json")
    assert code == 1
    assert json.loads(output)["fresh"] is False
    with override_settings(USAGE_MAX_AGE_SECONDS=300):
        assert "fresh (at most 300 s)" in run("usage_status")


def test_status_of_totals_that_were_never_filled_exits_one() -> None:
    run_sql("REFRESH MATERIALIZED VIEW usage_daily_open WITH NO DATA")
    code, output = run_and_exit("usage_status")
    assert code == 1
    assert "never filled. Run: manage.py refresh_usage" in output
    run("refresh_usage")
    assert "fresh" in run("usage_status")


def test_status_shows_the_last_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "RAW_LOCK_SECONDS", 0.1)
    monkeypatch.setattr(locks, "TRY_SECONDS", 0.025)
    with second_session() as session:
        ask(session, "LOCK TABLE usage_datausagerecord")
        with pytest.raises(RefreshFailedError):
            refresh(trigger=RefreshRun.Trigger.SCHEDULE)
    refresh_totals()
    report = status()
    assert report["last_run"]["status"] == "success"
    assert report["last_failure"]["trigger"] == "schedule"
    assert "stayed locked" in report["last_failure"]["error"]
    assert "stayed locked" in run("usage_status")


def test_paused_refreshes_are_skipped_until_resumed() -> None:
    assert "paused since" in run("pause_refresh")
    paused_at = UsageState.objects.get().paused_at
    assert paused_at is not None
    with pytest.raises(CommandError, match="resume_refresh"):
        run("refresh_usage")
    assert "paused" in run("usage_status")
    assert status()["paused_at"] is not None
    run("pause_refresh")
    assert UsageState.objects.get().paused_at == paused_at
    assert run("resume_refresh") == "Refreshes run again with the next interval.\n"
    assert run("resume_refresh") == "They were not paused.\n"
    run("refresh_usage")


@pytest.mark.parametrize("command", ["pause_refresh", "resume_refresh", "make_partitions"])
def test_command_fails_while_a_refresh_is_running(
    command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pause, "PAUSE_SECONDS", 0.3)
    with second_session() as session:
        ask(session, "LOCK TABLE usage_refresh_lock IN SHARE UPDATE EXCLUSIVE MODE")
        with pytest.raises(CommandError, match="is running"):
            run(command)


def test_pause_waits_for_the_running_refresh() -> None:
    with second_session() as session, ThreadPoolExecutor() as pool:
        ask(session, "LOCK TABLE usage_refresh_lock IN SHARE UPDATE EXCLUSIVE MODE")
        pausing = pool.submit(run_apart, "pause_refresh")
        time.sleep(0.5)
        assert not pausing.done()
        session.rollback()
        assert "paused since" in pausing.result(10)


def test_make_partitions_names_the_days() -> None:
    [(today,)] = run_sql("SELECT usage_day(clock_timestamp())::text")
    assert run("make_partitions").startswith(f"Made partitions for {today}, ")
    assert run("make_partitions") == "Made partitions for no day.\n"


def test_status_exits_two_when_the_database_is_away() -> None:
    """Fails when a monitor can't distinguish an unknown age from totals that are too old."""
    environment = {**os.environ, "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none"}
    done = subprocess.run(
        [sys.executable, "manage.py", "usage_status"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "Check DATABASE_URL" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["verify_usage", "rebuild_usage"])
def test_reversed_or_malformed_days_are_refused(command: str) -> None:
    with pytest.raises(CommandError, match="--from must not be after --to"):
        run(command, "--from", "2026-11-30", "--to", "2026-11-01")
    with pytest.raises(CommandError, match="'november' is not a day such as"):
        run(command, "--from", "november", "--to", "2026-11-01")
