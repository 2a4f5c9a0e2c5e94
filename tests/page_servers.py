"""Servers by the names on a page, and a shell that runs the lines of the page on them."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import quote

from django.conf import settings

from bin import place as places
from bin.embedded import PORT, PostgreSQL
from bin.spawn import Account
from tests.connections import wait_until
from tests.processes import ROOT

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
    SELECT 1, now() - days * interval '1 day', 1, 8589934592
    FROM unnest(ARRAY[0, 12]) AS ago (days);
    ALTER TABLE usage_datausagerecord
    ADD CONSTRAINT usage_quantity_bound CHECK (kilobytes_used <= 4294967296) NOT VALID
"""
LATE = """
    INSERT INTO usage_voiceusagerecord (subscription_id, usage_date, price, seconds_used)
    SELECT id, now() - interval '9 days', 1, 60 FROM usage_subscription
"""
TOTALS = "SELECT md5(string_agg(usage_daily::text, ',' ORDER BY usage_daily)) FROM usage_daily"
PERIODS = "SELECT md5(string_agg(t::text, ',' ORDER BY t)) FROM usage_period_total AS t"


def sections_of(page: str) -> dict[str, str]:
    """Return the sections of docs/PAGE.md by their headings."""
    text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    parts = re.split(r"^#+ ", text, flags=re.MULTILINE)[1:]
    return {part.partition("\n")[0]: part for part in parts}


def lines_of(section: str) -> list[str]:
    """Return the commands of a section: its indented lines."""
    return [
        line.strip()
        for line in section.splitlines()
        if re.match(r" {4,}\S", line) and not line.strip()[0].isdigit()
    ]


class Servers:
    """Throw-away servers by the names on the page, and a shell that resolves these names."""

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
        """Start a new server of this name, with these parameters."""
        place = places.give(self.here / name, self.account)
        server = PostgreSQL(place, self.here / f"{name}.log", thrown_away=True)
        server.settings = {**server.settings, **parameters}
        return self.run(name, server)

    def run(self, name: str, server: PostgreSQL) -> PostgreSQL:
        """Start a server and register it by this name."""
        self._stack.callback(server.stop)
        server.start()
        self.named[name] = server
        return server

    def shell(self, *lines: str, server: str | None = None) -> str:
        """Run the lines as one script and return its output. A line with the comment "# exits 1"
        must exit with 1 and print the text behind the colon; each other line must exit with 0."""
        programs = next(iter(self.named.values())).programs
        script = [
            "set -u -o pipefail",
            f'manage.py() {{ "{sys.executable}" "{ROOT}/manage.py" "$@"; }}',
        ]
        for line in lines:
            expected = 1 if "# exits 1" in line else 0
            script += [
                self._resolved(line),
                f'[ $? = {expected} ] || {{ echo "exits $?"; exit 9; }}',
            ]
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

    def _resolved(self, line: str) -> str:
        """Return the line with the addresses of the servers in place of their names."""
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
        """Migrate the server and give it sealed, open and late usage, all of it refreshed."""
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


@contextmanager
def page_servers() -> Iterator[Servers]:
    """Yield an empty set of servers, and stop all that the test starts."""
    account = places.server_account()
    here = places.passing_place(account)
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, here, ignore_errors=True)
        yield Servers(here, account, stack)
