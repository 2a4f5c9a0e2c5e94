"""Random histories of all kinds of writes, as data that hypothesis can shrink and print."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

DATA, VOICE = "usage_datausagerecord", "usage_voiceusagerecord"
QUANTITIES = {DATA: "kilobytes_used", VOICE: "seconds_used"}
SUBSCRIPTIONS = [1, 2, 3]
MOMENTS = [
    "2001-02-28T23:59:59Z",
    "2026-11-01T00:00:00Z",
    "2026-11-01T23:59:59.999999Z",
    "2026-11-02T00:00:00Z",
    "2026-11-02T12:30:00+05:30",
    "2026-11-02T23:59:59.999999Z",
    "2026-11-03T00:00:00Z",
    "2099-12-31T23:59:59.999999Z",
]


@dataclass(frozen=True)
class Row:
    number: int
    subscription_id: int
    usage_date: str
    price: Decimal
    quantity: int

    @property
    def id(self) -> str:
        return f"00000000-0000-0000-0000-{self.number:012d}"

    @property
    def fields(self) -> list[str]:
        return [
            self.id,
            str(self.subscription_id),
            self.usage_date,
            f"{self.price:f}",
            str(self.quantity),
        ]

    def __str__(self) -> str:
        uuid, subscription_id, usage_date, price, quantity = self.fields
        return (
            f"('{uuid}'::uuid, {subscription_id}, '{usage_date}'::timestamptz, {price}, {quantity})"
        )


@dataclass(frozen=True)
class Statement:
    text: str


@dataclass(frozen=True)
class Copy:
    table: str
    rows: list[Row]


@dataclass(frozen=True)
class BulkCreate:
    table: str
    rows: list[Row]


@dataclass(frozen=True)
class Block:
    """A transaction, or a savepoint inside one."""

    rolled_back: bool
    steps: "list[Step]"


@dataclass(frozen=True)
class Refresh:
    pass


Step = Statement | Copy | BulkCreate | Block | Refresh

tables = st.sampled_from([DATA, VOICE])
prices = st.sampled_from([Decimal(0), Decimal("0.01"), Decimal("-0.01"), Decimal("0.00000001")]) | (
    st.decimals(-1000, 10**12 - 1, places=8)
)
rows = st.builds(
    Row,
    number=st.integers(1, 4),
    subscription_id=st.sampled_from(SUBSCRIPTIONS),
    usage_date=st.sampled_from(MOMENTS),
    price=prices,
    quantity=st.sampled_from([0, 1, 59, 2**31, 2**32]),
)
row_lists = st.lists(
    rows,
    min_size=1,
    max_size=6,
    unique_by=lambda row: (row.number, row.subscription_id, datetime.fromisoformat(row.usage_date)),
)
conditions = st.one_of(
    st.sampled_from(SUBSCRIPTIONS).map("subscription_id = {}".format),
    st.sampled_from(MOMENTS).map("usage_date >= '{}'".format),
    st.integers(1, 4).map("id = '00000000-0000-0000-0000-{:012d}'".format),
    st.just("price > 0"),
)


def values(some: list[Row]) -> str:
    return ", ".join(map(str, some))


def columns(table: str) -> str:
    return f"id, subscription_id, usage_date, price, {QUANTITIES[table]}"


def insert_select(table: str, some: list[Row]) -> Statement:
    return Statement(
        f"INSERT INTO {table} ({columns(table)})"
        f" SELECT * FROM (VALUES {values(some)}) AS new_rows ON CONFLICT DO NOTHING"
    )


def upsert(table: str, some: list[Row]) -> Statement:
    quantity = QUANTITIES[table]
    return Statement(
        f"INSERT INTO {table} ({columns(table)}) VALUES {values(some)}"
        " ON CONFLICT (subscription_id, usage_date, id) DO UPDATE"
        f" SET price = excluded.price, {quantity} = excluded.{quantity}"
    )


def merge(table: str, some: list[Row]) -> Statement:
    quantity = QUANTITIES[table]
    return Statement(
        f"MERGE INTO {table} AS kept"
        f" USING (VALUES {values(some)}) AS sent ({columns(table)})"
        " ON kept.subscription_id = sent.subscription_id"
        " AND kept.usage_date = sent.usage_date AND kept.id = sent.id"
        " WHEN MATCHED AND sent.price <= 0 THEN DELETE"
        f" WHEN MATCHED AND sent.{quantity} = 1 THEN UPDATE SET id = gen_random_uuid(),"
        " usage_date = '2026-11-02 06:00+00', subscription_id = 3"
        f" WHEN MATCHED THEN UPDATE SET price = sent.price, {quantity} = sent.{quantity}"
        f" WHEN NOT MATCHED THEN INSERT ({columns(table)}) VALUES (sent.id,"
        f" sent.subscription_id, sent.usage_date, sent.price, sent.{quantity})"
    )


def merge_and_move(table: str, some: list[Row], moment: str, *, actions: list[str]) -> Statement:
    """Return a MERGE that moves the records it matches to another day; `actions` are added."""
    other = {
        "DELETE": "WHEN MATCHED AND sent.price <= 0 THEN DELETE",
        "INSERT": f"WHEN NOT MATCHED THEN INSERT ({columns(table)}) VALUES (sent.id,"
        f" sent.subscription_id, sent.usage_date, sent.price, sent.{QUANTITIES[table]})",
    }
    return Statement(
        f"MERGE INTO {table} AS kept"
        f" USING (VALUES {values(some)}) AS sent ({columns(table)})"
        " ON kept.subscription_id = sent.subscription_id"
        " AND kept.usage_date = sent.usage_date AND kept.id = sent.id "
        + " ".join(other[action] for action in actions)
        + f" WHEN MATCHED THEN UPDATE SET usage_date = '{moment}', id = gen_random_uuid()"
    )


merge_actions = st.lists(st.sampled_from(["DELETE", "INSERT"]), max_size=2, unique=True)


def update(table: str, row: Row, condition: str) -> Statement:
    return Statement(
        f"UPDATE {table} SET price = {row.price:f}, {QUANTITIES[table]} = {row.quantity}"
        f" WHERE {condition}"
    )


def move_to_day(table: str, moment: str, condition: str) -> Statement:
    return Statement(f"UPDATE {table} SET usage_date = '{moment}' WHERE {condition}")


def move_to_subscription(table: str, subscription_id: int, condition: str) -> Statement:
    return Statement(f"UPDATE {table} SET subscription_id = {subscription_id} WHERE {condition}")


def delete(table: str, condition: str) -> Statement:
    return Statement(f"DELETE FROM {table} WHERE {condition}")


writes: SearchStrategy[Step] = st.one_of(
    st.builds(insert_select, tables, row_lists),
    st.builds(BulkCreate, tables, row_lists),
    st.builds(Copy, tables, row_lists),
    st.builds(upsert, tables, row_lists),
    st.builds(merge, tables, row_lists),
    st.builds(merge_and_move, tables, row_lists, st.sampled_from(MOMENTS), actions=merge_actions),
    st.builds(update, tables, rows, conditions),
    st.builds(move_to_day, tables, st.sampled_from(MOMENTS), conditions),
    st.builds(move_to_subscription, tables, st.sampled_from(SUBSCRIPTIONS), conditions),
    st.builds(delete, tables, conditions),
    st.sampled_from([f"TRUNCATE {DATA}", f"TRUNCATE {DATA}, {VOICE}"]).map(Statement),
)
savepoints: SearchStrategy[Step] = st.builds(
    Block, rolled_back=st.booleans(), steps=st.lists(writes, min_size=1, max_size=3)
)
transactions: SearchStrategy[Step] = st.builds(
    Block, rolled_back=st.booleans(), steps=st.lists(writes | savepoints, min_size=1, max_size=4)
)
histories = st.lists(
    st.one_of(writes, writes, writes, transactions, st.just(Refresh())), min_size=1, max_size=16
)
