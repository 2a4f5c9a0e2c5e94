"""Refreshes that are killed after a step, each in a process of its own.

main() reads lines of JSON: today, the step after which to kill (None: none) and how. For each line
it prints the exit status of the process, negative after a signal.
"""

import json
import os
import signal
import sys
from contextlib import ExitStack
from datetime import date
from unittest.mock import patch

from django.db import Error, connection

from tests.connections import ask, second_session
from tests.refresh_steps import after
from usage.errors import RefreshFailedError
from usage.models import RefreshRun
from usage.services.raw import clock
from usage.services.steps import Step
from usage.services.totals.refresh import refresh

SKIPPED, FAILED = 10, 11
PROCESS, BACKEND = "its process", "its backend"


def main() -> None:
    for line in sys.stdin:
        # The parent has no session, so each child opens its own.
        if (pid := os.fork()) == 0:
            os._exit(run(**json.loads(line)))
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def run(today: str, step: str | None, how: str) -> int:
    """Refresh, and kill the refresh after the step."""

    def die() -> None:
        if how == PROCESS:
            os.kill(os.getpid(), signal.SIGKILL)
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            (pid,) = cursor.fetchone()
        with second_session(autocommit=True) as session:
            ask(session, "SELECT pg_terminate_backend(%s, 5000)", [pid])

    with ExitStack() as stack:
        stack.enter_context(patch.object(clock, "today", lambda: date.fromisoformat(today)))
        if step is not None:
            stack.enter_context(after(Step(step), die, may_miss=True))
        try:
            ended = refresh(trigger=RefreshRun.Trigger.SCHEDULE)
        except (RefreshFailedError, Error):
            # After the commit another error than RefreshFailedError may come.
            return FAILED
    return SKIPPED if ended.status == RefreshRun.Status.SKIPPED else 0
