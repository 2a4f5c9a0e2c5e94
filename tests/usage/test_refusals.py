"""Records that the raw tables refuse: they would break a refresh or have no subscription."""

from contextlib import ExitStack
from datetime import UTC, datetime
from decimal import Decimal
from io import StringIO
from typing import Any

import psycopg2
import pytest
from django.core.exceptions import ValidationError
from django.db import DataError, IntegrityError, connection, transaction
from django.db.models import F, ProtectedError

from tests.connections import ask, in_thread, run_sql, second_session, wait_for_lock
from tests.factories import data_record, make_subscription, refresh_totals, voice_record
from usage.errors import UnknownSubscriptionError
from usage.models import DataUsageRecord, Subscription, VoiceUsageRecord

MODELS = [DataUsageRecord, VoiceUsageRecord]
UNKNOWN = 987654321


def quantity_of(model: type[Any]) -> str:
    return "kilobytes_used" if model is DataUsageRecord else "seconds_used"


def fields_of(model: type[Any], **changes: Any) -> dict[str, Any]:
    fields = {"subscription_id": 1, "usage_date": "2026-11-02T10:00:00Z", "price": "1"}
    return {**fields, quantity_of(model): 1, **changes}


def copy_in(model: type[Any], **changes: str) -> None:
    fields = fields_of(model, **changes)
    with connection.cursor() as cursor, connection.wrap_database_errors:
        cursor.copy_expert(
            f"COPY {model._meta.db_table} ({', '.join(fields)}) FROM STDIN",
            StringIO("\t".join(map(str, fields.values())) + "\n"),
        )


@pytest.mark.django_db
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    "price",
    [
        "NaN",
        "Infinity",
        "-Infinity",
        "0.123456789",
        "0.000000001",
        "-1.000000001",
        "1000000000000",
        "-1000000000000",
        "\\N",
    ],
)
@pytest.mark.one_server("it has one code for every error of a COPY")
def test_copy_refuses_a_price_that_cannot_be_kept_exactly(model: type[Any], price: str) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        copy_in(model, price=price)
    copy_in(model, price="999999999999.99999999")
    assert run_sql(f"SELECT price::text FROM {model._meta.db_table}") == [
        ("999999999999.99999999",)
    ]


@pytest.mark.django_db
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"usage_date": "infinity"}, IntegrityError),
        ({"usage_date": "-infinity"}, IntegrityError),
        ({"usage_date": "1999-12-31 23:59:59.999999+00"}, IntegrityError),
        ({"usage_date": "2100-01-01 00:00+00"}, IntegrityError),
        ({"usage_date": "2099-12-31 23:00-01"}, IntegrityError),
        ({"usage_date": "\\N"}, IntegrityError),
        ({"quantity": "-1"}, IntegrityError),
        ({"quantity": "4294967297"}, IntegrityError),
        ({"quantity": "9223372036854775808"}, DataError),
        ({"quantity": "1.5"}, DataError),
        ({"quantity": "\\N"}, IntegrityError),
        ({"subscription_id": "\\N"}, IntegrityError),
        ({"id": "\\N"}, IntegrityError),
    ],
)
@pytest.mark.one_server("it has one code for every error of a COPY")
def test_copy_refuses_absurd_dates_and_quantities(
    model: type[Any], changes: dict[str, str], error: type[Exception]
) -> None:
    named = {quantity_of(model) if name == "quantity" else name: v for name, v in changes.items()}
    with pytest.raises(error):
        copy_in(model, **named)


@pytest.mark.django_db
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"price": Decimal("NaN")}, ValidationError),
        ({"price": Decimal("Infinity")}, ValidationError),
        ({"price": Decimal("0.123456789")}, IntegrityError),
        ({"price": Decimal("-0.000000001")}, IntegrityError),
        ({"price": Decimal(10) ** 12}, IntegrityError),
        ({"price": 0.1}, IntegrityError),  # this float is not exactly a tenth
        ({"price": None}, IntegrityError),
        ({"usage_date": datetime(1999, 12, 31, 23, 59, 59, tzinfo=UTC)}, IntegrityError),
        ({"usage_date": datetime(2100, 1, 1, tzinfo=UTC)}, IntegrityError),
        ({"usage_date": datetime.max.replace(tzinfo=UTC)}, IntegrityError),
        ({"usage_date": "infinity"}, ValidationError),
        ({"usage_date": None}, IntegrityError),
        ({"quantity": -1}, IntegrityError),
        ({"quantity": 2**32 + 1}, IntegrityError),
        ({"quantity": 2**70}, DataError),
        ({"quantity": None}, IntegrityError),
        pytest.param(
            {"subscription_id": None},
            IntegrityError,
            marks=pytest.mark.one_server("it has another error for a record of nobody"),
        ),
    ],
)
def test_orm_refuses_what_copy_refuses(
    model: type[Any], changes: dict[str, Any], error: type[Exception]
) -> None:
    subscription = make_subscription()
    named = {quantity_of(model) if name == "quantity" else name: v for name, v in changes.items()}
    fields = fields_of(model, **{"subscription_id": subscription.pk, **named})
    with pytest.raises(error), transaction.atomic():
        model.objects.create(**fields)
    with pytest.raises(error), transaction.atomic():
        model.objects.bulk_create([model(**fields)])
    model.objects.create(**fields_of(model, subscription_id=subscription.pk))
    with pytest.raises(error), transaction.atomic():
        model.objects.update(**named)
    assert model.objects.count() == 1


@pytest.mark.django_db
@pytest.mark.parametrize("model", MODELS)
def test_usage_of_an_unknown_subscription_is_refused(model: type[Any]) -> None:
    subscription = make_subscription()
    unknown = fields_of(model, subscription_id=UNKNOWN)
    record = model(**unknown)
    with pytest.raises(UnknownSubscriptionError, match="987654321"):
        record.save()
    with pytest.raises(UnknownSubscriptionError):
        model.objects.create(**unknown)
    with pytest.raises(UnknownSubscriptionError):
        model.objects.get_or_create(**unknown)
    with pytest.raises(UnknownSubscriptionError):
        model.objects.bulk_create(
            [model(**fields_of(model, subscription_id=subscription.pk)), model(**unknown)]
        )
    assert model.objects.count() == 0
    model.objects.create(**fields_of(model, subscription_id=subscription.pk))
    for moved_to in [{"subscription_id": UNKNOWN}, {"subscription": UNKNOWN}]:
        with pytest.raises(UnknownSubscriptionError):
            model.objects.update(**moved_to)
    stored = model.objects.get()
    stored.subscription_id = UNKNOWN
    with pytest.raises(UnknownSubscriptionError):
        stored.save()
    assert model.objects.get().subscription_id == subscription.pk


@pytest.mark.django_db
def test_records_move_to_a_named_subscription_only() -> None:
    data_record(make_subscription(), "2026-11-02T10:00:00Z")
    with pytest.raises(TypeError, match="its id"):
        DataUsageRecord.objects.update(subscription_id=F("subscription_id") + 1)


@pytest.mark.django_db
def test_unknown_subscriptions_are_named_ten_at_most() -> None:
    records = [DataUsageRecord(**fields_of(DataUsageRecord, subscription_id=n)) for n in range(50)]
    with pytest.raises(UnknownSubscriptionError, match=r"0, 1, 2, .*, 9 \.\.\.\. Make"):
        DataUsageRecord.objects.bulk_create(records)


@pytest.mark.usefixtures("state")
class TestSubscriptionWithUsage:
    DELETE = "DELETE FROM usage_subscription WHERE id = %s"

    @pytest.mark.parametrize("write", [data_record, voice_record])
    def test_cannot_be_deleted(self, write: Any) -> None:
        subscription = make_subscription()
        write(subscription, "2026-11-02T10:00:00Z")
        with pytest.raises(ProtectedError):
            subscription.delete()
        with pytest.raises(ProtectedError):
            Subscription.objects.all().delete()
        with pytest.raises(IntegrityError, match="has usage and cannot be deleted") as refused:
            run_sql(self.DELETE, [subscription.pk])
        assert isinstance(refused.value.__cause__, psycopg2.errors.ForeignKeyViolation)

    def test_cannot_be_deleted_while_its_totals_are_shown(self) -> None:
        subscription = make_subscription()
        data_record(subscription, "2026-11-02T10:00:00Z")
        refresh_totals()
        DataUsageRecord.objects.all().delete()
        with pytest.raises(IntegrityError, match="has usage"):
            subscription.delete()
        refresh_totals()
        subscription.delete()
        assert not Subscription.objects.exists()

    def test_without_usage_can_be_deleted(self) -> None:
        data_record(make_subscription("used"), "2026-11-02T10:00:00Z")
        unused = make_subscription("unused")
        unused.delete()
        assert Subscription.objects.get().external_id == "used"

    @pytest.mark.parametrize("isolation", ["REPEATABLE READ", "SERIALIZABLE"])
    def test_cannot_be_deleted_by_an_old_snapshot(self, isolation: str) -> None:
        """Fails when the trigger accepts every isolation level: the usage is then orphaned."""
        subscription = make_subscription()
        with second_session() as session:
            ask(session, f"SET TRANSACTION ISOLATION LEVEL {isolation}")
            ask(session, "SELECT FROM usage_subscription")
            data_record(subscription, "2026-11-02T10:00:00Z")
            with pytest.raises(psycopg2.errors.InvalidTransactionState, match=isolation):
                ask(session, self.DELETE, [subscription.pk])

    @pytest.mark.parametrize(
        "way",
        [
            "save",
            "bulk_create",
            pytest.param(
                "update",
                marks=pytest.mark.one_server("it moves no record to another subscription"),
            ),
        ],
    )
    def test_cannot_be_deleted_while_a_writer_has_not_committed(self, way: str) -> None:
        """The DELETE waits for the writer, then sees the usage. Fails when writers do not lock the
        subscription: the DELETE then succeeds and leaves usage without a subscription."""
        subscription = make_subscription()
        data_record(other := make_subscription(), "2026-11-01T10:00:00Z")
        fields = fields_of(DataUsageRecord, subscription_id=subscription.pk)
        with ExitStack() as until_the_end:
            deleter = until_the_end.enter_context(second_session())
            observer = until_the_end.enter_context(second_session(autocommit=True))
            with transaction.atomic():
                if way == "save":
                    DataUsageRecord(**fields).save()
                elif way == "bulk_create":
                    DataUsageRecord.objects.bulk_create([DataUsageRecord(**fields)])
                else:
                    DataUsageRecord.objects.filter(subscription=other).update(
                        subscription=subscription
                    )
                deleted = until_the_end.enter_context(
                    in_thread(lambda: ask(deleter, self.DELETE, [subscription.pk]))
                )
                wait_for_lock(observer, deleter.info.backend_pid)
                assert not deleted.done()
            with pytest.raises(psycopg2.errors.ForeignKeyViolation):
                deleted.result(10)
        assert Subscription.objects.filter(pk=subscription.pk).exists()

    def test_refuses_new_usage_while_it_is_being_deleted(self) -> None:
        subscription = make_subscription()
        with second_session() as deleter, second_session(autocommit=True) as observer:
            ask(deleter, self.DELETE, [subscription.pk])
            writer: list[int] = []

            def write() -> None:
                writer.append(run_sql("SELECT pg_backend_pid()")[0][0])
                data_record(subscription, "2026-11-02T10:00:00Z")

            with in_thread(write) as written:
                while not writer:
                    assert not written.done()
                wait_for_lock(observer, writer[0])
                deleter.commit()
                with pytest.raises(UnknownSubscriptionError):
                    written.result(10)
        assert DataUsageRecord.objects.count() == 0
