"""Refreshes that die behind a step, each in a process of its own.

main() takes lines of JSON: today, the step to die behind (None: none) and how. It answers each with
the exit status of the process, negative when a signal killed it.
"""

import json
import os
import signal
import sys
from contextlib import ExitStack
from datetime import date
from typing import Any
from unittest.mock import patch

from django.db import Error, connection

from tests.connections import ask, second_session
from tests.refresh_steps import after
from usage.errors import RefreshFailedError
from usage.models import RefreshRun
from usage.services import clock
from usage.services.refresh import refresh

SKIPPED, FAILED = 10, 11
PROCESS, BACKEND = "its process", "its backend"


def main() -> None:
    for line in sys.stdin:
        # Without a session: each child makes its own.
        if (pid := os.fork()) == 0:
            os._exit(run(**json.loads(line)))
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def run(today: str, step: str | None, how: str) -> int:
    """Refresh, and die behind the step; one that had no day to seal goes on."""

    def die(answer: Any) -> None:
        if step == "day sealed" and not answer:
            return
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
            stack.enter_context(after(step, die))
        try:
            ended = refresh(trigger=RefreshRun.Trigger.SCHEDULE)
        except (RefreshFailedError, Error):
            # Behind the commit there is no refresh any more that could fail.
            return FAILED
    return SKIPPED if ended.status == RefreshRun.Status.SKIPPED else 0
