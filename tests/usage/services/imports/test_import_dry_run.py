"""The dry run reports what an import would report, line by line, and writes nothing."""

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from tests.connections import in_thread, run_sql, second_session
from tests.usage.importing import (
    ANY_DAY,
    call,
    counts,
    imported,
    stored,
    write,
    write_records,
)
from usage.models import LateKeysMode, Subscription
from usage.services import imports
from usage.services.imports import Importer, ImportOptions, ImportReport
from usage.services.imports.batches import Batch
from usage.services.imports.rehearsal import Rehearsal
from usage.services.imports.staging import Written
from usage.services.imports.ways import merge

pytestmark = [
    pytest.mark.usefixtures("directory", "only_default_partitions"),
    pytest.mark.one_server("it counts records already known as added"),
]


def comparable(report: ImportReport) -> ImportReport:
    """Return the part of a report that must be the same for a dry run and an import."""
    return replace(report, dry_run=False, seconds=0, rejects=None)


def lines_of_every_kind(chance: random.Random, count: int) -> list[str]:
    return [
        f"{chance.choice(['data', 'voice'])},{chance.choice('abc')},"
        f"2026-11-0{chance.randrange(1, 4)}T12:00:00Z,{chance.choice(['1', '1.0', '2', 'x'])},"
        f"{chance.randrange(1, 3)},k{chance.randrange(6)}"
        for _ in range(count)
    ]


@pytest.mark.parametrize("late_keys", list(LateKeysMode))
@pytest.mark.parametrize("seed", range(4))
def test_dry_run_reports_what_the_import_reports(
    directory: Path,
    late_keys: LateKeysMode,
    seed: int,
    switch_to: Callable[[LateKeysMode], None],
    close_before: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The files have known, differing, repeated and bad lines, and lines of closed days, in several
    batches.

    Fails when the dry run does not query the database, or forgets earlier batches.
    """
    switch_to(late_keys)
    chance = random.Random(seed)
    monkeypatch.setattr(imports, "BATCH_LINES", chance.choice([3, 10, 1000]))
    imported(write_records(directory / "usage.csv", *lines_of_every_kind(chance, 10)))
    if late_keys is LateKeysMode.WINDOW:
        run_sql("SELECT usage_close_days('2026-11-02')")
    else:
        close_before("2026-11-02")
    path = write_records(directory / "usage.csv", *lines_of_every_kind(chance, 60))
    before = stored(), run_sql("SELECT count(*) FROM usage_late_key")
    rehearsed = imported(path, dry_run=True, rejects=directory / f"rehearsed{seed}")
    assert (stored(), run_sql("SELECT count(*) FROM usage_late_key")) == before
    report = imported(path, rejects=directory / f"imported{seed}")
    assert comparable(rehearsed) == comparable(report)
    assert report.added
    assert report.differing
    assert report.rejected
    assert rehearsed.rejects is not None
    assert report.rejects is not None
    assert rehearsed.rejects.read_text() == report.rejects.read_text()
    run_sql("SELECT usage_close_days(NULL)")


def test_closed_days_are_rejected_as_by_the_import(
    directory: Path, close_before: Callable[[str], None]
) -> None:
    """Fails when a dry run counts lines as importable that the import rejects."""
    close_before("2026-11-02")
    path = write(
        directory / "calls.csv",
        *(
            call(f"01/11/2026 12:00:{second:02}", f"01/11/2026 12:01:{second:02}")
            for second in range(46)
        ),
    )
    report = imported(path, dry_run=True, format="calls", zone="UTC")
    assert counts(report) == (46, 0, 0, 46)
    assert report.first_rejections[0].reason.startswith("the day 2026-11-01 is closed")
    assert report.touched() == "It would touch no day."


def test_records_of_an_earlier_file_of_the_command_are_known(directory: Path) -> None:
    """Two files have one source. Fails when the second file does not know the records of the
    first, or when a later command knows them too."""
    line = "data,a,2026-11-15T21:00:00Z,{},1,k"
    one = write_records(directory / "one.csv", line.format(1))
    two = write_records(directory / "two.csv", line.format(2))
    for _ in range(2):
        importer = Importer(ImportOptions(dry_run=True, source="x", future=ANY_DAY))
        assert importer.run(str(one)).added == 1
        report = importer.run(str(two))
        assert (report.added, report.differing) == (0, 1)


def test_it_makes_no_partition_and_no_subscription_and_does_not_wait(directory: Path) -> None:
    """Another session is making the subscription. Fails when the dry run makes it too and waits."""
    path = write_records(directory / "usage.csv", "data,a,2026-11-15T21:00:00Z,1,1,k")
    partitions = run_sql("SELECT count(*) FROM pg_inherits")
    with second_session() as session, session.cursor() as cursor:
        cursor.execute("INSERT INTO usage_subscription (external_id) VALUES ('a')")
        with in_thread(lambda: imported(path, dry_run=True)) as rehearsing:
            try:
                assert rehearsing.result(timeout=20).added == 1
            finally:
                session.rollback()
    assert run_sql("SELECT count(*) FROM pg_inherits") == partitions
    assert Subscription.objects.count() == 0


def test_only_lines_that_the_database_refuses_take_the_slowest_way(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when known lines make the dry run write the lines after them one at a time."""
    monkeypatch.setattr(imports, "BATCH_LINES", 2)
    lines = [f"data,a,2026-11-15T21:00:00Z,1,1,k{key}" for key in (0, 1, 0, 2, 3, 4)]

    def too_slow(*_: Any) -> None:
        raise AssertionError("one line at a time")

    monkeypatch.setattr(Rehearsal, "ways", (merge, too_slow))
    assert counts(imported(write_records(directory / "usage.csv", *lines), dry_run=True)) == (
        *(6, 5, 1, 0),
    )


def test_an_interrupted_dry_run_wrote_nothing(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when the message counts records as added."""
    monkeypatch.setattr(imports, "BATCH_LINES", 1)
    lines = [f"data,a,2026-11-15T21:00:00Z,1,1,k{number}" for number in range(2)]
    path = write_records(directory / "usage.csv", *lines)
    write = Rehearsal.write

    def write_once(self: Rehearsal, batch: Batch) -> Written:
        if "k1" in batch.records["data"][0][1]:
            raise KeyboardInterrupt
        return write(self, batch)

    monkeypatch.setattr(Rehearsal, "write", write_once)
    with pytest.raises(CommandError, match=r"^Interrupted after line 1\. Nothing was written\.$"):
        call_command("import_usage", str(path), "--dry-run")


def test_the_command_line_prints_would_be_added(directory: Path, capsys: Any) -> None:
    path = write_records(directory / "usage.csv", "data,a,2026-11-15T21:00:00Z,1,1,k")
    call_command("import_usage", str(path), "--dry-run")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(
        f"{path}: 1 read, 1 would be added, 0 already known, 0 differing, 0 rejected in "
    )
    assert lines[1] == "  It would touch 1 day: 2026-11-15."
