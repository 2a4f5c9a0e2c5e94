"""Every line of docs/restores.md, run as an operator runs it."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import quote

import pytest
from django.conf import settings

from bin import place as places
from bin.embedded import PORT, PostgreSQL
from bin.replica import Replica
from bin.spawn import Account
from tests.connections import wait_until
from tests.processes import ROOT

PAGE = (ROOT / "docs" / "restores.md").read_text(encoding="utf-8")
SECTIONS = {
    part.partition("\n")[0]: part for part in re.split(r"^#+ ", PAGE, flags=re.MULTILINE)[1:]
}
RESTORED = "I have restored a dump"
STATE = "The row of usage_state is not that of the dump"
MISSING = "The raw records are missing"
UPGRADED = "I have upgraded the server with pg_upgrade"
FAILOVER = "The primary is lost, and a replica takes its place"
LOGICAL = "I move to another server by logical replication"

# Sealed, open and coming days, in two months, and a record that came late.
LIVED = """
    INSERT INTO usage_subscription (external_id) SELECT 'line ' || generate_series(1, 20);
    INSERT INTO usage_datausagerecord (subscription_id, usage_date, price, kilobytes_used)
    SELECT id, now() - days * interval '1 day', 0.01 * id, id
    FROM usage_subscription, generate_series(0, 33) AS numbers (days);
"""
# Earlier releases took records above 2^32: the check that refuses them is NOT VALID.
LARGE = """
    ALTER TABLE usage_datausagerecord DROP CONSTRAINT usage_quantity_bound;
    INSERT INTO usage_datausagerecord (subscription_id, usage_date, price, kilobytes_used)
    SELECT 1, now() - days * interval '1 day', 1, 8589934592 FROM unnest(ARRAY[0, 12]) AS ago (days);
    ALTER TABLE usage_datausagerecord
    ADD CONSTRAINT usage_quantity_bound CHECK (kilobytes_used <= 4294967296) NOT VALID
"""
LATE = """
    INSERT INTO usage_voiceusagerecord (subscription_id, usage_date, price, seconds_used)
    SELECT id, now() - interval '9 days', 1, 60 FROM usage_subscription
"""
TOTALS = "SELECT md5(string_agg(usage_daily::text, ',' ORDER BY usage_daily)) FROM usage_daily"
CHECKED = (
    "SELECT pg_get_constraintdef(oid) FROM pg_constraint"
    " WHERE conname = 'usage_quantity_bound' AND conrelid = '{}'::regclass"
)
PERIODS = "SELECT md5(string_agg(t::text, ',' ORDER BY t)) FROM usage_period_total AS t"


def lines_of(section: str) -> list[str]:
    """The commands of a section: its indented lines."""
    return [
        line.strip()
        for line in SECTIONS[section].splitlines()
        if re.match(r" {4,}\S", line) and not line.strip()[0].isdigit()
    ]


def test_every_section_with_commands_is_run_here() -> None:
    with_commands = {section for section in SECTIONS if lines_of(section)}
    assert with_commands == {RESTORED, STATE, MISSING, UPGRADED, FAILOVER, LOGICAL}


class Servers:
    """Servers of our own by the names that the page gives them, and a shell that knows them."""

    def __init__(self, here: Path, account: Account | None, stack: ExitStack) -> None:
        self.here, self.account, self._stack = here, account, stack
        self.named: dict[str, PostgreSQL] = {}
        self.environment = {
            **os.environ,
            "REDIS_URL": settings.REDIS_URL,
            "DJANGO_PLAIN_HTTP": "1",
            "USAGE_OPEN_DAYS": "2",
            "DATABASE_REPLICA_URL": "",
            "DATABASE_DIRECT_URL": "",
        }

    def start(self, name: str, **parameters: str) -> PostgreSQL:
        """A new server of this name, with these parameters."""
        place = places.give(self.here / name, self.account)
        server = PostgreSQL(place, self.here / f"{name}.log", thrown_away=True)
        server.settings = {**server.settings, **parameters}
        return self.run(name, server)

    def run(self, name: str, server: PostgreSQL) -> PostgreSQL:
        """Start a server and know it by this name."""
        self._stack.callback(server.stop)
        server.start()
        self.named[name] = server
        return server

    def shell(self, *lines: str, server: str | None = None) -> str:
        """What the lines print, run one after the other as one script; each must exit as its
        comment says, with 0 if it says nothing."""
        programs = next(iter(self.named.values())).programs
        script = [
            "set -u -o pipefail",
            f'manage.py() {{ "{sys.executable}" "{ROOT}/manage.py" "$@"; }}',
        ]
        for line in lines:
            expected = 1 if "# exits 1" in line else 0
            script += [self._led(line), f'[ $? = {expected} ] || {{ echo "exits $?"; exit 9; }}']
        environment = {**self.environment, "PATH": f"{programs}:{os.environ['PATH']}"}
        if server is not None:
            environment["DATABASE_URL"] = self.named[server].url()
        done = subprocess.run(
            ["bash", "-c", "\n".join(script)],
            cwd=self.here,
            env=environment,
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
        )
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        for line in lines:
            if said := re.search(r"# exits 1: (.*)", line):
                assert said[1] in done.stdout + done.stderr
        return done.stdout

    def _led(self, line: str) -> str:
        """The line with the addresses of our servers."""
        for name, server in self.named.items():
            socket = quote(str(server.socket), safe="")
            line = re.sub(
                rf"postgresql://(\w+)@{name}/", rf"postgresql://\1@{socket}:{PORT}/", line
            )
            line = re.sub(rf"host={name}\b", f"host={server.socket} port={PORT}", line)
        return line

    def sql(self, name: str, statement: str) -> str:
        return self.shell(f"psql -qAtX postgresql://usage@{name}/usage -c {quoted(statement)}")

    def live(self, name: str) -> None:
        """Migrate the server and let it have sealed, open and late usage, all of it refreshed."""
        self.shell("manage.py migrate --verbosity 0", server=name)
        self.sql(name, LIVED)
        self.sql(name, LARGE)
        assert wait_until(lambda: self._is_sealed(name), seconds=60, what="days to be sealed")
        self.sql(name, LATE)
        self.shell("manage.py refresh_usage", "manage.py check_restore", server=name)

    def _is_sealed(self, name: str) -> bool:
        self.shell("manage.py refresh_usage", server=name)
        return self.sql(name, "SELECT sealed_before = fence_day FROM usage_state").strip() == "t"

    def totals(self, name: str) -> tuple[str, str]:
        return self.sql(name, TOTALS), self.sql(name, PERIODS)


def quoted(statement: str) -> str:
    return "'" + statement.replace("'", "'\\''") + "'"


@pytest.fixture
def servers() -> Iterator[Servers]:
    account = places.server_account()
    here = places.passing_place(account)
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, here, ignore_errors=True)
        yield Servers(here, account, stack)


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
    servers.shell("manage.py migrate --verbosity 0", server="new")
    servers.shell(
        "pg_restore --data-only --dbname=postgresql://usage@new/usage usage.dump     # exits 1",
        "manage.py check_restore     # exits 1: its row is not that of the dump",
        server="new",
    )
    servers.shell(*lines_of(STATE), server="new")
    assert servers.totals("new") == dumped


def test_raw_records_are_missing(servers: Servers, dumped: tuple[str, str]) -> None:
    """Fails when the page closes days that still have their raw records."""
    sealed = "SELECT count(*), sum(total_price) FROM usage_daily_sealed"
    raw = "SELECT count(*) FROM usage_datausagerecord"
    lost = "usage_day(usage_date) <= current_date - 11"
    before = servers.sql("old", sealed)
    servers.shell(*lines_of(RESTORED))
    # A write to a partition passes the triggers by.
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
    """To another directory of the same version: it has another system identifier then."""
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
    said = servers.shell(*lines_of(FAILOVER))
    assert "replica1 follows another timeline than the primary" in said
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
    # Refreshes go on: rows of every table are changed and deleted.
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
    """Wait until the new server has all of the old one."""
    for table in ("usage_state", "usage_late_key", "usage_period_total", "usage_refreshrun"):
        rows = f"SELECT count(*), md5(string_agg(t::text, ',' ORDER BY t)) FROM {table} AS t"

        def is_same(rows: str = rows) -> bool:
            return servers.sql("new", rows) == servers.sql("old", rows)

        wait_until(is_same, seconds=60, what=f"{table} to be replicated")
