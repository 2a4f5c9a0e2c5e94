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
from usage.services import clock
from usage.services.late_keys import switch


@pytest.fixture
def set_today(monkeypatch: pytest.MonkeyPatch, settings: LazySettings) -> Callable[[str], None]:
    """Says which day is today; two days are open and raw records are kept for five."""
    settings.USAGE_OPEN_DAYS = 2
    settings.USAGE_RAW_RETENTION_DAYS = 5

    def set_it(day: str) -> None:
        monkeypatch.setattr(clock, "today", lambda: date.fromisoformat(day))

    return set_it


@pytest.fixture
def switch_to(state: None, settings: LazySettings) -> Iterator[Callable[[LateKeysMode], None]]:
    """Has the empty database of the test notice late keys in this way."""

    def switch_it(late_keys: LateKeysMode) -> None:
        settings.USAGE_LATE_KEYS = late_keys
        switch()

    before = UsageState.objects.get().late_keys
    yield switch_it
    run_sql(
        "TRUNCATE usage_datausagerecord, usage_voiceusagerecord, usage_daily_sealed;"
        " UPDATE usage_state SET sealed_before = NULL, fence_day = NULL, raw_kept_from = NULL,"
        " raw_fence = NULL"
    )
    run_sql("ALTER SEQUENCE usage_raw_kept_from RESTART")
    switch_it(LateKeysMode(before))


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory, which is the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def close_before(state: None) -> Callable[[str], None]:
    """Has the triggers refuse records of days before one, until the next test starts over."""

    def close(day: str) -> None:
        for sequence in ["usage_logging_before", "usage_raw_kept_from"]:
            run_sql(f"SELECT setval('{sequence}', date %s - date '1999-12-31')", [day])

    return close


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """A browser of this machine, closed at the end."""
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("no chromium here: apt install chromium")
    # The loop of Playwright runs in this thread, and Django would refuse to ask the database in it.
    with pytest.MonkeyPatch.context() as patch, sync_playwright() as playwright:
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")
        # Root has no sandbox to give.
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=path, args=arguments)
        yield browser
        browser.close()
