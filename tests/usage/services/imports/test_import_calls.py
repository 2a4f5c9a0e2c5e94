"""Imports of call records: local times, durations across a change of clocks, pence."""

import csv
import gzip
from collections import defaultdict
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from tests.factories import refresh_totals
from tests.usage.importing import call, counts, imported, stored, write
from usage.errors import ImportFileError
from usage.models import DailyUsage
from usage.services.imports import ImportReport

pytestmark = pytest.mark.usefixtures("directory", "only_default_partitions")

CALLS = Path(__file__).parents[3] / "data" / "cdr_calls.csv.gz"
LONDON = "Europe/London"


def import_calls(*lines: str) -> ImportReport:
    return imported(write(Path("calls.csv"), *lines), format="calls", zone=LONDON)


@pytest.mark.one_server("it counts records already known as added")
def test_totals_are_those_of_the_file() -> None:
    report = imported(CALLS, format="calls", zone=LONDON)
    assert counts(report) == (88_394, 88_394, 0, 0)
    refresh_totals()
    got = {
        (number, day): (price, seconds, calls)
        for number, day, price, seconds, calls in DailyUsage.objects.filter(
            usage_type="voice"
        ).values_list(
            "subscription__external_id", "day", "total_price", "total_usage", "record_count"
        )
    }
    assert got == totals_computed_from_the_file()
    assert DailyUsage.objects.filter(usage_type="data").count() == 0
    assert counts(imported(CALLS, format="calls", zone=LONDON)) == (88_394, 0, 88_394, 0)


def totals_computed_from_the_file() -> dict[tuple[str, date], tuple[Decimal, int, int]]:
    """Return price, seconds and calls by number and UTC day. London was an hour ahead of UTC until
    25 October 2026, 02:00."""
    back = datetime(2026, 10, 25, 2)  # noqa: DTZ001 - local time
    totals: dict[tuple[str, date], tuple[Decimal, int, int]] = defaultdict(
        lambda: (Decimal(0), 0, 0)
    )
    with gzip.open(CALLS, "rt", newline="") as file:
        for _, number, _, _, start_day, end_day, start_time, end_time, _, pence in csv.reader(file):
            start, end = (
                datetime.strptime(f"{day} {time}", "%d/%m/%Y %H:%M:%S")  # noqa: DTZ007
                for day, time in ((start_day, start_time), (end_day, end_time))
            )
            # Times that exist twice are the earlier ones: summer time before two o'clock.
            start -= timedelta(hours=start < back)
            end -= timedelta(hours=end < back)
            price, seconds, calls = totals[number, start.date()]
            totals[number, start.date()] = (
                price + Decimal(pence) / 100,
                seconds + int((end - start).total_seconds()),
                calls + 1,
            )
    return dict(totals)


@pytest.mark.parametrize(
    ("start", "end", "moment", "seconds"),
    [
        ("01/07/2026 12:00:00", "01/07/2026 12:01:05", "2026-07-01 11:00:00.000", 65),
        ("01/12/2026 23:59:00", "02/12/2026 00:01:00", "2026-12-01 23:59:00.000", 120),
        # Clocks go back from 02:00 to 01:00. 01:30 is the earlier of the two.
        ("25/10/2026 00:30:00", "25/10/2026 01:30:00", "2026-10-24 23:30:00.000", 3_600),
        ("25/10/2026 01:30:00", "25/10/2026 01:45:00", "2026-10-25 00:30:00.000", 900),
        ("25/10/2026 01:55:00", "25/10/2026 02:05:00", "2026-10-25 00:55:00.000", 4_200),
        ("25/10/2026 01:50:00", "25/10/2026 01:10:00", "2026-10-25 00:50:00.000", 1_200),
        # Clocks go forward from 01:00 to 02:00.
        ("29/03/2026 00:50:00", "29/03/2026 02:10:00", "2026-03-29 00:50:00.000", 1_200),
    ],
)
def test_duration_is_the_elapsed_time(start: str, end: str, moment: str, seconds: int) -> None:
    import_calls(call(start, end))
    assert stored() == [("voice", "01", moment, "0.10", seconds)]


@pytest.mark.parametrize(
    ("pence", "price"),
    [
        ("315.0", "3.150"),
        ("0.0", "0.000"),
        ("1", "0.01"),
        ("0.000001", "0.00000001"),
        ("-12.5", "-0.125"),
        ("99999999999999.999999", "999999999999.99999999"),
    ],
)
def test_pence_become_units_to_the_last_digit(pence: str, price: str) -> None:
    import_calls(call("01/12/2026 12:00:00", "01/12/2026 12:00:00", pence))
    assert [(row[3], row[4]) for row in stored()] == [(price, 0)]


@pytest.mark.one_server("it counts records already known as added")
def test_a_call_id_may_occur_several_times() -> None:
    report = import_calls(
        call("01/12/2026 12:00:00", "01/12/2026 12:01:00"),
        call("01/12/2026 13:00:00", "01/12/2026 13:01:00"),
        call("01/12/2026 12:00:00", "01/12/2026 12:01:00").replace("01,1,02", "01,2,02"),
        call("01/12/2026 12:00:00", "01/12/2026 12:01:00").replace("01,1,02", "01,1,03"),
        # The key of the first call with a later end.
        call("01/12/2026 12:00:00", "01/12/2026 12:02:00", cost="20"),
    )
    assert counts(report) == (5, 4, 0, 0)
    assert report.differing == 1


def test_other_files_are_not_read_as_call_records(directory: Path) -> None:
    path = write(directory / "calls.csv", "usage_type,external_id", "data,a")
    with pytest.raises(ImportFileError, match=r"line 1 must have 10 columns: call_id,phone_numb"):
        imported(path, format="calls", zone=LONDON)
    for blank in [[], [""]]:
        assert counts(imported(write(path, *blank), format="calls", zone=LONDON)) == (0, 0, 0, 0)
