"""Going from one way of noticing changes of days that are over to the other, without losing one.

With triggers a record may come late for any day whose raw records are kept. In a window every such
day is open, so no insert pays for a trigger and the raw tables can be spread over servers.
"""

from datetime import date

from django.conf import settings
from django.db import connection, transaction

from usage.errors import LateKeysChangedError
from usage.models import LateKeysMode, UsageState
from usage.services import open_view, periods, triggers
from usage.services.changes import Changes
from usage.services.distribution import distributed_tables
from usage.services.locks import begin_without_writers
from usage.services.restores import days_without_records
from usage.services.retention import is_closing
from usage.services.sequences import move_forward
from usage.sql import capture


def switch(*, dry_run: bool = False) -> bool:
    """Bring the database to what USAGE_LATE_KEYS says; False when it is there already.

    Writers of raw records wait meanwhile, readers of totals don't. Raises LateKeysChangedError
    when something must come first, RefreshRunningError while a refresh is on.
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
            "Days are being dropped. Set USAGE_LATE_KEYS=triggers and the days to keep as they "
            "were, and run first: manage.py prune_usage"
        )
    without = days_without_records(state.raw_kept_from or date.min, state.sealed_before or date.min)
    if without:
        raise LateKeysChangedError(
            f"{len(without)} sealed days have totals and no raw record, the first is "
            f"{without[0][0]}: open, they would lose their totals. Run: manage.py check_restore"
        )


def _open(state: UsageState) -> None:
    """Every day with raw records becomes open again, its totals are computed with the others."""
    first_open = state.raw_kept_from
    is_filled = state.open_digest is not None
    with connection.cursor() as cursor:
        Changes()  # add_up_again() notes in its table
        cursor.execute("DELETE FROM usage_daily_sealed WHERE day >= %s", [first_open or date.min])
        cursor.execute("DELETE FROM usage_late_key")
        cursor.execute(capture.drop(capture.NEEDLESS_IN_A_WINDOW))
        cursor.execute("SELECT usage_close_days(%s)", [first_open])
        state.late_keys = LateKeysMode.WINDOW
        state.capture_digest = triggers.digest()
        state.unaudited_days = None  # they are open again
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
            "USAGE_LATE_KEYS=window. docs/scaling.md says how to come back to one server."
        )
    if is_closing(state):
        raise LateKeysChangedError(
            "Days are being sealed. Set USAGE_LATE_KEYS=window and the open days as they were, and "
            "run first: manage.py refresh_usage"
        )


def _capture(state: UsageState) -> None:
    """Every writer has ended, so what is sealed is whole and changes from here on are captured."""
    for sequence in ("usage_logging_before", "usage_raw_kept_from"):
        if state.sealed_before is not None:
            move_forward(sequence, state.sealed_before)
    with connection.cursor() as cursor:
        cursor.execute("SELECT usage_close_days(NULL)")
        cursor.execute(capture.drop())
        cursor.execute(capture.create())
    state.late_keys = LateKeysMode.TRIGGERS
    state.capture_digest = triggers.digest()
    state.fence = state.fence_day = None
    state.save()
