"""Property 1: after a refresh the totals equal a plain GROUP BY, after any history of writes.

Fails when the view rounds prices, forgets a usage type or counts equal records once.
"""

from contextlib import suppress
from datetime import date, datetime
from io import StringIO

import pytest
from django.db import IntegrityError, InternalError, NotSupportedError, connection, transaction
from hypothesis import HealthCheck, given, settings

from tests.connections import ON_CITUS, run_sql
from tests.factories import refresh_totals
from tests.histories import (
    DATA,
    QUANTITIES,
    SUBSCRIPTIONS,
    VOICE,
    Block,
    BulkCreate,
    Copy,
    Refresh,
    Statement,
    Step,
    columns,
    histories,
)
from usage.models import DataUsageRecord, Subscription, VoiceUsageRecord
from usage.services.raw.partitions import make_partitions

MODELS = {DATA: DataUsageRecord, VOICE: VoiceUsageRecord}
# Citus cannot move a record to another subscription, and has one SQLSTATE for all errors of a COPY.
REFUSALS = (IntegrityError, *((NotSupportedError, InternalError) if ON_CITUS else ()))
DAY_WITH_PARTITION = date(2026, 11, 2)


def take(step: Step) -> None:
    match step:
        case Refresh():
            refresh_totals()
            assert totals() == plain_group_by()
        case Block(rolled_back, steps):
            with transaction.atomic():
                for inner in steps:
                    take(inner)
                if rolled_back:
                    transaction.set_rollback(True)
        case _:
            # A write of an existing key is refused, and PostgreSQL rolls back all of the step.
            with suppress(*REFUSALS), transaction.atomic():
                write(step)


def write(step: Step) -> None:
    with connection.cursor() as cursor:
        match step:
            case Statement(text):
                cursor.execute(text)
            case Copy(table, some):
                lines = "".join("\t".join(row.fields) + "\n" for row in some)
                with connection.wrap_database_errors:
                    cursor.copy_expert(
                        f"COPY {table} ({columns(table)}) FROM STDIN", StringIO(lines)
                    )
            case BulkCreate(table, some):
                MODELS[table].objects.bulk_create(
                    MODELS[table](
                        id=row.id,
                        subscription_id=row.subscription_id,
                        usage_date=datetime.fromisoformat(row.usage_date),
                        price=row.price,
                        **{QUANTITIES[table]: row.quantity},
                    )
                    for row in some
                )


def totals() -> list[tuple[object, ...]]:
    return run_sql(
        "SELECT subscription_id, day, usage_type, total_price, total_usage, record_count,"
        " last_usage_at FROM usage_daily ORDER BY 1, 2, 3"
    )


def plain_group_by() -> list[tuple[object, ...]]:
    def of(table: str, usage_type: str) -> str:
        return (
            f"SELECT subscription_id, (usage_date AT TIME ZONE 'UTC')::date, '{usage_type}',"
            f" sum(price), sum({QUANTITIES[table]})::bigint, count(*), max(usage_date)"
            f" FROM {table} GROUP BY 1, 2"
        )

    return run_sql(f"{of(DATA, 'data')} UNION ALL {of(VOICE, 'voice')} ORDER BY 1, 2, 3")


@pytest.mark.usefixtures("only_default_partitions")
@settings(
    max_examples=20 if ON_CITUS else 200,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(history=histories)
def test_totals_equal_a_plain_group_by_after_any_history(history: list[Step]) -> None:
    make_partitions([DAY_WITH_PARTITION])
    run_sql(f"DELETE FROM {DATA}; DELETE FROM {VOICE}")
    for number in SUBSCRIPTIONS:
        Subscription.objects.get_or_create(id=number, external_id=f"line {number}")
    for step in [*history, Refresh()]:
        take(step)
