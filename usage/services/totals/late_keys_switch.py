"""The switch from one late keys mode to the other, without losing a change.

With triggers a record may come late for any day whose raw records are kept. In a window every such
day is open, so inserts run without triggers and the raw tables can be spread over servers.
"""

from datetime import date

from django.conf import settings
from django.db import connection, transaction

from usage.errors import LateKeysChangedError
from usage.models import LateKeysMode, UsageState
from usage.services.capture import triggers
from usage.services.capture.citus import distributed_tables
from usage.services.capture.sequences import is_closing, move_forward
from usage.services.capture.strategies import close_days
from usage.services.raw.locks import begin_without_writers
from usage.services.totals import open_view, periods
from usage.services.totals.changes import Changes
from usage.services.totals.days import days_without_records
from usage.sql import capture, queries


def switch(*, dry_run: bool = False) -> bool:
    """Switch the database to the late keys mode of USAGE_LATE_KEYS; False if it has it already.

    Meanwhile writers of raw records wait, readers of totals do not. Raises LateKeysChangedError
    when another step must be done first, RefreshRunningError while a refresh is running.
    """
    with transaction.atomic(durable=True):
        begin_without_writers()
        state = UsageState.objects.get()
        if state.late_keys == settings.USAGE_LATE_KEYS:
            return False
        if state.is_window:
            _refuse_to_capture(state)
        else:
            _refuse_to_open(state)
        if not dry_run:
            _capture(state) if state.is_window else _open(state)
    return True


def _refuse_to_open(state: UsageState) -> None:
    if is_closing(state):
        raise LateKeysChangedError(
            "A prune has closed days and not dropped them yet. Set USAGE_LATE_KEYS=triggers and "
            "the old retention settings, and run first: manage.py prune_usage"
        )
    without = days_without_records(state.raw_kept_from or date.min, state.sealed_before or date.min)
    if without:
        raise LateKeysChangedError(
            f"{len(without)} sealed days have totals and no raw record, the first is "
            f"{without[0][0]}. If they were opened, their totals would be lost. Run: manage.py "
            "check_restore"
        )


def _open(state: UsageState) -> None:
    """Open every day with raw records, and compute all totals that depend on them again."""
    first_open = state.raw_kept_from
    is_filled = state.open_digest is not None
    with connection.cursor() as cursor:
        Changes()  # creates the table in which add_up_again() notes changes
        cursor.execute(queries.read("delete_sealed_from"), {"first_day": first_open or date.min})
        cursor.execute("DELETE FROM usage_late_key")
        cursor.execute(capture.drop(capture.NEEDLESS_IN_A_WINDOW))
        close_days(first_open)
        state.late_keys = LateKeysMode.WINDOW
        state.capture_digest = triggers.digest()
        state.unaudited_days = None  # open days need no audit
        state.sealed_before = first_open
        state.fence = state.fence_day = None
        state.save()
    state.open_digest = open_view.refresh().fingerprint
    if is_filled:
        periods.add_up_again(first_open or date.min)
    else:
        periods.fill()
    state.save()


def _refuse_to_capture(state: UsageState) -> None:
    if distributed_tables():
        raise LateKeysChangedError(
            "The raw records are spread over servers, where Citus refuses triggers. Set "
            "USAGE_LATE_KEYS=window. docs/scaling.md says how to return to one server."
        )
    if is_closing(state):
        raise LateKeysChangedError(
            "A refresh has closed days and not sealed them yet. Set USAGE_LATE_KEYS=window and the "
            "old USAGE_OPEN_DAYS, and run first: manage.py refresh_usage"
        )


def _capture(state: UsageState) -> None:
    """Create the triggers.

    No writer is left, so the sealed totals are complete, and the triggers log all later changes.
    """
    for sequence in ("usage_logging_before", "usage_raw_kept_from"):
        if state.sealed_before is not None:
            move_forward(sequence, state.sealed_before)
    close_days(None)
    with connection.cursor() as cursor:
        cursor.execute(capture.drop())
        cursor.execute(capture.create())
    state.late_keys = LateKeysMode.TRIGGERS
    state.capture_digest = triggers.digest()
    state.fence = state.fence_day = None
    state.save()
