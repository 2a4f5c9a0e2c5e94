"""Properties 1, 3, 6 and 7 for every statement that can change raw records.

Each statement moves records between all kinds of days and partitions, in both late keys modes.
Similar statements may fill different transition tables: a MERGE that moves a record to another
partition fills none of UPDATE, and a MERGE with a DELETE or INSERT action fills half of them.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from io import StringIO
from itertools import count
from typing import Any

import psycopg2
import pytest
from psycopg2 import errors
from psycopg2.extensions import connection as Connection  # noqa: N812 - a class, so named

from tests.connections import ask, run_sql, second_session
from tests.exact import assert_exact, plain_totals, totals_of
from tests.factories import make_subscription, refresh_and_seal, refresh_totals
from usage.models import LateKeysMode, UsageState
from usage.services.raw.partitions import make_partitions
from usage.services.totals.closing import close

pytestmark = [
    pytest.mark.one_server("it moves no record to another shard and has no triggers"),
    pytest.mark.usefixtures("only_default_partitions"),
]

TABLE = "usage_voiceusagerecord"
COLUMNS = "id, subscription_id, usage_date, price, seconds_used"
TODAY = "2026-11-14"

# Days by their state. Days "with" have their own partition, days "without" share the default one.
CLOSED_WITH, CLOSED_WITHOUT = "2026-11-02", "2026-11-03"
SEALED_WITH, SEALED_WITH_TOO = "2026-11-07", "2026-11-08"
SEALED_WITHOUT, SEALED_WITHOUT_TOO = "2026-11-09", "2026-11-10"
OPEN_WITH, OPEN_WITH_TOO = "2026-11-13", "2026-11-14"
OPEN_WITHOUT, OPEN_WITHOUT_TOO = "2026-12-24", "2026-12-25"
PARTITIONED = [CLOSED_WITH, SEALED_WITH, SEALED_WITH_TOO, OPEN_WITH, OPEN_WITH_TOO]
SEALED_PLACES = [
    (SEALED_WITH, SEALED_WITH),
    (SEALED_WITHOUT, SEALED_WITHOUT_TOO),
    (SEALED_WITH, SEALED_WITH_TOO),
    (SEALED_WITH, SEALED_WITHOUT),
    (SEALED_WITHOUT, SEALED_WITH),
    (SEALED_WITH, OPEN_WITH),
    (OPEN_WITHOUT, SEALED_WITH),
]
OPEN_PLACES = [
    (OPEN_WITH, OPEN_WITH),
    (OPEN_WITHOUT, OPEN_WITHOUT_TOO),
    (OPEN_WITH, OPEN_WITH_TOO),
    (OPEN_WITH, OPEN_WITHOUT),
    (OPEN_WITHOUT, OPEN_WITH),
]
CLOSED_PLACES = [
    (CLOSED_WITH, OPEN_WITH),
    (OPEN_WITH, CLOSED_WITH),
    (CLOSED_WITHOUT, OPEN_WITHOUT),
    (OPEN_WITHOUT, CLOSED_WITHOUT),
    (CLOSED_WITH, CLOSED_WITH),
]

numbers = count(1)


@dataclass(frozen=True)
class Record:
    """A raw record at 12:00 UTC of its day."""

    number: int
    subscription_id: int
    day: str
    price: int = 1

    @property
    def key(self) -> str:
        return f"'00000000-0000-0000-0000-{self.number:012d}'::uuid"

    @property
    def at(self) -> str:
        return f"'{self.day} 12:00+00'::timestamptz"

    @property
    def row(self) -> str:
        return f"({self.key}, {self.subscription_id}, {self.at}, {self.price}, 60)"


@dataclass(frozen=True)
class Case:
    """The records of one test case: a statement moves `source` to `target` and changes its price.

    A MERGE with a DELETE action deletes `victim`, one with an INSERT action inserts `newcomer`.
    """

    source: Record
    target: Record
    victim: Record
    newcomer: Record

    @property
    def matches(self) -> str:
        return (
            f"kept.id = {self.source.key} AND kept.usage_date = {self.source.at}"
            f" AND kept.subscription_id = {self.source.subscription_id}"
        )

    @property
    def change(self) -> str:
        target = self.target
        return (
            f"usage_date = {target.at}, price = {target.price},"
            f" subscription_id = {target.subscription_id}"
        )


def insert(case: Case) -> str:
    return f"INSERT INTO {TABLE} ({COLUMNS}) VALUES {case.target.row}"


def update(case: Case) -> str:
    return f"UPDATE {TABLE} AS kept SET {case.change} WHERE {case.matches}"


def delete(case: Case) -> str:
    return f"DELETE FROM {TABLE} AS kept WHERE {case.matches}"


def upsert(case: Case) -> str:
    return (
        f"INSERT INTO {TABLE} ({COLUMNS}) VALUES {case.source.row}"
        f" ON CONFLICT (subscription_id, usage_date, id) DO UPDATE SET {case.change}"
    )


def merge(*actions: str) -> Callable[[Case], str]:
    """Return a function that writes a MERGE with these actions, each for one record."""

    def statement(case: Case) -> str:
        rows = ", ".join(
            record.row[:-1] + f", '{action}')"
            for action, record in [
                ("update", case.source),
                ("delete", case.victim),
                ("insert", case.newcomer),
            ]
        )
        texts = {
            "update": f"WHEN MATCHED AND sent.action = 'update' THEN UPDATE SET {case.change}",
            "delete": "WHEN MATCHED AND sent.action = 'delete' THEN DELETE",
            "insert": "WHEN NOT MATCHED AND sent.action = 'insert' THEN INSERT"
            f" ({COLUMNS}) VALUES (sent.id, sent.subscription_id, sent.usage_date, sent.price, 60)",
        }
        return (
            f"MERGE INTO {TABLE} AS kept USING (VALUES {rows}) AS sent ({COLUMNS}, action)"
            " ON kept.id = sent.id AND kept.usage_date = sent.usage_date"
            " AND kept.subscription_id = sent.subscription_id "
            + " ".join(texts[action] for action in actions)
        )

    return statement


def merge_unmatched(case: Case) -> str:
    """Return a MERGE that changes records without a source row (PostgreSQL 17 and later)."""
    return (
        f"MERGE INTO {TABLE} AS kept USING (SELECT WHERE FALSE) AS nothing ON FALSE"
        f" WHEN NOT MATCHED BY SOURCE AND {case.matches} THEN UPDATE SET {case.change}"
    )


def in_cte(statement: Callable[[Case], str]) -> Callable[[Case], str]:
    return lambda case: f"WITH changed AS ({statement(case)} RETURNING 1) SELECT FROM changed"


def in_function(language: str) -> Callable[[Case], tuple[str, ...]]:
    """Return a function that writes a MERGE in a function, so the client sends only its call."""

    def called(case: Case) -> tuple[str, ...]:
        text = f"{merge('update')(case)};"
        body = f"BEGIN {text} END" if language == "plpgsql" else text
        return (
            f"CREATE OR REPLACE FUNCTION pg_temp.change() RETURNS void LANGUAGE {language}"
            f" AS $body${body}$body$",
            "SELECT pg_temp.change()",
        )

    return called


def prepared(case: Case) -> tuple[str, ...]:
    return (
        f"PREPARE change AS {merge('update')(case)}",
        "EXECUTE change",
        "DEALLOCATE change",
    )


def behind_an_update(case: Case) -> tuple[str, ...]:
    """Return a plain UPDATE that calls a function, which sends a MERGE into the same table."""
    return (
        "CREATE OR REPLACE FUNCTION pg_temp.change() RETURNS numeric LANGUAGE plpgsql"
        f" AS $body$BEGIN {merge('update')(case)}; RETURN 5; END$body$",
        f"UPDATE {TABLE} SET price = pg_temp.change() WHERE id = {case.victim.key}",
    )


MERGES = {
    f"merge {'+'.join(actions)}": merge(*actions)
    for actions in [
        ("update",),
        ("delete",),
        ("insert",),
        ("update", "delete"),
        ("update", "insert"),
        ("delete", "insert"),
        ("update", "delete", "insert"),
    ]
}
STATEMENTS: dict[str, Callable[[Case], str | tuple[str, ...]]] = {
    "insert": insert,
    "update": update,
    "delete": delete,
    "on conflict do update": upsert,
    "update in a CTE": in_cte(update),
    "delete in a CTE": in_cte(delete),
    "merge in DO": lambda case: f"DO $do$BEGIN {merge('update')(case)}; END$do$",
    "merge in PL/pgSQL": in_function("plpgsql"),
    "merge in SQL": in_function("sql"),
    "merge prepared": prepared,
    "merge behind an update": behind_an_update,
    "copy": insert,
    **MERGES,
    "merge unmatched": merge_unmatched,
    "merge in a CTE": in_cte(merge("update")),
}
SINCE_17 = {"merge unmatched", "merge in a CTE"}
# These statements write no target: they leave the source where it is, or delete it.
WITHOUT_TARGET = {"delete", "delete in a CTE", "merge delete"}


@pytest.fixture
def writer(state: None) -> Iterator[Connection]:
    with second_session(autocommit=True) as session:
        yield session


def write(session: Connection, name: str, case: Case) -> None:
    if name == "copy":
        target = case.target
        line = f"{target.key[1:37]},{target.subscription_id},{target.day} 12:00+00,1,60\n"
        with session.cursor() as cursor:
            cursor.copy_expert(f"COPY {TABLE} ({COLUMNS}) FROM STDIN CSV", StringIO(line))
        return
    statements = STATEMENTS[name](case)
    with session.cursor() as cursor:
        for statement in [statements] if isinstance(statements, str) else statements:
            cursor.execute(statement)


def cases(places: list[tuple[str, str]]) -> list[Case]:
    """Return two cases for each pair of days: with the same subscription and with another one.

    No two cases share a subscription, so a late key of one case cannot hide a fault of another.
    """
    found = []
    for from_day, to_day in places:
        for moves_subscription in (False, True):
            first, second, third, fourth = (make_subscription().pk for _ in range(4))
            found.append(
                Case(
                    Record(next(numbers), first, from_day),
                    Record(next(numbers), second if moves_subscription else first, to_day, price=7),
                    Record(next(numbers), third, from_day),
                    Record(next(numbers), fourth, to_day, price=9),
                )
            )
    return found


def insert_records(to_test: list[Case]) -> None:
    rows = ", ".join(record.row for case in to_test for record in (case.source, case.victim))
    run_sql(f"INSERT INTO {TABLE} ({COLUMNS}) VALUES {rows}")


@pytest.fixture(params=[LateKeysMode.TRIGGERS, LateKeysMode.WINDOW])
def late_keys(
    request: pytest.FixtureRequest,
    switch_to: Callable[[LateKeysMode], None],
    set_today: Callable[[str], None],
    settings: Any,
) -> LateKeysMode:
    switch_to(request.param)
    settings.USAGE_OPEN_DAYS = 2
    settings.USAGE_RAW_RETENTION_DAYS = 30
    if request.param == LateKeysMode.WINDOW:
        settings.USAGE_OPEN_DAYS = settings.USAGE_RAW_RETENTION_DAYS = 8
    make_partitions([date.fromisoformat(day) for day in PARTITIONED])
    set_today("2026-11-01")
    return request.param


def skip_where_unknown(session: Connection, name: str) -> None:
    if name in SINCE_17 and session.server_version < 170000:
        pytest.skip("This statement needs PostgreSQL 17.")


@pytest.mark.parametrize("name", STATEMENTS)
def test_totals_are_exact_after_every_statement(
    name: str, late_keys: LateKeysMode, writer: Connection, set_today: Callable[[str], None]
) -> None:
    skip_where_unknown(writer, name)
    to_test = cases(
        OPEN_PLACES if late_keys == LateKeysMode.WINDOW else SEALED_PLACES + OPEN_PLACES
    )
    insert_records(to_test)
    set_today(TODAY)
    refresh_and_seal()
    for case in to_test:
        moves_partition = case.source.day != case.target.day and (
            {case.source.day, case.target.day} & set(PARTITIONED)
        )
        if name == "on conflict do update" and moves_partition:
            with pytest.raises(errors.FeatureNotSupported):
                write(writer, name, case)
            continue
        before = run_sql("SELECT count(*), sum(price) FROM " + TABLE)
        write(writer, name, case)
        assert run_sql("SELECT count(*), sum(price) FROM " + TABLE) != before
    assert totals_of("usage_daily_live") == plain_totals()
    refresh_totals()
    assert_exact()


@pytest.mark.parametrize("name", STATEMENTS)
def test_closed_days_refuse_every_statement(
    name: str, late_keys: LateKeysMode, writer: Connection, set_today: Callable[[str], None]
) -> None:
    skip_where_unknown(writer, name)
    to_test = cases(CLOSED_PLACES)
    insert_records(to_test)
    set_today(TODAY)
    refresh_and_seal()
    if late_keys == LateKeysMode.TRIGGERS:
        # Close the days as a prune does, and keep their records, as while it waits for its fence.
        close(date(2026, 11, 5))
    assert_exact()
    before = run_sql(f"SELECT {COLUMNS} FROM {TABLE} ORDER BY id")
    for case in to_test:
        touched = {case.source.day} if name in WITHOUT_TARGET else {case.target.day}
        if name not in {"insert", "copy", "merge insert"}:
            touched.add(case.source.day)
        if not touched & {CLOSED_WITH, CLOSED_WITHOUT}:
            continue
        with pytest.raises(psycopg2.Error) as refusal:
            write(writer, name, case)
        assert isinstance(refusal.value, (errors.CheckViolation, errors.FeatureNotSupported))
        with suppress(psycopg2.Error):
            ask(writer, "DEALLOCATE ALL")
        assert run_sql(f"SELECT {COLUMNS} FROM {TABLE} ORDER BY id") == before
    refresh_totals()
    assert_exact()


def test_truncate_removes_the_totals_of_kept_days(
    late_keys: LateKeysMode, writer: Connection, set_today: Callable[[str], None]
) -> None:
    to_test = cases(
        OPEN_PLACES if late_keys == LateKeysMode.WINDOW else SEALED_PLACES + OPEN_PLACES
    )
    insert_records(to_test)
    set_today(TODAY)
    refresh_and_seal()
    ask(writer, f"TRUNCATE {TABLE}")
    refresh_totals()
    assert_exact()
    assert UsageState.objects.get().as_of is not None
    assert run_sql("SELECT count(*) FROM usage_daily") == [(0,)]


def test_an_update_logs_each_key_once(
    writer: Connection, switch_to: Callable[[LateKeysMode], None], set_today: Callable[[str], None]
) -> None:
    """Fails when the row trigger, which a MERGE needs, also logs the records of a plain UPDATE."""
    switch_to(LateKeysMode.TRIGGERS)
    make_partitions([date.fromisoformat(day) for day in PARTITIONED])
    subscription_id = make_subscription().pk
    records = [Record(next(numbers), subscription_id, SEALED_WITH) for _ in range(50)]
    run_sql(f"INSERT INTO {TABLE} ({COLUMNS}) VALUES " + ", ".join(r.row for r in records))
    set_today(TODAY)
    refresh_and_seal()
    ask(writer, f"UPDATE {TABLE} SET usage_date = usage_date + interval '1 day'")
    assert run_sql("SELECT day::text, count(*) FROM usage_late_key GROUP BY 1 ORDER BY 1") == [
        (SEALED_WITH, 1),
        (SEALED_WITH_TOO, 1),
    ]
    refresh_totals()
    assert_exact()
