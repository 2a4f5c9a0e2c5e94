"""A million late, updated, deleted and moved records, with refreshes between."""

import random
from collections import Counter
from datetime import date, timedelta

import pytest
from django.conf import LazySettings
from psycopg2.extensions import connection as Connection  # noqa: N812 - a class, so named

from tests.connections import run_sql, second_session
from tests.exact import assert_exact
from tests.factories import refresh_and_seal, refresh_totals
from tests.faults.trials import Trials
from tests.histories import DATA, QUANTITIES, VOICE
from usage.models import UsageState
from usage.services.raw import clock
from usage.services.raw.partitions import make_partitions

SUBSCRIPTIONS = 300
FIRST_DAY, TODAY = date(2026, 11, 1), date(2026, 11, 30)
DAYS = (TODAY - FIRST_DAY).days + 1

# Records at any time on these days; the last two days are open.
INSERT = """
    INSERT INTO {table} (subscription_id, usage_date, price, {quantity})
    SELECT
        1 + floor(random() * %(subscriptions)s)::int,
        %(first)s::date + %(days)s * random() * interval '1 day',
        round((random() * 100 - 10)::numeric, 8),
        floor(random() * 1000000)::int
    FROM generate_series(1, %(count)s)
"""
# Records scattered over a few subscriptions and days.
SOME = """
    subscription_id BETWEEN %(subscription)s AND %(subscription)s + %(width)s
    AND usage_date >= %(day)s AND usage_date < %(day)s::date + %(length)s
    AND abs(hashtext(id::text)) %% 7 < %(sevenths)s
"""
KINDS = {
    "late": INSERT,
    "updated": f"UPDATE {{table}} SET price = price + 0.00000001, {{quantity}} = 7 WHERE {SOME}",
    "deleted": f"DELETE FROM {{table}} WHERE {SOME}",
    "moved to another day": f"""
        UPDATE {{table}} SET usage_date = %(first)s::date + %(days)s * random() * interval '1 day'
        WHERE {SOME}
    """,
    "moved to another subscription": f"""
        UPDATE {{table}}
        SET subscription_id = 1 + (subscription_id + %(shift)s) %% %(subscriptions)s
        WHERE {SOME}
    """,
}


@pytest.fixture
def month(
    only_default_partitions: None, settings: LazySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Make empty partitions of a month, of which 28 days can be sealed."""
    settings.USAGE_OPEN_DAYS = 2
    monkeypatch.setattr(clock, "today", lambda: TODAY)
    make_partitions(FIRST_DAY + timedelta(number) for number in range(DAYS))


def write(session: Connection, chance: random.Random, most: int) -> Counter[str]:
    """Run some random writes; return the number of records that each kind touched."""
    touched: Counter[str] = Counter()
    with session.cursor() as cursor:
        for _ in range(chance.randint(1, 4)):
            kind = chance.choice([*KINDS, "late"])
            table = chance.choice([DATA, VOICE])
            cursor.execute(
                KINDS[kind].format(table=table, quantity=QUANTITIES[table]),
                {
                    "subscriptions": SUBSCRIPTIONS,
                    "first": FIRST_DAY,
                    "days": DAYS,
                    "count": chance.randint(1, most),
                    "subscription": chance.randint(1, SUBSCRIPTIONS),
                    "width": chance.choice([0, 10, 100]),
                    "day": FIRST_DAY + timedelta(chance.randrange(DAYS)),
                    "length": chance.choice([1, 3, 10]),
                    "sevenths": chance.choice([1, 3, 7]),
                    "shift": chance.randrange(SUBSCRIPTIONS),
                },
            )
            touched[kind] += cursor.rowcount
    return touched


@pytest.mark.usefixtures("month")
def test_totals_are_exact_after_one_refresh_after_any_correction(trials: Trials) -> None:
    """The totals are compared after every refresh.

    Fails when an UPDATE logs only the new keys or only the old ones, or when totals of months
    keep records that have left a key.
    """
    seed = 10
    chance = random.Random(seed)
    wanted, most_at_once = (1_000_000, 40_000) if trials.full else (10_000, 500)
    with second_session() as session, session.cursor() as cursor:
        cursor.execute("SELECT setseed(%s)", [seed / 100])
        for table in (DATA, VOICE):
            parameters = {
                "subscriptions": SUBSCRIPTIONS,
                "first": FIRST_DAY,
                "days": DAYS,
                "count": wanted // 20,
            }
            cursor.execute(INSERT.format(table=table, quantity=QUANTITIES[table]), parameters)
        session.commit()
        refresh_and_seal()
        assert UsageState.objects.get().sealed_before == TODAY - timedelta(1)
        corrected = 0
        while corrected < wanted:
            for _ in range(chance.randint(1, 4)):
                touched = write(session, chance, most_at_once)
                if chance.random() < 0.1:
                    session.rollback()
                    trials.count("transactions rolled back")
                    continue
                session.commit()
                corrected += touched.total()
                for kind, number in touched.items():
                    trials.count(kind, number)
            refresh_totals()
            trials.count("refreshes, each compared")
            assert_exact()
    ((left,),) = run_sql("SELECT count(*) FROM usage_late_key")
    assert left == 0
    trials.count(
        "records left",
        run_sql(f"SELECT (SELECT count(*) FROM {DATA}) + (SELECT count(*) FROM {VOICE})")[0][0],
    )
    assert corrected >= wanted
