"""Exports of all rows: one snapshot, timeouts, exact values, and files that are never partial."""

import csv
import io
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.db import OperationalError, connection
from pyarrow import parquet  # type: ignore[import-untyped]

from tests.connections import ask, run_sql, second_session, wait_until
from usage.errors import ExportError
from usage.services.exports import Batch, Limits, read_batches
from usage.services.exports.csv_text import csv_chunks
from usage.services.exports.files import whole_file
from usage.services.exports.parquet import write_parquet

MINUTE = 60
LIMITS = Limits(statement=MINUTE, idle=MINUTE, whole=MINUTE)
NUMBERS = "SELECT number FROM generate_series(1, %s) AS number"


def read(statement: str, *parameters: Any, limits: Limits | None = LIMITS) -> Iterator[Batch]:
    return read_batches(statement, parameters, size=1000, limits=limits)


def test_batches_hold_every_row_once_and_in_order(db: None) -> None:
    batches = list(read(f"{NUMBERS} ORDER BY number DESC", 2500))
    assert [len(batch) for batch in batches] == [1000, 1000, 500]
    assert [number for batch in batches for (number,) in batch] == list(range(2500, 0, -1))


def test_all_batches_are_of_one_snapshot(state: None) -> None:
    run_sql(
        "INSERT INTO usage_subscription (external_id, created_at)"
        f" SELECT 'before ' || number, now() FROM ({NUMBERS}) AS numbers",
        [1500],
    )
    batches = read("SELECT external_id FROM usage_subscription ORDER BY id")
    first = next(batches)
    with second_session(autocommit=True) as other:
        ask(other, "DELETE FROM usage_subscription")
        ask(other, "INSERT INTO usage_subscription (external_id, created_at) VALUES ('new', now())")
    rows = [*first, *(row for batch in batches for row in batch)]
    assert rows == [(f"before {number}",) for number in range(1, 1501)]


def test_an_iterator_closed_early_leaves_no_transaction(state: None) -> None:
    batches = read(NUMBERS, 5000)
    next(batches)
    assert connection.in_atomic_block
    batches.close()  # type: ignore[attr-defined]
    assert not connection.in_atomic_block
    assert run_sql("SHOW statement_timeout") == [("0",)]
    assert run_sql("SELECT count(*) FROM pg_cursors") == [(0,)]


def test_a_statement_that_takes_too_long_is_ended(state: None) -> None:
    with pytest.raises(OperationalError, match="statement timeout"):
        next(read("SELECT pg_sleep(30)", limits=Limits(statement=1, idle=MINUTE, whole=MINUTE)))


def test_an_export_that_takes_too_long_is_ended(state: None) -> None:
    batches = read(NUMBERS, 5000, limits=Limits(statement=MINUTE, idle=MINUTE, whole=0))
    next(batches)
    with pytest.raises(ExportError, match="Not every row was read within 0 seconds"):
        next(batches)


def test_a_reader_that_stalls_loses_its_snapshot(state: None) -> None:
    batches = read(NUMBERS, 5000, limits=Limits(statement=MINUTE, idle=1, whole=MINUTE))
    next(batches)
    [(process,)] = run_sql("SELECT pg_backend_pid()")
    with second_session(autocommit=True) as other:
        wait_until(
            lambda: not ask(other, "SELECT pid FROM pg_stat_activity WHERE pid = %s", [process]),
            what="the end of the session",
        )
    with pytest.raises(OperationalError):
        next(batches)
    assert not connection.in_atomic_block


def test_csv_is_exact_text() -> None:
    columns = ["subscription_id", "day", "usage_type", "total_price", "last_usage_at"]
    moment = "2026-11-01T23:59:59.999999Z"
    row = [9223372036854775807, date(2026, 11, 1), "data", "-0.00000001", moment]
    assert list(csv_chunks(columns, [[row], [row]])) == [
        b"subscription_id,day,usage_type,total_price,last_usage_at\r\n"
        b"9223372036854775807,2026-11-01,data,-0.00000001,2026-11-01T23:59:59.999999Z\r\n",
        b"9223372036854775807,2026-11-01,data,-0.00000001,2026-11-01T23:59:59.999999Z\r\n",
    ]


def test_csv_without_rows_is_a_header() -> None:
    assert list(csv_chunks(["subscription_id", "external_id"], [])) == [
        b"subscription_id,external_id\r\n"
    ]


@pytest.mark.parametrize(
    ("external_id", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("+49 170", "'+49 170"),
        ("-2", "'-2"),
        ("@sum(a1)", "'@sum(a1)"),
        ("\t=1", "'\t=1"),
        ("\r=1", "'\r'=1"),
        ("\n=1", "'\n'=1"),
        ("'=1", "''=1"),
        ('a,"b"\r\n', 'a,"b"\r\n'),
        ("zoë=1", "zoë=1"),
        ("", ""),
    ],
)
def test_an_external_id_is_never_a_formula(external_id: str, cell: str) -> None:
    content = b"".join(csv_chunks(["subscription_id", "external_id"], [[(-1, external_id)]]))
    lines = list(csv.reader(io.StringIO(content.decode(), newline="")))
    assert lines == [["subscription_id", "external_id"], ["-1", cell]]


def test_a_file_is_readable_by_its_owner_alone_and_replaces_the_former_file(tmp_path: Path) -> None:
    target = tmp_path / "usage.csv"
    target.write_text("before")
    target.chmod(0o644)
    with whole_file(str(target)) as file:
        file.write(b"after")
        file.flush()
        assert target.read_text() == "before"
    assert target.read_text() == "after"
    assert target.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_unfinished_file_replaces_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    target = tmp_path / "usage.csv"
    target.write_text("before")

    def stop_half_way() -> None:
        with whole_file(str(target)) as file:
            file.write(b"half")
            raise error

    with pytest.raises(error):
        stop_half_way()
    assert [path.read_text() for path in tmp_path.iterdir()] == ["before"]


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("/dev/null", "/dev/null is no regular file"),
        ("/nowhere/usage.csv", r"/nowhere/usage\.csv cannot be written: No such file or directory"),
    ],
)
def test_a_path_that_cannot_be_a_file_is_refused(path: str, problem: str) -> None:
    with pytest.raises(ExportError, match=problem), whole_file(path):
        pass


def test_parquet_is_exact_and_typed() -> None:
    moment = datetime(2026, 11, 1, 23, 59, 59, 999999, tzinfo=UTC)
    columns = ["subscription_id", "day", "usage_type", "total_price", "last_usage_at"]
    largest = "999999999999999999999999999999.99999999"
    file = io.BytesIO()
    write_parquet(
        file,
        columns,
        [
            [(1, date(2026, 11, 1), "data", largest, moment.isoformat())],
            [(2**63 - 1, date(2026, 11, 2), "voice", "-0.10", moment.isoformat())],
        ],
        {"as_of": "2026-11-24T12:00:00Z"},
    )
    table = parquet.read_table(file)
    assert [str(field.type) for field in table.schema] == [
        "int64",
        "date32[day]",
        "string",
        "decimal128(38, 8)",
        "timestamp[us, tz=UTC]",
    ]
    assert table.schema.metadata[b"as_of"] == b"2026-11-24T12:00:00Z"
    assert [tuple(row.values()) for row in table.to_pylist()] == [
        (1, date(2026, 11, 1), "data", Decimal(largest), moment),
        (2**63 - 1, date(2026, 11, 2), "voice", Decimal("-0.10"), moment),
    ]


@pytest.mark.parametrize("amount", ["0.123456789", "1000000000000000000000000000000"])
def test_parquet_never_rounds(amount: str) -> None:
    with pytest.raises(ExportError, match=r"does not fit .* Use --format csv"):
        write_parquet(io.BytesIO(), ["total_price"], [[(amount,)]], {})
