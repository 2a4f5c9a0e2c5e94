"""Fixtures for tests of the read model."""

import os
import shutil
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path

import pytest
from django.conf import LazySettings
from playwright.sync_api import Browser, sync_playwright

from tests.connections import run_sql
from usage.models import LateKeysMode, UsageState
from usage.services.raw import clock
from usage.services.totals.late_keys_switch import switch


@pytest.fixture
def set_today(monkeypatch: pytest.MonkeyPatch, settings: LazySettings) -> Callable[[str], None]:
    """Return a function that sets today. Two days are open, raw records are kept for five days."""
    settings.USAGE_OPEN_DAYS = 2
    settings.USAGE_RAW_RETENTION_DAYS = 5

    def set_day(day: str) -> None:
        monkeypatch.setattr(clock, "today", lambda: date.fromisoformat(day))

    return set_day


@pytest.fixture
def switch_to(state: None, settings: LazySettings) -> Iterator[Callable[[LateKeysMode], None]]:
    """Return a function that switches the empty database of the test to a late keys mode."""

    def switch_mode(late_keys: LateKeysMode) -> None:
        settings.USAGE_LATE_KEYS = late_keys
        switch()

    before = UsageState.objects.get().late_keys
    yield switch_mode
    run_sql(
        "TRUNCATE usage_datausagerecord, usage_voiceusagerecord, usage_daily_sealed;"
        " UPDATE usage_state SET sealed_before = NULL, fence_day = NULL, raw_kept_from = NULL,"
        " raw_fence = NULL"
    )
    run_sql("ALTER SEQUENCE usage_raw_kept_from RESTART")
    switch_mode(LateKeysMode(before))


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make an empty directory the current one; return its path."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def close_before(state: None) -> Callable[[str], None]:
    """Return a function that closes the days before one; the next test opens them again.

    The triggers refuse records of closed days.
    """

    def close(day: str) -> None:
        for sequence in ["usage_logging_before", "usage_raw_kept_from"]:
            run_sql(f"SELECT setval('{sequence}', date %s - date '1999-12-31')", [day])

    return close


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Yield the installed Chromium, started without a window, and close it at the end."""
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("no chromium here: apt install chromium")
    # Playwright runs an event loop in this thread, in which Django refuses to query the database.
    with pytest.MonkeyPatch.context() as patch, sync_playwright() as playwright:
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")
        # Chromium cannot use its sandbox when it runs as root.
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=path, args=arguments)
        yield browser
        browser.close()
