"""Faults that a restore may leave: check_restore finds them, and no total is wrong meanwhile."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from uuid import uuid4

import pytest
from django.conf import LazySettings
from django.core.checks import CheckMessage, Tags, run_checks
from django.core.management import CommandError, call_command
from django.db import connection, transaction

from tests.connections import ask, run_sql, second_session
from tests.exact import periods_of, plain_totals, stored_periods, totals_of
from tests.factories import (
    data_record,
    make_subscription,
    refresh_and_seal,
    refresh_totals,
    voice_record,
)
from tests.processes import database_url, scratch_database
from tests.refresh_steps import after
from tests.restoring import connected_to, dump, restored, run_program
from usage.errors import (
    LateKeysChangedError,
    RefreshFailedError,
    RefreshPausedError,
    TooManyRemovalsError,
)
from usage.management.commands import usage_status
from usage.models import LateKeysMode, RefreshRun, Subscription, UsageState
from usage.services.audit.restores import check_restore
from usage.services.audit.verification import rebuild, verify
from usage.services.steps import Step
from usage.services.totals import placement, sealing
from usage.services.totals.late_keys_switch import switch
from usage.services.totals.pause import pause, resume
from usage.services.totals.refresh import refresh
from usage.services.totals.removals import Removals, removals
from usage.services.totals.retention import prune

pytestmark = [
    pytest.mark.usefixtures("only_default_partitions"),
    pytest.mark.one_server("a dump is of one server"),
]

SEQUENCES = ("SEQUENCE SET public usage_logging_before", "SEQUENCE SET public usage_raw_kept_from")
RAW = (
    "TABLE DATA public usage_datausagerecord_default",
    "TABLE DATA public usage_voiceusagerecord_default",
)
INSERT = "INSERT INTO usage_datausagerecord (subscription_id, usage_date, price, kilobytes_used)"
OLD, NEW = date(2026, 11, 1), date(2026, 11, 2)


@pytest.fixture
def lived(set_today: Callable[[str], None]) -> Callable[[str], None]:
    """Make two sealed and two open days, with records of three subscriptions in both types."""
    subscriptions = [make_subscription(id=pk) for pk in (1, 2, 3)]
    run_sql("SELECT setval('usage_subscription_id_seq', 3)")
    for day in ("2026-11-01", "2026-11-02", "2026-11-03", "2026-11-04"):
        for subscription in subscriptions:
            data_record(subscription, f"{day}T12:00:00Z", "1.25", 10)
            voice_record(subscription, f"{day}T13:00:00Z", "2", 60)
    set_today("2026-11-04")
    refresh_and_seal()
    assert check_restore() == []
    return set_today


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "usage.dump"


def assert_exact() -> None:
    expected = plain_totals()
    assert totals_of("usage_daily") == expected
    assert stored_periods() == periods_of(expected)


def problems() -> str:
    return "\n".join(found.problem for found in check_restore())


def failure() -> str:
    """Return why a refresh fails."""
    with pytest.raises(RefreshFailedError):
        refresh(trigger=RefreshRun.Trigger.COMMAND)
    return RefreshRun.objects.latest("pk").error


def test_a_whole_restore_leaves_one_refresh_to_do(lived: Callable[[str], None], path: Path) -> None:
    with restored(dump(path)):
        assert problems() == "No refresh has run since this database came here."
        refresh_totals()
        assert problems() == ""
        assert_exact()


def test_missing_turns_of_imports_are_found_and_made(lived: Callable[[str], None]) -> None:
    run_sql("DELETE FROM usage_import_turn WHERE slot > 2")
    [finding] = check_restore()
    assert finding.problem.startswith("usage_import_turn has 3 of 1024 rows")
    run_sql(finding.step)
    assert check_restore() == []


# Raw records


def test_repair_keeps_the_totals_of_days_whose_raw_records_were_not_restored(
    lived: Callable[[str], None], path: Path
) -> None:
    """Fails when a repair removes all totals of a day by itself."""
    before = totals_of("usage_daily_sealed")
    with restored(dump(path), *RAW):
        assert "2026-11-01 (6 totals), 2026-11-02 (6 totals)" in problems()
        report = verify(repair=True)
        assert (report.differing, report.repaired) == (12, False)
        assert [str(found) for found in report.withheld] == [
            f"{day}: 6 of 6 totals have no raw record; the day has no raw record at all"
            for day in (OLD, NEW)
        ]
        assert totals_of("usage_daily_sealed") == before
        with pytest.raises(CommandError, match="2 days have too few raw records"):
            call_command("verify_usage", repair=True)
        with pytest.raises(TooManyRemovalsError, match="2026-11-01: 6 of 6 totals"):
            rebuild(from_date=OLD, to_date=NEW)
        assert totals_of("usage_daily_sealed") == before
        announced: list[Removals] = []
        assert verify(repair=True, remove=True, announce=announced.append).repaired
        assert [found.removed for found in announced] == [6, 6]
        assert totals_of("usage_daily_sealed") == []


def test_days_without_raw_records_can_be_closed_with_their_totals(
    lived: Callable[[str], None], path: Path
) -> None:
    """This is the step that check_restore prints. Fails when closed days are compared or computed
    again."""
    before = totals_of("usage_daily_sealed")
    with restored(dump(path), *RAW):
        [finding] = [found for found in check_restore() if "Raw records" in found.problem]
        assert "set raw_kept_from in usage_state to '2026-11-03'" in finding.step
        run_sql("UPDATE usage_state SET raw_kept_from = '2026-11-03'")
        refresh_totals()
        assert problems() == ""
        assert verify(repair=True).differing == 0
        assert totals_of("usage_daily_sealed") == before


def test_days_without_raw_records_are_not_opened_by_a_switch(
    lived: Callable[[str], None], path: Path, settings: LazySettings
) -> None:
    """Fails when a switch to a window computes their totals from the missing records."""
    with restored(dump(path), *RAW):
        settings.USAGE_LATE_KEYS = LateKeysMode.WINDOW
        with pytest.raises(LateKeysChangedError, match="2 sealed days have totals and no raw"):
            switch()


def test_repair_removes_a_hundredth_of_a_day_and_no_more(set_today: Callable[[str], None]) -> None:
    """Fails when there is no limit, or when it also counts totals that a late key explains."""
    run_sql("INSERT INTO usage_subscription (external_id) SELECT generate_series(1, 200)")
    for hour in (1, 2):
        run_sql(f"{INSERT} SELECT id, '2026-11-01 0{hour}:00Z', 1, 1 FROM usage_subscription")
    set_today("2026-11-04")
    refresh_and_seal()
    ids = list(Subscription.objects.order_by("pk").values_list("pk", flat=True))

    def lose(count: int) -> None:
        """Delete records without the triggers."""
        run_sql(
            "DELETE FROM usage_datausagerecord_default WHERE subscription_id = ANY(%s)",
            [ids[:count]],
        )

    lose(2)
    found = removals(OLD)
    assert (found.totals, found.removed, found.are_too_many) == (200, 2, False)
    assert verify(repair=True).repaired
    assert len(totals_of("usage_daily_sealed")) == 198
    lose(5)
    assert removals(OLD).are_too_many
    assert not verify(repair=True).repaired
    assert len(totals_of("usage_daily_sealed")) == 198
    # The limit does not apply to a DELETE that the triggers logged.
    run_sql("DELETE FROM usage_datausagerecord WHERE subscription_id = ANY(%s)", [ids[5:50]])
    assert removals(OLD).removed == 3
    refresh_totals()
    assert len(totals_of("usage_daily_sealed")) == 153


# Sequences


@pytest.mark.parametrize("left_out", [SEQUENCES, SEQUENCES[:1]])
def test_pending_fence_without_its_sequence_is_drawn_anew(
    lived: Callable[[str], None], path: Path, left_out: tuple[str, ...]
) -> None:
    """Fails when the fence day is sealed while triggers do not log it: the records of a writer that
    began after the restore, and commits after the seal, would be lost."""
    lived("2026-11-05")
    with second_session() as old_writer:
        ask(old_writer, f"{INSERT} VALUES (1, '2026-11-05Z', 1, 1)")
        sealing.announce_days()
        state = UsageState.objects.get()
        assert (state.fence_day, state.sealed_before) == (date(2026, 11, 4), date(2026, 11, 3))
        dump(path)
    with restored(path, *left_out) as name:
        assert "usage_logging_before has not reached 2026-11-04" in problems()
        with second_session(dbname=name) as writer:
            ask(writer, f"{INSERT} VALUES (2, '2026-11-03 18:00Z', 7, 7)")
            run = refresh_totals()
            assert "usage_logging_before" in run.remark
            assert "The next refreshes audit the sealed days" in run.remark
            assert UsageState.objects.get().sealed_before == date(2026, 11, 3)
            writer.commit()
        refresh_and_seal()
        assert UsageState.objects.get().sealed_before == date(2026, 11, 4)
        run_sql(f"{INSERT} VALUES (3, '2026-11-03 19:00Z', 9, 9)")
        assert refresh_totals().remark == ""
        assert problems() == ""
        assert_exact()


def test_refresh_interrupted_between_sequence_and_fence_leaves_no_fence(
    lived: Callable[[str], None],
) -> None:
    """Fails when sequences move before the earlier fence is removed."""
    lived("2026-11-05")
    with second_session() as holder:
        ask(holder, "SELECT pg_current_xact_id()")
        sealing.announce_days()
    run_sql("ALTER SEQUENCE usage_logging_before RESTART")

    def cut_off() -> None:
        raise KeyboardInterrupt

    with second_session() as writer:
        ask(writer, f"{INSERT} VALUES (2, '2026-11-03 18:00Z', 7, 7)")
        with after(Step.SEQUENCES_MOVED, cut_off), pytest.raises(KeyboardInterrupt):
            refresh_totals()
        RefreshRun.objects.all().delete()
        refresh_totals()
        assert UsageState.objects.get().sealed_before == date(2026, 11, 3)
        writer.commit()
    refresh_and_seal()
    assert_exact()


def test_closed_days_refuse_records_after_the_first_refresh(
    lived: Callable[[str], None], path: Path
) -> None:
    """Fails when usage_raw_kept_from stays behind raw_kept_from."""
    run_sql("UPDATE usage_state SET raw_kept_from = '2026-11-02'")
    refresh_totals()
    with restored(dump(path), *SEQUENCES):
        assert "usage_raw_kept_from has not reached 2026-11-02" in problems()
        refresh_totals()
        with pytest.raises(Exception, match="the day 2026-11-01 is closed"):
            run_sql(f"{INSERT} VALUES (1, '2026-11-01 18:00Z', 7, 7)")


# Months


def test_months_are_right_after_the_first_refresh_of_a_restore_without_them(
    lived: Callable[[str], None], path: Path
) -> None:
    """Fails when a refresh only adds changes to a table that was restored without its rows."""
    with restored(dump(path), "TABLE DATA public usage_period_total"):
        assert "Totals of months differ from the daily totals." in problems()
        data_record(Subscription.objects.get(id=1), "2026-11-04T15:00:00Z", "1", 1)
        assert ": 12 were wrong or missing" in refresh_totals().remark
        assert problems() == ""
        assert_exact()
        assert "added up again" not in refresh_totals().remark


def test_months_are_compared_once_if_their_table_is_another_file(
    lived: Callable[[str], None], path: Path
) -> None:
    """Fails when single wrong rows after a restore are not found, and when a manual TRUNCATE is not
    found."""
    dump(path)
    with restored(path):
        run_sql("UPDATE usage_period_total SET total_price = 9 WHERE usage_type = 'data'")
        assert ": 6 were wrong or missing" in refresh_totals().remark
        assert_exact()
        run_sql("TRUNCATE usage_period_total")
        assert "months were missing" in refresh_totals().remark
        assert_exact()


# The state


@pytest.mark.parametrize("open_days", [None, 2])
def test_overlapping_halves_are_refused_and_mended_as_check_restore_says(
    lived: Callable[[str], None], path: Path, settings: LazySettings, open_days: int | None
) -> None:
    """A restore of data alone into a migrated database cannot replace the row of state. Fails when
    a refresh publishes days twice, or fails only with a duplicate key."""
    dump(path)
    settings.USAGE_OPEN_DAYS = open_days
    with scratch_database() as name, connected_to(name):
        call_command("migrate", verbosity=0)
        target = f"--dbname={database_url(name)}"
        run_program("pg_restore", "--data-only", target, path, exits=1)
        assert "usage_daily_sealed holds totals of 2026-11-0" in failure()
        with pytest.raises(RefreshFailedError, match=r"Run: manage\.py check_restore"):
            verify()
        first = check_restore()[0]
        assert "its row is not that of the dump" in first.problem
        assert "DELETE FROM usage_state; then pg_restore --data-only --table=usage_state" in (
            first.step
        )
        run_sql("DELETE FROM usage_state")
        tables = ("usage_state", "usage_logging_before", "usage_raw_kept_from")
        options = [f"--table={table}" for table in tables]
        run_program("pg_restore", "--data-only", *options, target, path)
        refresh_totals()
        assert problems() == ""
        assert_exact()


def test_verify_compares_what_readers_read(lived: Callable[[str], None]) -> None:
    """Fails when sealed and open totals are compared separately: each of them is right here, but
    readers get their sum."""
    run_sql("CREATE TABLE sealed_once AS SELECT * FROM usage_daily_sealed WHERE day = '2026-11-02'")
    try:
        run_sql("DELETE FROM usage_daily_sealed WHERE day = '2026-11-02'")
        run_sql("UPDATE usage_state SET sealed_before = '2026-11-02', open_digest = NULL")
        run_sql("REFRESH MATERIALIZED VIEW usage_daily_open")
        run_sql("INSERT INTO usage_daily_sealed SELECT * FROM sealed_once")
        run_sql("UPDATE usage_state SET sealed_before = '2026-11-03'")
        report = verify()
        assert report.differing == 6
        assert (report.differences[0].day, report.differences[0].record_count) == (NEW, 2)
    finally:
        run_sql("DROP TABLE sealed_once")


@pytest.mark.parametrize("has_statistics", [False, True])
def test_misplaced_totals_are_found_through_the_index(
    lived: Callable[[str], None], has_statistics: bool
) -> None:
    """Fails when a refresh reads all sealed totals to find a misplaced one."""
    run_sql(
        "INSERT INTO usage_daily_sealed SELECT number, date '2026-10-01' + number / 1000, 'data',"
        " 1, 1, 1, now() FROM generate_series(10, 30000) AS numbers (number)"
    )
    if has_statistics:
        run_sql("ANALYZE usage_daily_sealed")
    with transaction.atomic():
        placement.set_other_plans("off")
        plan = "\n".join(
            line for (line,) in run_sql(f"EXPLAIN {placement.SEALED_FROM}", [date(2026, 11, 3)])
        )
    assert "usage_daily_sealed_day" in plan


# Schemas


def test_triggers_of_a_renamed_schema_stop_the_refresh_and_are_corrected(
    lived: Callable[[str], None], path: Path
) -> None:
    """A copy has the old name of the schema, as after a restore for inspection. Fails when late
    keys are logged in the copy without an error."""
    dump(path)
    with restored(path) as name:
        run_sql("ALTER SCHEMA public RENAME TO live")
        run_sql("CREATE SCHEMA public")
        run_program(
            "pg_restore",
            *("--no-owner", "--schema=public", f"--dbname={database_url(name)}", path),
        )
        run_sql(f"ALTER DATABASE {name} SET search_path = live")
        with connected_to(name):
            run_sql(f"{INSERT} VALUES (1, '2026-11-01 18:00Z', 7, 7)")
            assert run_sql("SELECT count(*) FROM public.usage_late_key") == [(1,)]
            statement = "ALTER FUNCTION usage_log_late_keys() SET search_path = live, pg_temp"
            assert f"Run: {statement}; then: manage.py verify_usage --repair" in failure()
            [warning] = [found for found in checks() if found.id == "usage.W010"]
            assert statement in (warning.hint or "")
            run_sql(statement)
            assert verify(repair=True).repaired
            run_sql(f"{INSERT} VALUES (1, '2026-11-01 19:00Z', 8, 8)")
            refresh_totals()
            assert problems() == ""
            assert_exact()


def checks() -> list[CheckMessage]:
    return run_checks(databases=["default"], tags=[Tags.database])


# Privileges, owners and keys


def test_functions_of_the_owner_are_revoked_from_public(
    lived: Callable[[str], None], path: Path
) -> None:
    """A restore without privileges has both missing and surplus ones. Fails when only missing ones
    are found: everybody may then attach the function that writes to the log."""
    dump(path)
    with restored(path, options=("-x",)):
        revoked = [
            f"REVOKE EXECUTE ON FUNCTION {name} FROM public"
            for name in ("usage_close_days(date)", "usage_log_late_keys()")
        ]
        assert [found.hint for found in checks() if found.id == "usage.W009"] == [
            f"Run: {statement}; or: manage.py migrate" for statement in revoked
        ]
        assert revoked[0] in problems()
        call_command("migrate", verbosity=0)
        assert [found.id for found in checks() if found.id == "usage.W009"] == []
        refresh_totals()
        assert problems() == ""


def test_sequences_that_would_repeat_a_key_are_named(
    lived: Callable[[str], None], path: Path
) -> None:
    """A subscriber of logical replication has such sequences. Fails when a command ends in a
    traceback, or when the step that check_restore prints does not mend them."""
    refresh_totals()
    dump(path)
    with restored(path, "SEQUENCE SET public usage_refreshrun_id_seq"):
        run_sql("UPDATE usage_refreshrun SET id = -id")
        first = "(SELECT min(id) FROM usage_refreshrun)"
        run_sql(f"UPDATE usage_refreshrun SET id = id - {first} + 1")
        with pytest.raises(CommandError) as caught:
            call_command("refresh_usage")
        assert "A sequence is behind its table: duplicate key value" in str(caught.value)
        assert "Run: manage.py check_restore" in str(caught.value)
        [finding] = [found for found in check_restore() if "refused as a dup" in found.problem]
        run_sql(finding.step)
        call_command("refresh_usage")
        assert problems() == ""


def test_a_restore_that_belongs_to_another_role_is_one_line(
    lived: Callable[[str], None], path: Path
) -> None:
    """Fails when a command ends in a traceback."""
    dump(path)
    with restored(path) as name, role_that_logs_in() as role, as_role(role, name):
        for command in ("refresh_usage", "usage_status", "check_restore"):
            with pytest.raises(CommandError) as caught:
                call_command(command)
            assert "permission denied for" in str(caught.value)
            assert "pg_restore --no-owner --role=ROLE" in str(caught.value)


@contextmanager
def role_that_logs_in() -> Iterator[str]:
    """Make a role without any privilege, and drop it at the end."""
    name = f"test_usage_stranger_{uuid4().hex[:8]}"
    with second_session(autocommit=True) as session:
        ask(session, f"CREATE ROLE {name} LOGIN")
        try:
            yield name
        finally:
            ask(session, f"DROP ROLE {name}")


@contextmanager
def as_role(role: str, database: str) -> Iterator[None]:
    """Let Django log in as this role."""
    own = connection.settings_dict["USER"]
    connection.settings_dict["USER"] = role
    try:
        with connected_to(database):
            yield
    finally:
        connection.settings_dict["USER"] = own


# Logical replication


def test_every_table_can_be_published(lived: Callable[[str], None]) -> None:
    """Fails when a table from which rows are deleted has no replica identity: every refresh then
    fails under a publication of all tables."""
    without = run_sql(
        "SELECT relname FROM pg_class"
        " WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace"
        " AND relreplident <> 'f' AND NOT EXISTS ("
        "SELECT FROM pg_index WHERE indrelid = pg_class.oid AND (indisprimary OR indisreplident))"
    )
    assert without == []


# Pauses and limits


def test_a_prune_while_paused_changes_nothing(lived: Callable[[str], None]) -> None:
    """Fails when the prune closes days before it notices the pause."""
    lived("2026-11-07")
    refresh_and_seal()
    pause()
    before = run_sql("SELECT last_value FROM usage_raw_kept_from")
    with pytest.raises(RefreshPausedError, match=r"Nothing was changed\. Run: manage\.py resume"):
        prune()
    assert run_sql("SELECT last_value FROM usage_raw_kept_from") == before
    run_sql(f"{INSERT} VALUES (1, '2026-11-02 18:00Z', 7, 7)")
    resume()
    prune()
    assert run_sql("SELECT last_value FROM usage_raw_kept_from") > before


def test_a_transaction_timeout_of_the_role_does_not_end_a_refresh(
    lived: Callable[[str], None],
) -> None:
    """Fails when the refresh does not lift the limit: the server then ends its session."""
    if run_sql("SELECT current_setting('server_version_num')::int < 170000") == [(True,)]:
        pytest.skip("transaction_timeout came with PostgreSQL 17")
    run_sql("SET transaction_timeout = '1s'")
    with after(Step.STATE_READ, lambda: run_sql("SELECT pg_sleep(1.5)")):
        refresh_totals()


def test_a_command_names_the_transaction_timeout_that_ended_it(
    lived: Callable[[str], None], path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when a command only reports that the database is unavailable."""
    if run_sql("SELECT current_setting('server_version_num')::int < 170000") == [(True,)]:
        pytest.skip("transaction_timeout came with PostgreSQL 17")
    monkeypatch.setattr(usage_status, "read_status", lambda: run_sql("SELECT pg_sleep(2)"))
    with restored(dump(path)) as name:
        run_sql(f"ALTER DATABASE {name} SET transaction_timeout = '500ms'")
        connection.close()
        with pytest.raises(CommandError, match=r"is 500ms, .* SET transaction_timeout = 0"):
            call_command("usage_status")


def test_usage_types_that_a_restore_left_out_are_named(lived: Callable[[str], None]) -> None:
    """Fails when an empty table counts as data and voice: checks that read it find no fault."""
    run_sql("DELETE FROM usage_type")
    for name in ("data", "voice"):
        finding = check_restore()[0]
        assert f"The usage type {name} is not the same" in finding.problem
        assert finding.problem in [
            message.msg for message in run_checks(tags=[Tags.database], databases=["default"])
        ]
        run_sql(finding.step)
    assert check_restore() == []
