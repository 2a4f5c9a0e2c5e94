"""Every line of docs/restores.md, run as an operator runs it."""

import re
from collections.abc import Iterator

import pytest

from bin import place as places
from bin.embedded import PostgreSQL
from bin.replica import Replica
from tests import page_servers
from tests.connections import wait_until
from tests.page_servers import LATE, Servers, sections_of

SECTIONS = sections_of("restores")
RESTORED = "I have restored a dump"
STATE = "The row of usage_state is not that of the dump"
MISSING = "The raw records are missing"
UPGRADED = "I have upgraded the server with pg_upgrade"
FAILOVER = "The primary is lost, and a replica takes its place"
LOGICAL = "I move to another server by logical replication"
CHECKED = (
    "SELECT pg_get_constraintdef(oid) FROM pg_constraint"
    " WHERE conname = 'usage_quantity_bound' AND conrelid = '{}'::regclass"
)


def lines_of(section: str) -> list[str]:
    return page_servers.lines_of(SECTIONS[section])


def test_every_section_with_commands_is_run_here() -> None:
    with_commands = {section for section in SECTIONS if lines_of(section)}
    assert with_commands == {RESTORED, STATE, MISSING, UPGRADED, FAILOVER, LOGICAL}


@pytest.fixture
def servers() -> Iterator[Servers]:
    with page_servers.page_servers() as servers:
        yield servers


@pytest.fixture
def dumped(servers: Servers) -> tuple[str, str]:
    """usage.dump of the server `old`, a server `new`, and the totals of old."""
    servers.start("old")
    servers.live("old")
    servers.start("new")
    servers.shell(
        "pg_dump --format=custom --file=usage.dump postgresql://usage@old/usage",
        "pg_dumpall --roles-only --file=roles.sql --dbname=postgresql://postgres@old/usage",
    )
    return servers.totals("old")


def test_restored(servers: Servers, dumped: tuple[str, str]) -> None:
    servers.shell(*lines_of(RESTORED))
    assert servers.totals("new") == dumped


def test_the_row_of_state_is_not_that_of_the_dump(
    servers: Servers, dumped: tuple[str, str]
) -> None:
    drop, add = (line for line in lines_of(LOGICAL) if "usage_quantity_bound" in line)
    servers.shell("manage.py migrate --verbosity 0", drop, server="new")
    servers.shell(
        "pg_restore --data-only --dbname=postgresql://usage@new/usage usage.dump     # exits 1",
        "manage.py check_restore     # exits 1: its row is not that of the dump",
        server="new",
    )
    servers.shell(add, *lines_of(STATE), server="new")
    assert servers.totals("new") == dumped


def test_raw_records_are_missing(servers: Servers, dumped: tuple[str, str]) -> None:
    """Fails when the page closes days whose raw records are still there."""
    sealed = "SELECT count(*), sum(total_price) FROM usage_daily_sealed"
    raw = "SELECT count(*) FROM usage_datausagerecord"
    lost = "usage_day(usage_date) <= current_date - 11"
    before = servers.sql("old", sealed)
    servers.shell(*lines_of(RESTORED))
    # No trigger sees a write to a partition.
    servers.sql("new", f"DELETE FROM usage_datausagerecord_default WHERE {lost}")
    kept = servers.sql("new", raw)
    assert 0 < int(kept) < int(servers.sql("old", raw))
    named = servers.sql("new", "SELECT current_date - 10").strip()
    dates = re.compile(r"20\d\d-\d\d-\d\d")
    lines = [dates.sub(named, line) for line in lines_of(MISSING)]
    servers.shell(*lines, "manage.py prune_usage --days-passed", server="new")
    assert servers.sql("new", "SELECT raw_kept_from FROM usage_state").strip() == named
    assert servers.sql("new", raw) == kept
    assert servers.sql("new", sealed) == before


def test_upgraded(servers: Servers) -> None:
    """The upgrade goes to another directory of the same version, with another system identifier."""
    old = servers.start("old")
    servers.live("old")
    before = servers.totals("old")
    old.stop()
    del servers.named["old"]
    place = places.give(servers.here / "new", servers.account)
    new = PostgreSQL(place, servers.here / "new.log", thrown_away=True)
    new._make_data()
    new._run(
        [
            *(str(new.programs / "pg_upgrade"), "--username=postgres"),
            *(f"--old-bindir={new.programs}", f"--new-bindir={new.programs}"),
            *(f"--old-datadir={old.data}", f"--new-datadir={new.data}"),
        ],
        place,
    )
    servers.run("new", new)
    servers.shell(*lines_of(UPGRADED))
    assert servers.totals("new") == before


def test_failover(servers: Servers) -> None:
    primary = servers.start("primary")
    servers.live("primary")
    for name in ("one", "two"):
        place = places.give(servers.here / name, servers.account)
        servers.run(name, Replica(place, servers.here / f"{name}.log", primary))
    before = servers.totals("primary")
    wait_until(lambda: servers.totals("one") == before, what="one to catch up")
    wait_until(lambda: servers.totals("two") == before, what="two to catch up")
    primary.stop()
    output = servers.shell(*lines_of(FAILOVER))
    assert "replica1 follows another timeline than the primary" in output
    assert servers.totals("one") == before
    servers.sql("one", LATE)
    servers.shell("manage.py refresh_usage", server="one")
    after = servers.totals("one")
    assert after != before
    wait_until(lambda: servers.totals("two") == after, seconds=60, what="two to follow")


def test_logical_replication(servers: Servers) -> None:
    servers.start("old", wal_level="logical", max_wal_senders="10", max_replication_slots="10")
    servers.live("old")
    servers.start("new")
    lines = lines_of(LOGICAL)
    switch = lines.index("export DATABASE_URL=postgresql://usage@old/usage")
    servers.shell(*lines[:switch])
    # Refreshes continue, and rows of every table are changed and deleted.
    servers.sql("old", LATE)
    servers.shell("manage.py refresh_usage", server="old")
    assert servers.sql("old", "SELECT count(*) FROM usage_late_key").strip() == "0"
    caught_up(servers)
    servers.shell(*lines[switch:])
    assert servers.totals("new") == servers.totals("old")
    for table in ("usage_datausagerecord", "usage_voiceusagerecord"):
        assert servers.sql("new", CHECKED.format(table)) == servers.sql(
            "old", CHECKED.format(table)
        )


def caught_up(servers: Servers) -> None:
    """Wait until the new server has every row of the old one."""
    for table in ("usage_state", "usage_late_key", "usage_period_total", "usage_refreshrun"):
        rows = f"SELECT count(*), md5(string_agg(t::text, ',' ORDER BY t)) FROM {table} AS t"

        def is_same(rows: str = rows) -> bool:
            return servers.sql("new", rows) == servers.sql("old", rows)

        wait_until(is_same, seconds=60, what=f"{table} to be replicated")
