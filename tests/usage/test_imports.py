"""Importing records: what is stored, what is known already, what a second run adds."""

import os
import time
import uuid
from datetime import date
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from tests.connections import in_thread, run_sql, second_session, wait_until
from tests.factories import data_record, make_subscription
from tests.usage.importing import (
    counts,
    finished,
    imported,
    many_records,
    start_command,
    start_python,
    stored,
    stored_count,
    write,
    write_records,
)
from usage.models import DataUsageRecord, Subscription
from usage.services import import_writer, imports
from usage.services.import_values import NAMESPACE
from usage.services.partitions import partition_days

DEADLOCKS = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"

pytestmark = pytest.mark.usefixtures("only_default_partitions")

DATA = "data,a,2026-11-15T21:00:00Z,0.00000001,512,k1"
VOICE = "voice,b,2026-11-15T21:00:00Z,12.5,60,k2"


def other_sessions() -> int:
    ((count,),) = run_sql(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        " AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
    )
    return count


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imports, "BATCH_LINES", 3)


def test_records_are_stored_to_the_last_digit(directory: Path) -> None:
    report = imported(
        write_records(
            directory / "usage.csv",
            "data,a,2026-11-15T21:00:00+00:00,0.12345678,0,k1",
            "voice,a,2026-11-15T23:30:00.25+01:00,-5.00,1099511627776,k2",
            "voice,b,2026-11-16 00:00Z,999999999999.99999999,60,k3",
            "data,b,2000-01-01T00:00:00+00,0,7,k4",
            "data,b,2099-12-31T23:59:59.999999Z,-999999999999.99999999,8,k5",
        )
    )
    assert counts(report) == (5, 5, 0, 0)
    assert stored() == [
        ("data", "b", "2000-01-01 00:00:00.000", "0", 7),
        ("data", "a", "2026-11-15 21:00:00.000", "0.12345678", 0),
        ("voice", "a", "2026-11-15 22:30:00.250", "-5.00", 1099511627776),
        ("voice", "b", "2026-11-16 00:00:00.000", "999999999999.99999999", 60),
        ("data", "b", "2099-12-31 23:59:59.999", "-999999999999.99999999", 8),
    ]


def test_times_without_an_offset_are_local_to_the_zone(directory: Path) -> None:
    path = write_records(
        directory / "usage.csv",
        "data,a,2026-07-01 12:00:00,1,1,summer",
        "data,a,2026-12-01 12:00:00,2,1,winter",
        "data,a,2026-12-01T12:00:00-05:00,3,1,offset",
        "data,a,2026-10-25T01:30,4,1,twice",
        "data,a,2026-03-29T01:30,5,1,never",
    )
    report = imported(path, zone=ZoneInfo("Europe/London"))
    assert [(row[2], row[3]) for row in stored()] == [
        ("2026-07-01 11:00:00.000", "1"),
        ("2026-10-25 00:30:00.000", "4"),
        ("2026-12-01 12:00:00.000", "2"),
        ("2026-12-01 17:00:00.000", "3"),
    ]
    assert [(line, reason) for line, reason, _ in report.first_rejections] == [
        (6, "2026-03-29 01:30:00 does not exist in Europe/London: clocks went forward over it")
    ]


def test_columns_come_in_any_order_among_others(directory: Path) -> None:
    report = imported(
        write(
            directory / "usage.csv",
            '\ufeffrecord_key, price,note,"external_id",quantity,usage_date,usage_type\r',
            "k1,1.5,anything,a,10,2026-11-15T21:00:00Z,data\r",
            "\r",
            '"k,""2",2.5,"a, b","c, d",20,2026-11-15T22:00:00Z,voice\r',
            "",
        )
    )
    assert counts(report) == (2, 2, 0, 0)
    assert stored() == [
        ("data", "a", "2026-11-15 21:00:00.000", "1.5", 10),
        ("voice", "c, d", "2026-11-15 22:00:00.000", "2.5", 20),
    ]


def test_ids_are_uuid5_of_source_and_record_key(directory: Path) -> None:
    path = write_records(directory / "usage.csv.gz", "data,a,2026-11-15T21:00:00Z,1,1,clé")
    imported(path)
    assert DataUsageRecord.objects.get().id == uuid.uuid5(NAMESPACE, "usage.csv\x1fclé")
    imported(path, source="network a")
    assert {record.id for record in DataUsageRecord.objects.all()} == {
        uuid.uuid5(NAMESPACE, "usage.csv\x1fclé"),
        uuid.uuid5(NAMESPACE, "network a\x1fclé"),
    }


def test_the_same_file_twice_adds_nothing(directory: Path) -> None:
    path = write_records(directory / "usage.csv", DATA, VOICE)
    assert counts(imported(path)) == (2, 2, 0, 0)
    before = stored()
    assert counts(imported(path)) == (2, 0, 2, 0)
    assert counts(imported(write_records(directory / "usage.csv.gz", DATA, VOICE))) == (2, 0, 2, 0)
    assert counts(imported(write_records(directory / "other", DATA), source="usage.csv")) == (
        *(1, 0, 1, 0),
    )
    assert stored() == before


def test_another_date_is_another_record_and_another_price_is_not(directory: Path) -> None:
    imported(write_records(directory / "usage.csv", DATA))
    report = imported(
        write_records(
            directory / "usage.csv",
            "data,a,2026-11-15T21:00:00Z,9,512,k1",
            "data,a,2026-11-15T21:00:01Z,7,512,k1",
        )
    )
    assert counts(report) == (2, 1, 1, 0)
    assert [(row[2], row[3]) for row in stored()] == [
        ("2026-11-15 21:00:00.000", "0.00000001"),
        ("2026-11-15 21:00:01.000", "7"),
    ]


@pytest.mark.usefixtures("small_batches")
def test_a_line_repeated_in_one_file_is_known(directory: Path) -> None:
    path = write_records(directory / "usage.csv", DATA, VOICE, DATA, VOICE, DATA)
    assert counts(imported(path)) == (5, 2, 3, 0)
    assert len(stored()) == 2


def test_subscriptions_are_made_once_and_kept(directory: Path) -> None:
    known = make_subscription("b")
    imported(write_records(directory / "usage.csv", DATA, VOICE))
    imported(write_records(directory / "more.csv", DATA, VOICE))
    assert Subscription.objects.count() == 2
    assert Subscription.objects.get(external_id="b") == known


@pytest.mark.usefixtures("small_batches")
def test_a_fault_far_into_the_file_keeps_what_was_committed(directory: Path) -> None:
    lines = [f"data,a,2026-11-15T21:00:0{number}Z,1,1,k{number}" for number in range(8)]
    path = write_records(directory / "usage.csv", *lines)
    good = path.read_bytes()
    path.write_bytes(good.replace(b"k7", b"\xff7"))
    block = len(good) - len(lines[-1])  # the fault lies in the second block read
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("usage.services.import_lines.BLOCK_BYTES", block)
        with pytest.raises(imports.ImportStoppedError) as stopped:
            imported(path)
    assert "usage.csv is not a text file: line 9 is not UTF-8. Before that: 6 read, 6 added" in (
        str(stopped.value)
    )
    assert counts(stopped.value.report) == (6, 6, 0, 0)
    assert stored_count() == 6
    path.write_bytes(good)
    assert counts(imported(path)) == (8, 2, 6, 0)


@pytest.mark.usefixtures("small_batches")
def test_a_gzip_cut_off_keeps_what_was_committed(directory: Path) -> None:
    whole = write_records(
        directory / "usage.csv.gz",
        *(f"data,{uuid.uuid4()},2026-11-15T21:00:00Z,1,1,{uuid.uuid4()}" for _ in range(2_000)),
    )
    data = whole.read_bytes()
    whole.write_bytes(data[: len(data) // 2])
    with pytest.raises(imports.ImportStoppedError, match="gzip data is damaged or cut off at") as e:
        imported(whole)
    assert 0 < e.value.report.added == stored_count() < 2_000
    whole.write_bytes(data)
    assert imported(whole).added == 2_000 - e.value.report.added
    assert stored_count() == 2_000


def test_a_dry_run_writes_nothing(directory: Path) -> None:
    path = write_records(directory / "usage.csv", DATA, "data,a,never,1,1,k", VOICE)
    report = imported(path, dry_run=True)
    assert counts(report) == (3, 0, 0, 1)
    assert str(report).startswith("3 read, 2 could be imported, 1 rejected in ")
    assert stored() == []
    assert Subscription.objects.count() == 0
    assert os.listdir(directory) == ["usage.csv"]  # noqa: PTH208 - what lies there, nothing else


def test_partitions_are_made_for_the_days_of_the_file(directory: Path) -> None:
    data_record(make_subscription("stray"), "2026-11-16T12:00Z")
    path = write_records(
        directory / "usage.csv",
        "data,a,2026-11-15T23:59:59Z,1,1,k1",
        "data,a,2026-11-16T00:00:00Z,1,1,k2",
        "data,a,2026-11-18T00:00:00+01:00,1,1,k3",
    )
    assert imported(path).added == 3
    # the default partition of data keeps the 16th, where it had a record already
    assert partition_days("usage_datausagerecord") == [date(2026, 11, 15), date(2026, 11, 17)]
    assert run_sql("SELECT count(*) FROM usage_datausagerecord_default") == [(2,)]


def test_the_default_partition_takes_the_records_while_refreshes_are_paused(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_writer, "PATIENCE_SECONDS", 0.2)
    path = write_records(directory / "usage.csv", DATA, VOICE)
    with second_session() as session, session.cursor() as cursor:
        cursor.execute("LOCK TABLE usage_refresh_lock IN SHARE UPDATE EXCLUSIVE MODE")
        assert imported(path).added == 2
    assert partition_days("usage_datausagerecord") == []
    assert run_sql("SELECT count(*) FROM usage_datausagerecord_default") == [(1,)]


def test_a_subscription_deleted_meanwhile_is_made_again(directory: Path) -> None:
    doomed = make_subscription("a")
    path = write_records(directory / "usage.csv", DATA)
    with second_session() as session, session.cursor() as cursor:
        cursor.execute("DELETE FROM usage_subscription WHERE id = %s", [doomed.pk])
        with in_thread(lambda: imported(path)) as importing:
            time.sleep(0.3)
            assert not importing.done()
            session.commit()
            assert importing.result().added == 1
    assert stored() == [("data", "a", "2026-11-15 21:00:00.000", "0.00000001", 512)]


def test_a_kill_in_the_middle_and_a_second_run_give_exact_totals(directory: Path) -> None:
    path = many_records(directory / "usage.csv", 250_000)
    process = start_command("import_usage", path, cwd=directory)
    wait_until(lambda: stored_count() > 0, seconds=30, what="the first batch")
    process.kill()
    process.communicate()
    # the server may still be at work on what it got
    wait_until(lambda: other_sessions() == 0, what="the server to notice")
    before = stored_count()
    assert 0 < before < 250_000
    assert before % 50_000 == 0
    assert counts(imported(path)) == (250_000, 250_000 - before, before, 0)
    assert run_sql(
        "SELECT count(*), sum(price)::text, sum(kilobytes_used) FROM usage_datausagerecord"
    ) == [(250_000, "0.00250000", 250_000)]


def test_two_imports_of_a_file_at_once_give_exact_totals(directory: Path) -> None:
    path = many_records(directory / "usage.csv", 120_000)
    processes = [start_command("import_usage", path, cwd=directory) for _ in range(2)]
    for code, output, error in finished(processes):
        assert (code, error) == (0, "")
        assert "usage.csv: 120,000 read, " in output
    assert run_sql(
        "SELECT count(*), sum(price)::text, sum(kilobytes_used) FROM usage_datausagerecord"
    ) == [(120_000, "0.00120000", 120_000)]
    assert Subscription.objects.count() == 50


def test_two_imports_in_opposite_orders_do_not_deadlock(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imports, "BATCH_LINES", 1_000)
    lines = [
        f"data,s{number},2026-11-{1 + number % 9:02}T00:00Z,1,1,k{number}"
        for number in range(5_000)
    ]
    forth = write_records(directory / "forth.csv", *lines)
    back = write_records(directory / "back.csv", *reversed(lines))
    ((before,),) = run_sql(DEADLOCKS)
    with in_thread(lambda: imported(back, source="one")) as backwards:
        one = imported(forth, source="one")
        other = backwards.result()
    assert one.added + other.added == 5_000
    assert one.already_known + other.already_known == 5_000
    assert stored_count() == 5_000
    run_sql("SELECT pg_stat_clear_snapshot()")
    assert run_sql(DEADLOCKS) == [(before,)]


def test_memory_does_not_grow_with_the_file(directory: Path) -> None:
    script = directory / "peaks.py"
    script.write_text(
        "import resource, sys, django\n"
        "django.setup()\n"
        "from usage.services.imports import ImportOptions, import_file\n"
        "for path in sys.argv[1:]:\n"
        "    import_file(path, ImportOptions())\n"
        "    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
    )
    small = many_records(directory / "small.csv", 150_000)
    large = many_records(directory / "large.csv", 500_000)
    ((code, output, error),) = finished([start_python(script, small, large, cwd=directory)])
    assert (code, error) == (0, "")
    kilobytes_after_small, kilobytes_after_large = map(int, output.split())
    # Held in memory, the 350,000 lines more would take 150,000.
    assert kilobytes_after_large - kilobytes_after_small < 30_000
    assert stored_count() == 650_000
