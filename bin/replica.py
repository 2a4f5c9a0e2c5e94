"""A streaming replica of an embedded PostgreSQL server, for tests and benchmarks."""

from pathlib import Path

from bin.embedded import PORT, SUPERUSER, PostgreSQL

# docs/scaling.md advises the first. The second makes the feedback reach the primary sooner.
SETTINGS = """
hot_standby_feedback = on
wal_receiver_status_interval = 1s
"""


class Replica(PostgreSQL):
    """A read-only server that copies a running primary on this machine and follows it."""

    def __init__(self, place: Path, log: Path, primary: PostgreSQL) -> None:
        super().__init__(place, log)
        self.primary = primary
        self.settings = primary.settings

    def _make_data(self) -> None:
        command = [
            *(str(self.programs / "pg_basebackup"), "--pgdata", str(self.data)),
            *("--host", str(self.primary.socket), "--port", str(PORT), "--username", SUPERUSER),
            *("--write-recovery-conf", "--checkpoint=fast", "--no-password", "--no-sync"),
        ]
        self._run(command, self.data.parent)
        # In this file, because ALTER SYSTEM cannot override settings of the command line.
        with (self.data / "postgresql.conf").open("a") as configuration:
            configuration.write(SETTINGS)

    def _make_roles(self) -> None:
        """Do nothing: the copy has the roles of the primary."""
