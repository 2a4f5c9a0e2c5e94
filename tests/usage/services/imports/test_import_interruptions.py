"""Imports that are interrupted, that run at the same time as others, or that take long."""

import re
import signal
import time
import uuid
from datetime import date
from pathlib import Path

import pytest

from tests.connections import in_thread, run_sql, second_session, wait_until
from tests.factories import make_subscription
from tests.usage.importing import (
    counts,
    finished,
    imported,
    many_records,
    start_command,
    start_python,
    stored,
    stored_count,
    write_records,
)
from usage.models import Subscription
from usage.services import imports
from usage.services.imports import writer
from usage.services.raw.partitions import make_partitions, partition_days

pytestmark = pytest.mark.usefixtures("directory", "only_default_partitions")

DATA = "data,a,2026-11-15T21:00:00Z,0.00000001,512,k1"
VOICE = "voice,b,2026-11-15T21:00:00Z,12.5,60,k2"


def other_sessions() -> int:
    ((count,),) = run_sql(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        " AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
    )
    return count


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imports, "BATCH_LINES", 3)


@pytest.mark.one_server("it counts records already known as added")
@pytest.mark.usefixtures("small_batches")
def test_a_fault_far_into_the_file_keeps_what_was_committed(directory: Path) -> None:
    lines = [f"data,a,2026-11-15T21:00:0{number}Z,1,1,k{number}" for number in range(8)]
    path = write_records(directory / "usage.csv", *lines)
    good = path.read_bytes()
    path.write_bytes(good.replace(b"k7", b"\xff7"))
    block = len(good) - len(lines[-1])  # the fault is in the second block that is read
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("usage.services.imports.lines.BLOCK_BYTES", block)
        with pytest.raises(imports.ImportStoppedError) as stopped:
            imported(path)
    assert "usage.csv is not a text file: line 9 is not UTF-8. Before that: 6 read, 6 added" in (
        str(stopped.value)
    )
    assert counts(stopped.value.report) == (6, 6, 0, 0)
    assert stored_count() == 6
    path.write_bytes(good)
    assert counts(imported(path)) == (8, 2, 6, 0)


@pytest.mark.one_server("it counts records already known as added")
@pytest.mark.usefixtures("small_batches")
def test_a_truncated_gzip_keeps_what_was_committed(directory: Path) -> None:
    whole = write_records(
        directory / "usage.csv.gz",
        *(f"data,{uuid.uuid4()},2026-11-15T21:00:00Z,1,1,{uuid.uuid4()}" for _ in range(300)),
    )
    data = whole.read_bytes()
    whole.write_bytes(data[: len(data) // 2])
    with pytest.raises(imports.ImportStoppedError, match="gzip data is damaged or cut off at") as e:
        imported(whole)
    assert 0 < e.value.report.added == stored_count() < 300
    whole.write_bytes(data)
    assert imported(whole).added == 300 - e.value.report.added
    assert stored_count() == 300


def test_the_default_partition_takes_the_records_while_refreshes_are_paused(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "PATIENCE_SECONDS", 0.2)
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


@pytest.mark.one_server("it counts records already known as added")
def test_a_kill_in_the_middle_and_a_second_run_give_exact_totals(directory: Path) -> None:
    path = many_records(directory / "usage.csv", 200_000)
    process = start_command("import_usage", path, cwd=directory)
    wait_until(lambda: stored_count() > 0, seconds=30, what="the first batch")
    process.kill()
    process.communicate()
    # The server may still run the last statement of the killed import.
    wait_until(lambda: other_sessions() == 0, what="the server to end the session")
    before = stored_count()
    assert 0 < before < 200_000
    assert before % 50_000 == 0
    assert counts(imported(path)) == (200_000, 200_000 - before, before, 0)
    assert run_sql(
        "SELECT count(*), sum(price)::text, sum(kilobytes_used) FROM usage_datausagerecord"
    ) == [(200_000, "0.00200000", 200_000)]


def test_an_interrupted_import_says_what_it_added(directory: Path) -> None:
    path = many_records(directory / "usage.csv", 300_000)
    process = start_command("import_usage", path, cwd=directory)
    wait_until(lambda: stored_count() > 0, seconds=30, what="the first batch")
    process.send_signal(signal.SIGINT)
    ((code, output, error),) = finished([process])
    assert (code, output) == (130, ""), error
    message = re.fullmatch(
        r"CommandError: Interrupted after line ([\d,]+)\. \1 records were added; "
        r"run the same command again, and they will be known\. It touched .+\.\n",
        error,
    )
    assert message is not None, error
    # The interrupt may happen after a commit and before the batch is counted.
    assert stored_count() - int(message[1].replace(",", "")) in (0, 50_000)


def test_two_imports_of_a_file_at_once_give_exact_totals(directory: Path) -> None:
    path = many_records(directory / "usage.csv", 60_000)
    processes = [start_command("import_usage", path, cwd=directory) for _ in range(2)]
    for code, output, error in finished(processes):
        assert (code, error) == (0, "")
        assert "usage.csv: 60,000 read, " in output
    assert run_sql(
        "SELECT count(*), sum(price)::text, sum(kilobytes_used) FROM usage_datausagerecord"
    ) == [(60_000, "0.00060000", 60_000)]
    assert Subscription.objects.count() == 50


@pytest.mark.one_server("it counts records already known as added")
def test_two_imports_in_opposite_orders_do_not_deadlock(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "RETRIES", 0)
    # They exist, because otherwise one import waits while the other makes them.
    make_subscription("a")
    make_partitions([date(2026, 11, 1)])
    lines = [f"data,a,2026-11-01T00:00Z,1,1,k{number}" for number in range(40_000)]
    forth = write_records(directory / "forth.csv", *lines)
    back = write_records(directory / "back.csv", *reversed(lines))
    with in_thread(lambda: imported(back, source="one")) as backwards:
        one = imported(forth, source="one")
        other = backwards.result()
    assert sorted([counts(one), counts(other)]) == [(40_000, 0, 40_000, 0), (40_000, 40_000, 0, 0)]
    assert stored_count() == 40_000


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
    large = many_records(directory / "large.csv", 400_000)
    ((code, output, error),) = finished([start_python(script, small, large, cwd=directory)])
    assert (code, error) == (0, "")
    kilobytes_after_small, kilobytes_after_large = map(int, output.split())
    # The further 250,000 lines would take 100,000 kilobytes in memory.
    assert kilobytes_after_large - kilobytes_after_small < 30_000
    assert stored_count() == 550_000
