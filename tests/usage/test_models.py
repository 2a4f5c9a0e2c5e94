"""Models match their relations, and read-only models write nothing."""

from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from django.apps import apps
from django.core.management import call_command
from django.db import connection, models
from django.db.models import Count, Max, Sum

from tests.connections import run_sql
from tests.factories import refresh_totals
from tests.given import given
from usage.errors import ReadOnlyModelError
from usage.models import DailyUsage, Subscription

MODELS: list[type[Any]] = list(apps.get_app_config("usage").get_models())
UNMANAGED = [model for model in MODELS if not model._meta.managed]

COLUMNS = """
SELECT attname, atttypid::regtype::text, attnotnull, relkind IN ('r', 'p')
FROM pg_attribute INNER JOIN pg_class ON pg_class.oid = attrelid
WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped
"""


def stored_fields(model: type[Any]) -> list[models.Field]:
    return [field for field in model._meta.local_concrete_fields if field.column is not None]


@pytest.mark.django_db
@pytest.mark.parametrize("model", MODELS)
def test_fields_match_the_columns_one_to_one(model: type[Any]) -> None:
    columns = {name: rest for name, *rest in run_sql(COLUMNS, [model._meta.db_table])}
    fields = {field.column: field for field in stored_fields(model)}
    assert set(fields) == set(columns)
    for name, (data_type, is_not_null, is_table) in columns.items():
        declared = fields[name].db_type(connection)
        assert run_sql("SELECT to_regtype(%s)::text", [declared]) == [(data_type,)], name
        if is_table:
            assert fields[name].null == (not is_not_null), name


@pytest.mark.usefixtures("state")
@pytest.mark.parametrize("model", UNMANAGED)
def test_columns_of_views_are_null_only_where_fields_may_be(model: type[Any]) -> None:
    given("""
        data   A  2026-11-01T10:00:00Z  0  0
        voice  A  2026-11-01T10:00:00Z  0  0
    """)
    refresh_totals()
    for field in stored_fields(model):
        nulls = run_sql(f"SELECT count(*) FROM {model._meta.db_table} WHERE {field.column} IS NULL")
        assert field.null or nulls == [(0,)], field.name


@pytest.mark.django_db
def test_migrations_hold_every_change_of_a_model() -> None:
    call_command("makemigrations", check=True, dry_run=True, verbosity=0)


KEY = {"subscription_id": 1, "usage_type": "data"}
WRITES: dict[str, Callable[[Any], Any]] = {
    "save": lambda model: model(**KEY).save(),
    "save_base": lambda model: model(**KEY).save_base(),
    "delete": lambda model: model(**KEY).delete(),
    "create": lambda model: model.objects.create(**KEY),
    "bulk_create": lambda model: model.objects.bulk_create([model(**KEY)]),
    "get_or_create": lambda model: model.objects.get_or_create(**KEY),
    "update_or_create": lambda model: model.objects.update_or_create(**KEY),
    "update": lambda model: model.objects.filter(**KEY).update(usage_type="voice"),
    "bulk_update": lambda model: model.objects.bulk_update([model(**KEY)], ["usage_type"]),
    "queryset delete": lambda model: model.objects.filter(**KEY).delete(),
}


@pytest.mark.django_db
@pytest.mark.parametrize("model", UNMANAGED)
@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_writing_through_a_read_only_model_raises(
    model: type[Any], write: Callable[[Any], Any]
) -> None:
    with pytest.raises(ReadOnlyModelError, match="Change the raw usage records"):
        write(model)


@pytest.mark.django_db
def test_database_refuses_to_write_totals_too() -> None:
    with pytest.raises(Exception, match="cannot insert into view"):
        run_sql("INSERT INTO usage_daily (subscription_id) VALUES (1)")


@pytest.fixture
def three_totals(state: None) -> None:
    """Make two subscriptions that have three totals together."""
    given("""
        data   A  2026-11-01T10:00:00Z  1.25  10
        data   A  2026-11-01T11:00:00Z  1.25  10
        voice  A  2026-11-02T10:00:00Z  2.50  60
        data   B  2026-11-02T10:00:00Z  0.01  5
    """)
    refresh_totals()


@pytest.mark.usefixtures("three_totals")
class TestQuerysets:
    def test_filter_by_key_part_and_relation(self) -> None:
        a = Subscription.objects.get(external_id="A")
        assert DailyUsage.objects.filter(subscription=a).count() == 2
        assert DailyUsage.objects.filter(subscription__external_id="B").get().total_usage == 5
        assert DailyUsage.objects.filter(day__gte="2026-11-02").exclude(usage_type="data").exists()

    def test_get_by_the_composite_key(self) -> None:
        a = Subscription.objects.get(external_id="A")
        key = (a.pk, date(2026, 11, 1), "data")
        total = DailyUsage.objects.select_related("subscription").get(pk=key)
        assert total.pk == key
        assert total.subscription == a
        assert (total.total_price, total.total_usage, total.record_count) == (Decimal("2.5"), 20, 2)
        assert total.last_usage_at == datetime(2026, 11, 1, 11, tzinfo=UTC)
        assert DailyUsage.objects.filter(pk__in=[key]).count() == 1

    def test_aggregate_over_all(self) -> None:
        assert DailyUsage.objects.aggregate(
            rows=Count("*"), price=Sum("total_price"), last=Max("day")
        ) == {"rows": 3, "price": Decimal("5.01"), "last": date(2026, 11, 2)}

    def test_values_grouped_by_type(self) -> None:
        assert list(
            DailyUsage.objects.values("usage_type")
            .annotate(price=Sum("total_price"), days=Count("day"))
            .order_by("usage_type")
        ) == [
            {"usage_type": "data", "price": Decimal("2.51"), "days": 2},
            {"usage_type": "voice", "price": Decimal("2.5"), "days": 1},
        ]

    def test_order_and_iterate_by_the_composite_key(self) -> None:
        ordered = DailyUsage.objects.order_by("pk")
        keys = [total.pk for total in ordered.iterator(chunk_size=1)]
        assert keys == sorted(keys)
        assert len(keys) == ordered.count() == len(ordered[:10]) == 3
        assert ordered.first() == ordered.get(pk=keys[0])
        assert ordered.exists()
