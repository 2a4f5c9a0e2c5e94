"""Dumps of the test database, restored whole or in part into another database of its server."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from django.db import connection

from bin import programs
from tests.processes import database_url, scratch_database


def run_program(name: str, *arguments: object, exits: int = 0) -> str:
    """Run a program of PostgreSQL and return its output; fail on another exit code."""
    place = Path(os.devnull).parent
    directory = programs.postgres_programs(place, None)
    done = subprocess.run(
        [directory / name, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == exits, f"{name} exits {done.returncode}: {done.stderr}"
    return done.stdout


def dump(path: Path) -> Path:
    """Dump the database that Django is connected to, in the custom format."""
    run_program("pg_dump", "--format=custom", f"--file={path}", database_url())
    return path


@contextmanager
def restored(path: Path, *left_out: str, options: tuple[str, ...] = ()) -> Iterator[str]:
    """Connect Django to a new database with the dump, without the entries whose line in the table
    of contents has one of the texts in `left_out`."""
    with scratch_database() as name:
        lines = run_program("pg_restore", "--list", path).splitlines()
        contents = path.with_suffix(".list")
        kept = [line for line in lines if not any(text in line for text in left_out)]
        assert len(kept) == len(lines) - len(left_out), left_out
        contents.write_text("\n".join(kept))
        run_program(
            "pg_restore",
            *("--no-owner", "--exit-on-error", f"--use-list={contents}", *options),
            *(f"--dbname={database_url(name)}", path),
        )
        with connected_to(name):
            yield name


@contextmanager
def connected_to(name: str) -> Iterator[None]:
    """Connect Django to this database of the server, then to its own again."""
    own = connection.settings_dict["NAME"]
    connection.close()
    connection.settings_dict["NAME"] = name
    try:
        yield
    finally:
        connection.close()
        connection.settings_dict["NAME"] = own
