"""Equal totals, to the last digit, in CSV, pages of JSON, SQL and an export."""

import csv
import random
from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from django.core.management import call_command
from pyarrow import parquet  # type: ignore[import-untyped]
from rest_framework.test import APIClient

from tests.connections import run_sql
from tests.exact import plain_totals
from tests.factories import (
    data_record,
    make_subscription,
    refresh_and_seal,
    refresh_totals,
    voice_record,
)
from tests.usage.api.api_requests import get, pages, results
from tests.usage.api.test_csv import download
from usage.notation import amount_text

pytestmark = pytest.mark.one_server("no record comes late there")

Rows = list[tuple[Any, ...]]
LIMIT = "1.00000001"
SUMS = (
    "SELECT subscription_id, usage_type, sum(total_price) AS total_price,"
    " sum(total_usage) AS total_usage, sum(record_count) AS record_count FROM usage_daily"
    " GROUP BY subscription_id, usage_type"
)
# By path: the parameters, the columns to compare, and the same query in SQL.
QUERIES: dict[str, tuple[dict[str, str], tuple[str, ...], str]] = {
    "over-limit": (
        {"price_limit": LIMIT},
        ("subscription_id", "usage_type", "total_price", "exceeded_by"),
        f"SELECT subscription_id, usage_type, total_price, total_price - {LIMIT}"
        f" FROM ({SUMS}) AS sums WHERE total_price >= {LIMIT}",
    ),
    "totals": (
        {},
        ("subscription_id", "usage_type", "total_price", "total_usage", "record_count"),
        SUMS,
    ),
    "daily": (
        {"ordering": "-total_price"},
        ("subscription_id", "day", "usage_type", "total_price", "total_usage", "record_count"),
        "SELECT subscription_id, day, usage_type, total_price, total_usage, record_count"
        " FROM usage_daily",
    ),
}


@pytest.fixture
def random_usage(clock_at: Callable[[str], None]) -> None:
    """Write records with prices of every scale, also credits, on sealed and on open days."""
    chance = random.Random(20_261_124)
    subscriptions = [make_subscription(f"s{number}", id=number) for number in range(1, 9)]

    def write(records: int) -> None:
        for _ in range(records):
            scale = chance.randint(0, 8)
            digits = chance.randint(-(10 ** chance.randint(1, 12)), 10 ** chance.randint(1, 12))
            price = format(Decimal(digits).scaleb(-scale), "f")
            moment = f"2026-11-{chance.randint(1, 6):02}T{chance.randint(0, 23):02}:00:00Z"
            make = chance.choice([data_record, voice_record])
            make(chance.choice(subscriptions), moment, price, chance.randrange(2**32))

    clock_at("2026-11-06")
    write(300)
    refresh_and_seal()
    write(60)
    refresh_and_seal()
    assert run_sql("SELECT count(*) > 50, min(total_price) < 0 FROM usage_daily_sealed") == [
        (True, True)
    ]
    assert run_sql("SELECT count(*) > 10 FROM usage_daily_open") == [(True,)]


def as_text(value: Any) -> str:
    return amount_text(value) if isinstance(value, Decimal) else str(value)


def picked(rows: Any, columns: tuple[str, ...]) -> Rows:
    return sorted(tuple(row[column] for column in columns) for row in rows)


def flat(row: dict[str, Any]) -> list[dict[str, Any]]:
    return [{**row, **each} for each in row["exceeded"]] if "exceeded" in row else [row]


@pytest.mark.parametrize("name", QUERIES)
def test_sql_pages_csv_and_exports_have_the_same_totals(
    random_usage: None, client_with_token: APIClient, tmp_path: Path, name: str
) -> None:
    parameters, columns, statement = QUERIES[name]
    query = urlencode(parameters)
    in_sql = sorted(run_sql(statement))
    assert len(in_sql) > 5
    in_text = sorted(tuple(map(as_text, row)) for row in in_sql)

    found = pages(client_with_token, f"usage/{name}", f"{query}&page_size=3".lstrip("&"))
    assert len(found) > 2
    in_pages = picked([line for page in found for row in page for line in flat(row)], columns)
    assert sorted(tuple(map(str, row)) for row in in_pages) == in_text

    response = get(client_with_token, f"usage/{name}", f"{query}&format=csv".lstrip("&"))
    text = b"".join(response.streaming_content).decode()
    assert picked(csv.DictReader(text.splitlines()), columns) == in_text

    options = [f"--{name.replace('_', '-')}={value}" for name, value in parameters.items()]
    for kind in ("csv", "parquet"):
        call_command(
            "export_usage", str(tmp_path / kind), f"--what={name}", f"--format={kind}", *options
        )
    assert (tmp_path / "csv").read_bytes().decode() == text
    assert picked(parquet.read_table(tmp_path / "parquet").to_pylist(), columns) == in_sql


def test_a_csv_adds_up_to_the_raw_records(random_usage: None, client_with_token: APIClient) -> None:
    response = get(client_with_token, "usage/daily", "format=csv")
    rows = list(csv.DictReader(b"".join(response.streaming_content).decode().splitlines()))
    assert [
        (
            *(int(row["subscription_id"]), date.fromisoformat(row["day"]), row["usage_type"]),
            *(Decimal(row["total_price"]), int(row["total_usage"]), int(row["record_count"])),
            datetime.fromisoformat(row["last_usage_at"]),
        )
        for row in rows
    ] == plain_totals()


def test_one_amount_has_one_text_wherever_it_is_read(
    state: None, client_with_token: APIClient
) -> None:
    """Fails when a response shows trailing zeros. PostgreSQL keeps those of the longest summand,
    also after that record was replaced."""
    anna = make_subscription("anna", id=1)
    record = data_record(anna, "2026-11-01T10:00:00Z", "1.50000000", 10)
    refresh_totals()
    record.price = Decimal("1.5")
    record.save()
    refresh_totals()
    stored = run_sql("SELECT total_price::text FROM usage_period_total")
    assert ("1.50000000",) in stored
    assert run_sql("SELECT total_price::text FROM usage_daily") == [("1.5",)]

    month = "month=2026-11"
    [over] = results(client_with_token, "usage/over-limit", f"{month}&price_limit=1")
    assert over["exceeded"] == [{"usage_type": "data", "total_price": "1.5", "exceeded_by": "0.5"}]
    for path, query in {
        "usage/totals": month,
        "usage/daily": month,
        "usage/over-limit": f"{month}&price_limit=1.5",
        "usage/records": "subscription_id=1&usage_type=data&day=2026-11-01",
    }.items():
        assert '"1.5"' in str(get(client_with_token, path, query).content), path
        assert ",1.5," in download(client_with_token, path, query)[1], path
