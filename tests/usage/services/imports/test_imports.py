"""Imports of records: the stored rows, known records, and the results of a second run."""

import os
import uuid
from datetime import date
from pathlib import Path

import pytest

from tests.connections import run_sql
from tests.factories import data_record, make_subscription
from tests.usage.importing import (
    counts,
    imported,
    stored,
    write,
    write_records,
)
from usage.models import DataUsageRecord, Subscription
from usage.services import imports
from usage.services.imports.values import NAMESPACE
from usage.services.raw.partitions import partition_days

pytestmark = pytest.mark.usefixtures("directory", "only_default_partitions")

DATA = "data,a,2026-11-15T21:00:00Z,0.00000001,512,k1"
VOICE = "voice,b,2026-11-15T21:00:00Z,12.5,60,k2"


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imports, "BATCH_LINES", 3)


def test_records_are_stored_to_the_last_digit(directory: Path) -> None:
    report = imported(
        write_records(
            directory / "usage.csv",
            "data,a,2026-11-15T21:00:00+00:00,0.12345678,0,k1",
            "voice,a,2026-11-15T23:30:00.25+01:00,-5.00,4294967296,k2",
            "voice,b,2026-11-16 00:00Z,999999999999.99999999,60,k3",
            "data,b,2000-01-01T00:00:00+00,0,7,k4",
            "data,b,2099-12-31T23:59:59.999999Z,-999999999999.99999999,8,k5",
        )
    )
    assert counts(report) == (5, 5, 0, 0)
    assert stored() == [
        ("data", "b", "2000-01-01 00:00:00.000", "0", 7),
        ("data", "a", "2026-11-15 21:00:00.000", "0.12345678", 0),
        ("voice", "a", "2026-11-15 22:30:00.250", "-5.00", 4294967296),
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
    report = imported(path, zone="Europe/London")
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


@pytest.mark.one_server("it counts records already known as added")
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


@pytest.mark.one_server("it counts records already known as added")
def test_another_date_is_another_record_and_another_price_is_not(directory: Path) -> None:
    imported(write_records(directory / "usage.csv", DATA))
    report = imported(
        write_records(
            directory / "usage.csv",
            "data,a,2026-11-15T21:00:00Z,9,512,k1",
            "data,a,2026-11-15T21:00:01Z,7,512,k1",
        )
    )
    assert counts(report) == (2, 1, 0, 0)
    assert report.differing == 1
    assert [(row[2], row[3]) for row in stored()] == [
        ("2026-11-15 21:00:00.000", "0.00000001"),
        ("2026-11-15 21:00:01.000", "7"),
    ]


@pytest.mark.usefixtures("small_batches")
@pytest.mark.one_server("it counts records already known as added")
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


def test_a_dry_run_writes_nothing(directory: Path) -> None:
    path = write_records(directory / "usage.csv", DATA, "data,a,never,1,1,k", VOICE)
    report = imported(path, dry_run=True)
    assert counts(report) == (3, 2, 0, 1)
    assert str(report).startswith(
        "3 read, 2 would be added, 0 already known, 0 differing, 1 rejected in "
    )
    assert report.touched() == "It would touch 1 day: 2026-11-15."
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
    # The default partition of data already has a record of the 16th, so it keeps this day.
    assert partition_days("usage_datausagerecord") == [date(2026, 11, 15), date(2026, 11, 17)]
    assert run_sql("SELECT count(*) FROM usage_datausagerecord_default") == [(2,)]
