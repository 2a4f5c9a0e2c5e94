"""Lines with the same key: the first is kept; others are known if equal, otherwise reported."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from tests.connections import run_sql
from tests.usage.importing import counts, imported, many_records, stored, write_records
from usage.services import imports

pytestmark = [
    pytest.mark.usefixtures("directory", "only_default_partitions"),
    pytest.mark.one_server("it counts records already known as added"),
]


def line(price: float | str, quantity: int = 1, key: str = "k") -> str:
    return f"data,a,2026-11-15T21:00:00Z,{price},{quantity},{key}"


@pytest.mark.parametrize("batch_lines", [7, 50_000])
def test_the_first_line_of_a_key_wins(
    directory: Path, batch_lines: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fifty keys have twenty values each. Fails when the order of the lines is lost."""
    monkeypatch.setattr(imports, "BATCH_LINES", batch_lines)
    chance = random.Random(15)
    lines = [(key, price) for key in range(50) for price in range(1, 21)]
    chance.shuffle(lines)
    first: dict[int, int] = {}
    for key, price in lines:
        first.setdefault(key, price)
    path = write_records(
        directory / "usage.csv", *(line(price, 1, f"k{key}") for key, price in lines)
    )
    rehearsed = imported(path, dry_run=True)
    report = imported(path)
    assert sorted(int(price) for _, _, _, price, _ in stored()) == sorted(first.values())
    for each in (rehearsed, report):
        assert counts(each) == (1000, 50, 0, 0)
        assert each.differing == 950
    assert rehearsed.first_rejections == report.first_rejections
    assert counts(imported(path)) == (1000, 0, 50, 0)


def test_a_line_that_differs_is_named_with_both_values(directory: Path) -> None:
    """Fails when lines with other values are counted as known."""
    path = write_records(
        directory / "usage.csv", line("1.50"), line("1.5"), line(2), line("1.5", 7), line("-1e3")
    )
    report = imported(path)
    assert counts(report) == (5, 1, 1, 1)
    assert report.differing == 2
    there = "differs from the record that is kept: price 1.50 and quantity 1 there, "
    assert [(number, reason) for number, reason, _ in report.first_rejections[:2]] == [
        (4, f"{there}price 2 and quantity 1 here"),
        (5, f"{there}price 1.5 and quantity 7 here"),
    ]
    assert report.rejects is not None
    assert len(report.rejects.read_text().splitlines()) == 4
    write_records(directory / "usage.csv", line("0.00000001"))
    report = imported(path)
    assert report.first_rejections[0].reason == f"{there}price 0.00000001 and quantity 1 here"


def test_the_first_line_wins_where_lines_are_added_one_at_a_time(
    directory: Path, close_before: Callable[[str], None]
) -> None:
    """If the database refuses a line, all lines of its batch are added in the slowest way."""
    close_before("2026-11-02")
    closed = "data,a,2026-11-01T12:00:00Z,{},1,k"
    path = write_records(
        directory / "usage.csv", line(3), closed.format(1), line(2), closed.format(2), line(3)
    )
    for options in ({"dry_run": True}, {}):
        report = imported(path, **options)
        assert counts(report) == (5, 1, 1, 2)
        assert report.differing == 1
        assert [number for number, _, _ in report.first_rejections] == [3, 4, 5]
    assert [price for _, _, _, price, _ in stored()] == ["3"]


def test_a_key_of_both_usage_types_is_two_records(directory: Path) -> None:
    path = write_records(directory / "usage.csv", line(1), line(2).replace("data", "voice"))
    assert counts(imported(path)) == (2, 2, 0, 0)


def test_differing_lines_make_the_exit_code_1(directory: Path) -> None:
    path = write_records(directory / "usage.csv", line(1), line(2), "bad")
    with pytest.raises(CommandError) as failed:
        call_command("import_usage", str(path))
    assert failed.value.returncode == 1
    assert str(failed.value) == (
        "1 line was rejected. 1 line differs from the records that are kept."
    )


@pytest.fixture
def plans() -> Iterator[list[dict[str, Any]]]:
    """Collect the plans that find known records, one for each batch and usage type."""
    found: list[dict[str, Any]] = []

    def explain(execute: Any, sql: str, parameters: Any, many: bool, context: Any) -> Any:
        if "FROM pg_temp.usage_import_staged AS staged" in str(sql):
            cursor = context["cursor"].cursor
            cursor.execute(f"EXPLAIN (FORMAT JSON) {sql}", parameters)
            ((((plan,),),),) = [cursor.fetchall()]
            found.append(plan["Plan"])
        return execute(sql, parameters, many, context)

    with connection.execute_wrapper(explain):
        yield found


def test_known_records_are_looked_up_by_their_keys(
    directory: Path, plans: list[dict[str, Any]]
) -> None:
    """Fails when whole days are read to find the known records of a batch."""
    path = many_records(directory / "usage.csv", 20_000)
    imported(path)
    run_sql("VACUUM ANALYZE usage_datausagerecord")
    assert counts(imported(path)) == (20_000, 0, 20_000, 0)
    (join,) = plans
    assert join["Node Type"] == "Nested Loop"
    assert "Seq Scan on usage_datausagerecord" not in str(join)


def test_known_records_are_found_in_linear_time_with_wrong_statistics(
    directory: Path, plans: list[dict[str, Any]]
) -> None:
    """The statistics say that many pages hold one row, and the file fills these pages.

    Fails when the planner then reads all staged lines for each record.
    """
    path = many_records(directory / "usage.csv", 20_000)
    imported(path)
    run_sql(
        "DELETE FROM usage_datausagerecord"
        " WHERE ctid <> (SELECT max(ctid) FROM usage_datausagerecord)"
    )
    run_sql("VACUUM ANALYZE usage_datausagerecord")
    imported(path)
    plans.clear()
    assert counts(imported(path)) == (20_000, 0, 20_000, 0)
    (join,) = plans
    assert join["Node Type"] == "Nested Loop"
    assert "Seq Scan" not in str(join["Plans"][1])
