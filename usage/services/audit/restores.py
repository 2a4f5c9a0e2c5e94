"""Checks after a restore, a server upgrade or a switch-over: each finding has its next step."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta

from django.apps import apps
from django.db import connection, transaction
from django.db.models import AutoField
from psycopg2 import sql

from usage.database import identity, roles
from usage.models import UsageState
from usage.services.capture import sequences, triggers
from usage.services.imports import turns
from usage.services.raw import usage_types
from usage.services.totals import open_view, periods, placement
from usage.services.totals.days import days_without_records

REFRESH = "manage.py refresh_usage"
VERIFY = "manage.py verify_usage, then with --repair"


@dataclass(frozen=True)
class Finding:
    """A fault that a refresh would meet, and the step that mends it."""

    problem: str
    step: str


def check_restore() -> list[Finding]:
    """Return what is left to do, in the order in which to do it.

    It changes nothing. It reads every sealed total, and one raw record of each kept day.
    """
    with transaction.atomic():
        state = UsageState.objects.get()
        return [
            *_grants(),
            *_usage_types(),
            *_keys_behind(),
            *_turns(),
            *_search_path(),
            *_misplaced(state),
            *_sequences(),
            *_triggers(),
            *_days_without_records(state),
            *_months(state),
        ]


def _grants() -> Iterator[Finding]:
    for statement in [
        *(str(grant) for grant in roles.missing_grants() if grant.role_exists),
        *roles.public_functions(),
    ]:
        yield Finding(f"A privilege is not as migrate leaves it: {statement}", "manage.py migrate")


def _usage_types() -> Iterator[Finding]:
    for difference in usage_types.differences():
        yield Finding(str(difference), difference.step)


def _keys_behind() -> Iterator[Finding]:
    """Find sequences of primary keys that would repeat a number, as on a subscriber of logical
    replication."""
    with connection.cursor() as cursor:
        for model in apps.get_models(include_auto_created=True):
            key, table = model._meta.pk, model._meta.db_table
            if not isinstance(key, AutoField) or not model._meta.managed or model._meta.proxy:
                continue
            assert key.column is not None  # noqa: S101 - a primary key has one
            cursor.execute("SELECT pg_get_serial_sequence(%s, %s)", [table, key.column])
            (sequence,) = cursor.fetchone()
            if sequence is None:
                continue
            cursor.execute(
                sql.SQL("SELECT max({}) FROM {}").format(
                    sql.Identifier(key.column), sql.Identifier(table)
                )
            )
            (highest,) = cursor.fetchone()
            cursor.execute("SELECT coalesce(pg_sequence_last_value(%s::regclass), 0)", [sequence])
            (reached,) = cursor.fetchone()
            if (highest or 0) > reached:
                yield Finding(
                    f"The sequence {sequence} is at {reached}, {table} at {highest}: the next row "
                    "would be refused as a duplicate.",
                    f"SELECT setval('{sequence}', {highest});",
                )


def _turns() -> Iterator[Finding]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM usage_import_turn")
        (rows,) = cursor.fetchone()
    if rows < turns.SLOTS:
        yield Finding(
            f"usage_import_turn has {rows} of {turns.SLOTS} rows: imports are refused.",
            f"INSERT INTO usage_import_turn (slot) SELECT generate_series(0, {turns.SLOTS - 1})"
            " ON CONFLICT DO NOTHING;",
        )


def _search_path() -> Iterator[Finding]:
    for statement in placement.search_path_statements():
        yield Finding(
            "The triggers on the raw tables log late keys in another schema than theirs.",
            f"{statement}; then {VERIFY}",
        )


def _misplaced(state: UsageState) -> Iterator[Finding]:
    day = placement.first_misplaced_day(state)
    if day is not None:
        yield Finding(
            f"Totals of {day} are sealed, but usage_state says that days are sealed only before "
            f"{state.sealed_before or 'NULL'}: its row is not that of the dump.",
            "DELETE FROM usage_state; then pg_restore --data-only --table=usage_state and "
            "--table=usage_logging_before --table=usage_raw_kept_from; then manage.py "
            "check_restore again",
        )


def _sequences() -> Iterator[Finding]:
    for sequence, day in sequences.behind().items():
        yield Finding(
            f"{sequence} has not reached {day}, as usage_state has it: changes of "
            "earlier days go unnoticed, or closed days take records.",
            f"{REFRESH}, before writers come; if they came before: {VERIFY}",
        )


def _triggers() -> Iterator[Finding]:
    for fault in triggers.faults():
        yield Finding(
            f"The {fault}: changes of sealed days are not captured.", "manage.py enable_triggers"
        )


def _days_without_records(state: UsageState) -> Iterator[Finding]:
    found = days_without_records(state.raw_kept_from or date.min, state.sealed_before or date.min)
    if found:
        days = ", ".join(f"{day} ({totals} totals)" for day, totals in found[:40])
        last = max(day for day, _ in found)
        yield Finding(
            f"Raw records are kept from {state.raw_kept_from or 'the first day'}, but sealed days "
            f"have none: {days}{' ...' if len(found) > 40 else ''}. Their totals stay.",
            "Restore the raw records of these days. If they are lost, keep the totals and close "
            f"these days and those before them: set raw_kept_from in usage_state to "
            f"'{last + timedelta(1)}'; then {REFRESH}",
        )


def _months(state: UsageState) -> Iterator[Finding]:
    if not open_view.is_filled() or state.as_of is None:
        yield Finding("usage_daily_open was never filled.", REFRESH)
        return
    if state.open_digest is None:
        return  # until the next refresh fills the months, readers add up daily totals
    is_elsewhere = state.place != "" and (state.timeline, state.place) != identity.place()
    if not periods.are_right():
        yield Finding(
            "Totals of months differ from the daily totals.",
            REFRESH if is_elsewhere else VERIFY,
        )
    elif is_elsewhere:
        yield Finding("No refresh has run since this database came here.", REFRESH)
