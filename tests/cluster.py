"""A primary and two streaming replicas, to which Django connects while the cluster is in use."""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import dj_database_url
from django.core.management import call_command
from django.db import connections

from bin import place as places
from bin import spawn
from bin.embedded import PostgreSQL
from bin.replica import Replica
from tests.connections import ask, wait_until
from usage.database import routing

NAMES = ("replica1", "replica2")


@dataclass(frozen=True)
class Cluster:
    """The servers, by their names in Django's settings."""

    primary: PostgreSQL
    replicas: dict[str, Replica]

    def ask(self, name: str, statement: str) -> object:
        """Run a statement as superuser; return the first value of its first row, or None."""
        server = self.primary if name == routing.PRIMARY else self.replicas[name]
        with closing(server.connect("usage")) as session:
            rows = ask(session, statement)
        return rows[0][0] if rows else None

    def catch_up(self, *names: str) -> None:
        """Return once the replicas have replayed everything that is committed now."""
        committed = self.ask(routing.PRIMARY, "SELECT pg_current_wal_insert_lsn()")
        replayed = f"SELECT pg_last_wal_replay_lsn() >= '{committed}'"
        for name in names or NAMES:
            wait_until(partial(self.ask, name, replayed), seconds=60, what=f"{name} to catch up")

    @contextmanager
    def paused(self, *names: str) -> Iterator[None]:
        """Pause the replay of these replicas while the primary goes on."""
        self.catch_up(*names)
        for name in names:
            self.ask(name, "SELECT pg_wal_replay_pause()")
            is_paused = "SELECT pg_get_wal_replay_pause_state() = 'paused'"
            wait_until(partial(self.ask, name, is_paused), what=f"{name} to pause")
        try:
            yield
        finally:
            for name in names:
                self.ask(name, "SELECT pg_wal_replay_resume()")
            self.catch_up(*names)


def kill(server: PostgreSQL) -> None:
    """End the server with SIGKILL, as a power cut would."""
    assert server.process is not None
    spawn.end(server.process)


@contextmanager
def started_cluster() -> Iterator[Cluster]:
    """Yield a migrated cluster that has caught up; then reconnect Django to its own server."""
    account = places.server_account()
    here = places.passing_place(account)
    ours = dict(connections.settings[routing.PRIMARY])
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, here)
        stack.callback(_reconnect, ours)

        def start(server: PostgreSQL, name: str) -> None:
            stack.callback(server.stop)
            server.start()
            lead(name, server)

        primary = PostgreSQL(places.give(here / "0", account), here / "0.log", thrown_away=True)
        start(primary, routing.PRIMARY)
        call_command("migrate", verbosity=0)
        replicas = {}
        for name in NAMES:
            place = places.give(here / name[-1], account)
            replicas[name] = Replica(place, here / f"{name}.log", primary)
            start(replicas[name], name)
        cluster = Cluster(primary, replicas)
        cluster.catch_up()
        yield cluster


def _reconnect(ours: dict[str, Any]) -> None:
    for name in NAMES:
        if name in connections.settings:
            connections[name].close()
            del connections[name], connections.settings[name]
    connections[routing.PRIMARY].close()
    connections.settings[routing.PRIMARY].update(ours)


def lead(name: str, server: PostgreSQL) -> None:
    """Connect this name in Django's settings to the server."""
    address = dj_database_url.parse(server.url(), conn_max_age=None)
    if name in connections.settings:
        connections[name].close()
        connections.settings[name].update(address)
    else:
        connections.settings[name] = connections.settings[routing.PRIMARY] | address
