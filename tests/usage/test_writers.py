"""Every way to write records works, and the totals follow all of them."""

from datetime import date, datetime
from decimal import Decimal
from io import StringIO

import pytest
from django.db import connection, transaction

from tests.connections import ask, run_sql, second_session
from tests.factories import data_record, make_subscription, refresh_totals, voice_record
from tests.given import expect, given, stored_totals
from usage.models import DataUsageRecord, Subscription, VoiceUsageRecord
from usage.services.raw.partitions import make_partitions

FIXED_ID = "00000000-0000-0000-0000-000000000001"


@pytest.fixture(autouse=True)
def a_partition(only_default_partitions: None) -> None:
    """Make a partition for the second of November; other days have none."""
    make_partitions([date(2026, 11, 2)])


@pytest.fixture
def a() -> Subscription:
    return make_subscription("A")


def test_save_stores_and_changes_a_record(a: Subscription) -> None:
    record = DataUsageRecord(
        subscription=a, usage_date="2026-11-02T10:00:00Z", price=Decimal("1.5"), kilobytes_used=10
    )
    record.save()
    expect("A  2026-11-02  data  1.5  10  1  2026-11-02T10:00:00Z")
    record.price = Decimal("2.25")
    record.save()
    expect("A  2026-11-02  data  2.25  10  1  2026-11-02T10:00:00Z")


def test_save_without_price_costs_nothing(a: Subscription) -> None:
    VoiceUsageRecord.objects.create(
        subscription=a, usage_date="2026-11-02T10:00:00Z", seconds_used=5
    )
    run_sql(
        "INSERT INTO usage_voiceusagerecord (subscription_id, usage_date, seconds_used)"
        " VALUES (%s, '2026-11-02 11:00+00', 7)",
        [a.pk],
    )
    expect("A  2026-11-02  voice  0  12  2  2026-11-02T11:00:00Z")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"usage_date": "2026-11-02T09:00"}, "A  2026-11-02  data  1  10  1  2026-11-02T09:00:00Z"),
        ({"usage_date": "2026-11-03T09:00"}, "A  2026-11-03  data  1  10  1  2026-11-03T09:00:00Z"),
        ({"external_id": "B"}, "B  2026-11-02  data  1  10  1  2026-11-02T10:00:00Z"),
        (
            {"external_id": "B", "usage_date": "2026-11-03T09:00", "price": "4"},
            "B  2026-11-03  data  4  10  1  2026-11-03T09:00:00Z",
        ),
    ],
)
@pytest.mark.one_server("it moves no record to another subscription")
def test_save_moves_a_record_and_leaves_none_behind(
    a: Subscription, changes: dict[str, str], expected: str
) -> None:
    make_subscription("B")
    data_record(a, "2026-11-02T10:00:00Z", "1", 10)
    refresh_totals()
    record = DataUsageRecord.objects.get()
    if external_id := changes.get("external_id"):
        record.subscription = Subscription.objects.get(external_id=external_id)
    if usage_date := changes.get("usage_date"):
        record.usage_date = datetime.fromisoformat(f"{usage_date}:00Z")
    record.price = Decimal(changes.get("price", "1"))
    record.save()
    assert DataUsageRecord.objects.count() == 1
    expect(expected)


def test_copy_of_a_record_leaves_the_first_one(a: Subscription) -> None:
    data_record(a, "2026-11-02T10:00:00Z", "1", 10)
    record = DataUsageRecord.objects.get()
    record.usage_date = datetime.fromisoformat("2026-11-03T10:00:00Z")
    record.save(force_insert=True)
    expect("""
        A  2026-11-02  data  1  10  1  2026-11-02T10:00:00Z
        A  2026-11-03  data  1  10  1  2026-11-03T10:00:00Z
    """)


def test_bulk_create_stores_many_records(a: Subscription) -> None:
    b = make_subscription("B")
    DataUsageRecord.objects.bulk_create(
        DataUsageRecord(
            subscription=subscription,
            usage_date=f"2026-11-0{day}T10:00:00Z",
            price=Decimal("0.01"),
            kilobytes_used=3,
        )
        for subscription in [a, b]
        for day in [1, 2, 2]
    )
    expect("""
        A  2026-11-01  data  0.01  3  1  2026-11-01T10:00:00Z
        A  2026-11-02  data  0.02  6  2  2026-11-02T10:00:00Z
        B  2026-11-01  data  0.01  3  1  2026-11-01T10:00:00Z
        B  2026-11-02  data  0.02  6  2  2026-11-02T10:00:00Z
    """)


def test_bulk_create_can_ignore_or_replace_known_records(a: Subscription) -> None:
    def record(price: str) -> DataUsageRecord:
        return DataUsageRecord(
            id=FIXED_ID,
            subscription=a,
            usage_date="2026-11-02T10:00:00Z",
            price=Decimal(price),
            kilobytes_used=3,
        )

    DataUsageRecord.objects.bulk_create([record("1")])
    DataUsageRecord.objects.bulk_create([record("2")], ignore_conflicts=True)
    expect("A  2026-11-02  data  1  3  1  2026-11-02T10:00:00Z")
    DataUsageRecord.objects.bulk_create(
        [record("4")],
        update_conflicts=True,
        update_fields=["price"],
        unique_fields=["subscription_id", "usage_date", "id"],
    )
    expect("A  2026-11-02  data  4  3  1  2026-11-02T10:00:00Z")


def test_bulk_update_changes_records(a: Subscription) -> None:
    given("""
        data  A  2026-11-01T10:00:00Z  1  10
        data  A  2026-11-02T10:00:00Z  2  20
    """)
    records = list(DataUsageRecord.objects.all())
    for record in records:
        record.price += 10
    DataUsageRecord.objects.bulk_update(records, ["price"])
    expect("""
        A  2026-11-01  data  11  10  1  2026-11-01T10:00:00Z
        A  2026-11-02  data  12  20  1  2026-11-02T10:00:00Z
    """)


def test_queryset_update_and_delete_change_many_records(a: Subscription) -> None:
    given("""
        voice  A  2026-11-01T10:00:00Z  1  10
        voice  A  2026-11-02T10:00:00Z  2  20
        voice  A  2026-11-03T10:00:00Z  4  40
    """)
    VoiceUsageRecord.objects.filter(price__gte=2).update(price=5, seconds_used=50)
    expect("""
        A  2026-11-01  voice  1  10  1  2026-11-01T10:00:00Z
        A  2026-11-02  voice  5  50  1  2026-11-02T10:00:00Z
        A  2026-11-03  voice  5  50  1  2026-11-03T10:00:00Z
    """)
    VoiceUsageRecord.objects.filter(usage_date__lt="2026-11-03T00:00:00Z").delete()
    expect("A  2026-11-03  voice  5  50  1  2026-11-03T10:00:00Z")


@pytest.mark.one_server("it takes fewer functions in an UPDATE")
def test_update_moves_records_between_days_with_and_without_a_partition(a: Subscription) -> None:
    given("""
        data  A  2026-11-01T10:00:00Z  1  10
        data  A  2026-11-02T10:00:00Z  2  20
    """)
    refresh_totals()
    run_sql("UPDATE usage_datausagerecord SET usage_date = usage_date + interval '1 day'")
    assert run_sql(
        "SELECT tableoid::regclass::text FROM usage_datausagerecord ORDER BY usage_date"
    ) == [("usage_datausagerecord_p20261102",), ("usage_datausagerecord_default",)]
    expect("""
        A  2026-11-02  data  1  10  1  2026-11-02T10:00:00Z
        A  2026-11-03  data  2  20  1  2026-11-03T10:00:00Z
    """)


def test_insert_select_copies_records(a: Subscription) -> None:
    given("data  A  2026-11-02T10:00:00Z  1.25  10")
    run_sql(
        "INSERT INTO usage_voiceusagerecord (subscription_id, usage_date, price, seconds_used)"
        " SELECT subscription_id, usage_date + number * interval '1 day', price, 60"
        " FROM usage_datausagerecord, generate_series(-1, 1) AS numbers (number)"
    )
    expect("""
        A  2026-11-01  voice  1.25  60  1  2026-11-01T10:00:00Z
        A  2026-11-02  data   1.25  10  1  2026-11-02T10:00:00Z
        A  2026-11-02  voice  1.25  60  1  2026-11-02T10:00:00Z
        A  2026-11-03  voice  1.25  60  1  2026-11-03T10:00:00Z
    """)


def test_insert_on_conflict_adds_once_and_corrects(a: Subscription) -> None:
    insert = (
        "INSERT INTO usage_datausagerecord"
        " (id, subscription_id, usage_date, price, kilobytes_used)"
        " VALUES (%s, %s, '2026-11-02 10:00+00', %s, 10)"
        " ON CONFLICT (subscription_id, usage_date, id) DO "
    )
    run_sql(f"{insert} NOTHING", [FIXED_ID, a.pk, "1"])
    run_sql(f"{insert} NOTHING", [FIXED_ID, a.pk, "2"])
    expect("A  2026-11-02  data  1  10  1  2026-11-02T10:00:00Z")
    run_sql(f"{insert} UPDATE SET price = excluded.price", [FIXED_ID, a.pk, "4"])
    expect("A  2026-11-02  data  4  10  1  2026-11-02T10:00:00Z")


@pytest.mark.one_server("it takes fewer functions in a MERGE")
def test_merge_adds_changes_and_deletes(a: Subscription) -> None:
    given("""
        data  A  2026-11-01T10:00:00Z  1  10
        data  A  2026-11-02T10:00:00Z  2  20
    """)
    refresh_totals()
    run_sql(
        "MERGE INTO usage_datausagerecord AS kept USING (VALUES"
        " ('2026-11-01 10:00+00'::timestamptz, 0),"
        " ('2026-11-02 10:00+00', 5),"
        " ('2026-11-03 10:00+00', 6)) AS sent (usage_date, price)"
        " ON kept.subscription_id = %s AND kept.usage_date = sent.usage_date"
        " WHEN MATCHED AND sent.price = 0 THEN DELETE"
        " WHEN MATCHED THEN UPDATE SET price = sent.price"
        " WHEN NOT MATCHED THEN INSERT (subscription_id, usage_date, price, kilobytes_used)"
        " VALUES (%s, sent.usage_date, sent.price, 30)",
        [a.pk, a.pk],
    )
    expect("""
        A  2026-11-02  data  5  20  1  2026-11-02T10:00:00Z
        A  2026-11-03  data  6  30  1  2026-11-03T10:00:00Z
    """)


def test_copy_loads_records(a: Subscription) -> None:
    with connection.cursor() as cursor:
        cursor.copy_expert(
            "COPY usage_datausagerecord (subscription_id, usage_date, price, kilobytes_used)"
            " FROM STDIN (FORMAT csv)",
            StringIO(
                f"{a.pk},2026-11-02T23:59:59.999999Z,0.00000001,1\n"
                f"{a.pk},2026-11-03T01:00:00+02:00,2,2\n"
                f"{a.pk},2026-11-03T00:00:00Z,4,4\n"
            ),
        )
    expect("""
        A  2026-11-02  data  2.00000001  3  2  2026-11-02T23:59:59.999999Z
        A  2026-11-03  data  4           4  1  2026-11-03T00:00:00Z
    """)


def test_truncate_empties_one_type_or_both(a: Subscription) -> None:
    data_record(a, "2026-11-02T10:00:00Z", "1", 10)
    voice_record(a, "2026-11-02T10:00:00Z", "2", 20)
    refresh_totals()
    run_sql("TRUNCATE usage_datausagerecord")
    expect("A  2026-11-02  voice  2  20  1  2026-11-02T10:00:00Z")
    run_sql("TRUNCATE usage_datausagerecord, usage_voiceusagerecord")
    expect("")


def test_totals_follow_only_what_was_committed(a: Subscription) -> None:
    with transaction.atomic():
        data_record(a, "2026-11-02T10:00:00Z", "1", 10)
        with transaction.atomic():
            data_record(a, "2026-11-02T11:00:00Z", "2", 20)
            transaction.set_rollback(True)
    with second_session() as session:
        ask(session, "UPDATE usage_datausagerecord SET price = 9")
        expect("A  2026-11-02  data  1  10  1  2026-11-02T10:00:00Z")
        session.commit()
    assert [row[3] for row in stored_totals()] == [1]
    expect("A  2026-11-02  data  9  10  1  2026-11-02T10:00:00Z")
