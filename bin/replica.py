"""A streaming replica of a PostgreSQL server of our own."""

from pathlib import Path

from bin.embedded import PORT, SUPERUSER, PostgreSQL

# As docs/scaling.md advises, but quicker to tell the primary what is still being read here.
SETTINGS = """
hot_standby_feedback = on
wal_receiver_status_interval = 1s
"""


class Replica(PostgreSQL):
    """Copies its primary, which must run on this machine, and follows it; it takes reads alone."""

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
        # Not by the command line, so that ALTER SYSTEM may change them.
        with (self.data / "postgresql.conf").open("a") as configuration:
            configuration.write(SETTINGS)

    def _make_roles(self) -> None:
        """Those of the primary are here."""
