"""Imports and builds of indexes take turns by locks of their own, and name the holder of one."""

import hashlib
import re
from pathlib import Path

import pytest
from psycopg2.extensions import connection as Connection  # noqa: N812 - a class, so named

from tests.connections import ask, in_thread, run_sql, second_session, wait_until
from tests.usage.importing import imported, write_records
from usage.errors import ImportFileError
from usage.services.imports import turns
from usage.services.totals import indexes

pytestmark = pytest.mark.usefixtures("only_default_partitions")

LINE = "data,a,2026-11-15T21:00:00Z,1,512,k1"


def test_advisory_locks_of_others_delay_no_import(tmp_path: Path) -> None:
    """Fails when an import or a build uses an advisory lock, which any login may take."""
    path = write_records(tmp_path / "usage.csv", LINE)
    with second_session(autocommit=True) as analyst:
        of_source = int.from_bytes(
            hashlib.sha1(b"a", usedforsecurity=False).digest()[:8], signed=True
        )
        ask(analyst, "SELECT pg_advisory_lock(%s)", [of_source])
        ask(analyst, "SELECT pg_advisory_lock(%s)", [int.from_bytes(b"indexes")])
        assert imported(path, source="a").added == 1
        with indexes._session_for_builds() as is_alone:
            assert is_alone


@pytest.mark.parametrize("prepared", [False, True])
def test_an_import_that_waits_too_long_names_the_holder_of_its_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, prepared: bool
) -> None:
    monkeypatch.setattr(turns, "WAIT_SECONDS", 0.2)
    path = write_records(tmp_path / "usage.csv", LINE)
    with second_session(autocommit=True) as holder:
        process_id = holder.info.backend_pid
        ask(holder, "BEGIN")
        slot = turns.slot_of("a")
        ask(holder, "UPDATE usage_import_turn SET taken_at = now() WHERE slot = %s", [slot])
        if prepared:
            ask(holder, "PREPARE TRANSACTION 'an import'")
        try:
            with pytest.raises(ImportFileError) as error:
                imported(path, source="a")
            # The import of another source does not wait.
            assert imported(path, source="b").added == 1
        finally:
            ask(holder, "ROLLBACK PREPARED 'an import'" if prepared else "ROLLBACK")
    assert "did not finish a batch within 0.2 s" in str(error.value)
    pid = f"process {process_id} of "
    assert ("prepared transaction 'an import'" if prepared else pid) in str(error.value)
    assert imported(path, source="a").added == 1


def test_import_without_a_row_for_its_turn_says_how_to_make_the_rows(tmp_path: Path) -> None:
    """Fails when an import goes on without a turn after a restore left the rows out."""
    path = write_records(tmp_path / "usage.csv", LINE)
    insert = "INSERT INTO usage_import_turn (slot) SELECT generate_series(0, 1023)"
    run_sql("DELETE FROM usage_import_turn")
    try:
        with pytest.raises(ImportFileError, match=re.escape(insert)):
            imported(path, source="a")
    finally:
        run_sql(f"{insert} ON CONFLICT DO NOTHING")
    assert run_sql("SELECT count(*) FROM usage_import_turn") == [(1024,)]
    assert imported(path, source="a").added == 1


def test_imports_of_one_source_wait_for_each_other(tmp_path: Path) -> None:
    path = write_records(tmp_path / "usage.csv", LINE)
    with second_session() as first, second_session(autocommit=True) as watcher:
        slot = turns.slot_of("a")
        ask(first, "UPDATE usage_import_turn SET taken_at = now() WHERE slot = %s", [slot])
        with in_thread(lambda: imported(path, source="a")) as second:
            try:
                _until_waiting(watcher)
            except AssertionError:
                first.rollback()
                raise
            is_done = second.done()
            first.commit()
            assert not is_done
            assert second.result().added == 1
    # The lock_timeout of the turn does not apply to later statements.
    assert run_sql("SHOW lock_timeout") == [("0",)]


def _until_waiting(watcher: Connection) -> None:
    wait_until(
        lambda: ask(
            watcher,
            "SELECT pid FROM pg_stat_activity WHERE query LIKE 'UPDATE usage_import_turn%'"
            " AND wait_event_type = 'Lock'",
        ),
        what="the second import to wait",
    )


def _is_alone() -> bool:
    with indexes._session_for_builds() as is_alone:
        return is_alone


def test_a_build_leaves_another_alone_and_names_it(caplog: pytest.LogCaptureFixture) -> None:
    take = (
        "UPDATE usage_index_care SET pid = pg_backend_pid(), backend_start ="
        " (SELECT backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid())"
    )
    with second_session(autocommit=True) as other:
        ask(other, take)
        with indexes._session_for_builds() as is_alone:
            assert not is_alone
        assert f"process {other.info.backend_pid} of " in caplog.text
    # The lock ends with its session, without a cleanup.
    wait_until(_is_alone, what="the server to end the other session")
    assert run_sql("SELECT pid, backend_start FROM usage_index_care") == [(None, None)]
