"""Every reason to reject a line."""

from pathlib import Path

import pytest

from tests.usage.importing import call, counts, imported, write, write_records

pytestmark = pytest.mark.django_db

GOOD = "data,a,2026-11-15T21:00:00Z,1,1,k"
PRICE = "is not a plain decimal number with at most 12 digits before the point and 8 behind it"
QUANTITY = "is not a whole number from 0 to 4294967296"
TEXT = "characters without control characters or blanks around it"
MOMENT = "is not a moment such as 2026-11-15T21:00:00+00:00"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("sms,a,2026-11-15T21:00:00Z,1,1,k", "usage_type 'sms' is not data or voice"),
        ("DATA,a,2026-11-15T21:00:00Z,1,1,k", "usage_type 'DATA' is not data or voice"),
        (",a,2026-11-15T21:00:00Z,1,1,k", "usage_type is empty"),
        ("data,,2026-11-15T21:00:00Z,1,1,k", "external_id is empty"),
        (
            "data, a,2026-11-15T21:00:00Z,1,1,k",
            f"external_id ' a' is not text of at most 100 {TEXT}",
        ),
        (
            f"data,{'x' * 101},2026-11-15T21:00:00Z,1,1,k",
            f"external_id '{'x' * 60}...' is not text of at most 100 {TEXT}",
        ),
        (
            "data,a\tb,2026-11-15T21:00:00Z,1,1,k",
            f"external_id 'a\\tb' is not text of at most 100 {TEXT}",
        ),
        ("data,a,2026-11-15T21:00:00Z,1,1,", "record_key is empty"),
        ("data,a,,1,1,k", "usage_date is empty"),
        ("data,a,yesterday,1,1,k", f"usage_date 'yesterday' {MOMENT}"),
        ("data,a,2026-11-15,1,1,k", f"usage_date '2026-11-15' {MOMENT}"),
        ("data,a,infinity,1,1,k", f"usage_date 'infinity' {MOMENT}"),
        (
            "data,a,2026-11-15T21:00:00.1234567Z,1,1,k",
            f"usage_date '2026-11-15T21:00:00.1234567Z' {MOMENT}",
        ),
        (
            "data,a,2026-11-15T21:00:00+16:00,1,1,k",
            f"usage_date '2026-11-15T21:00:00+16:00' {MOMENT}",
        ),
        (
            "data,a,2026-02-30T21:00:00Z,1,1,k",
            "usage_date '2026-02-30T21:00:00Z' is not in the calendar",
        ),
        (
            "data,a,2026-11-15T21:00:00,1,1,k",
            "usage_date '2026-11-15T21:00:00' has no offset, and no --zone was given",
        ),
        (
            "data,a,1999-12-31T23:59:59.999999Z,1,1,k",
            "usage_date '1999-12-31T23:59:59.999999Z' is not from 2000 up to 2100",
        ),
        (
            "data,a,2000-01-01T00:00:00+01:00,1,1,k",
            "usage_date '2000-01-01T00:00:00+01:00' is not from 2000 up to 2100",
        ),
        (
            "data,a,2100-01-01T00:00:00Z,1,1,k",
            "usage_date '2100-01-01T00:00:00Z' is not from 2000 up to 2100",
        ),
        ("data,a,2026-11-15T21:00:00Z,,1,k", "price is empty"),
        ("data,a,2026-11-15T21:00:00Z,0.123456789,1,k", f"price '0.123456789' {PRICE}"),
        ("data,a,2026-11-15T21:00:00Z,1000000000000,1,k", f"price '1000000000000' {PRICE}"),
        ("data,a,2026-11-15T21:00:00Z,NaN,1,k", f"price 'NaN' {PRICE}"),
        ("data,a,2026-11-15T21:00:00Z,Infinity,1,k", f"price 'Infinity' {PRICE}"),
        ("data,a,2026-11-15T21:00:00Z,1e3,1,k", f"price '1e3' {PRICE}"),
        ("data,a,2026-11-15T21:00:00Z,€1,1,k", f"price '€1' {PRICE}"),
        ("data,a,2026-11-15T21:00:00Z,٣,1,k", f"price '٣' {PRICE}"),
        ("data,a,2026-11-15T21:00:00Z,1,-1,k", f"quantity '-1' {QUANTITY}"),
        ("data,a,2026-11-15T21:00:00Z,1,1.5,k", f"quantity '1.5' {QUANTITY}"),
        ("data,a,2026-11-15T21:00:00Z,1,4294967297,k", f"quantity '4294967297' {QUANTITY}"),
        ("data,a,2026-11-15T21:00:00Z,1", "4 columns instead of 6"),
        ("data,a,2026-11-15T21:00:00Z,1,1,k,", "7 columns instead of 6"),
        # The first fault in the order of the file is the reason.
        ("sms,a,never,1,1,k", "usage_type 'sms' is not data or voice"),
        ("sms,\u200b,never,1,1,k", "usage_type 'sms' is not data or voice"),
        (
            'data,"a"b,2026-11-15T21:00:00Z,1,1,k',
            "not a line of CSV: ',' expected after '\"'",
        ),
    ],
)
def test_a_bad_record_is_rejected_alone(tmp_path: Path, line: str, reason: str) -> None:
    path = write_records(tmp_path / "usage.csv", GOOD, line, GOOD)
    report = imported(path, dry_run=True)
    assert counts(report) == (3, 1, 1, 1)
    assert report.first_rejections == [(3, reason, line)]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (
            call("29/03/2026 01:30:00", "29/03/2026 02:30:00"),
            "2026-03-29 01:30:00 does not exist in Europe/London: clocks went forward over it",
        ),
        (
            call("01/12/2026 12:00:01", "01/12/2026 12:00:00"),
            "the call ends at 01/12/2026 12:00:00, before it starts at 01/12/2026 12:00:01",
        ),
        (
            call("31/11/2026 12:00:00", "01/12/2026 12:00:00"),
            "31/11/2026 12:00:00 is not in the calendar",
        ),
        (
            call("01/12/2026 24:00:00", "02/12/2026 12:00:00"),
            "01/12/2026 24:00:00 is not in the calendar",
        ),
        (
            call("2026-12-01 12:00:00", "01/12/2026 12:00:00"),
            "start_date '2026-12-01' is not a day such as 15/11/2026",
        ),
        (
            call("31/12/1999 12:00:00", "31/12/1999 12:00:00"),
            "31/12/1999 12:00:00 is not from 2000 up to 2100",
        ),
        (
            call("01/12/2026 12:00:00", "01/12/2026 12:00:00", "1.2345678"),
            "cost '1.2345678' is not pence with at most 14 digits before the point and 6 behind it",
        ),
        ("1,01,1,02,01/12/2026", "5 columns instead of 10"),
    ],
)
def test_a_bad_call_is_rejected_alone(tmp_path: Path, line: str, reason: str) -> None:
    good = call("01/12/2026 12:00:00", "01/12/2026 12:00:00")
    path = write(tmp_path / "calls.csv", good, line, good)
    report = imported(path, dry_run=True, format="calls", zone="Europe/London")
    assert counts(report) == (3, 1, 1, 1)
    assert report.first_rejections == [(2, reason, line)]
