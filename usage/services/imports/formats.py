"""The file formats of imports: they parse a row into a record."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from zoneinfo import ZoneInfo

from usage.errors import ImportFileError
from usage.models import UsageType
from usage.services.imports.fields import (
    SEPARATOR,
    Column,
    LineRejectedError,
    ValueReader,
    text_column,
    unusable,
)
from usage.services.imports.lines import Lines
from usage.services.imports.values import (
    EARLIEST,
    MOST_QUANTITY,
    Moments,
    local_moment,
    pence_to_units,
    record_id_maker,
)

# usage_type; external_id; the text for COPY: usage_date, quantity, price and id, each after a tab;
# usage_date in seconds since 1970.
Parsed = tuple[str, str, str, float]

QUANTITY = Column("quantity", r"\d{1,13}", f"a whole number from 0 to {MOST_QUANTITY}")
RECORD_COLUMNS = [
    Column("usage_type", "|".join(UsageType.values), " or ".join(UsageType.values)),
    text_column("external_id", 100),
    Column(
        "usage_date",
        r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:\.\d{1,6})?)?"
        r"(?:Z|[+-](?:0\d|1[0-5])(?::?[0-5]\d)?)?",
        "a moment such as 2026-11-15T21:00:00+00:00",
    ),
    Column(
        "price",
        r"-?\d{1,12}(?:\.\d{1,8})?",
        "a plain decimal number with at most 12 digits before the point and 8 behind it",
    ),
    QUANTITY,
    text_column("record_key", 200),
]

DAY, A_DAY = r"\d\d/\d\d/\d{4}", "a day such as 15/11/2026"
TIME, A_TIME = r"\d\d:\d\d:\d\d", "a time such as 21:00:00"
CALL_COLUMNS = [
    text_column("call_id", 50),
    text_column("phone_number", 100),
    text_column("line", 50),
    text_column("destination_number", 100),
    Column("start_date", DAY, A_DAY),
    Column("end_date", DAY, A_DAY),
    Column("start_time", TIME, A_TIME),
    Column("end_time", TIME, A_TIME),
    text_column("call_type", 50),
    Column(
        "cost",
        r"-?\d{1,14}(?:\.\d{1,6})?",
        "pence with at most 14 digits before the point and 6 behind it",
    ),
]


@dataclass(frozen=True)
class LineFormat:
    """The header with the column names, and the function that parses the values of a row into a
    record or raises LineRejectedError with the reason."""

    header: str
    parse: Callable[[list[str]], Parsed]


def records_format(lines: Lines, source: str, moments: Moments) -> LineFormat:
    """Return the format of our own CSV: a header, and the RECORD_COLUMNS in any order. Other
    columns are ignored."""
    _, header, values, _ = lines.peek()
    lines.skip()
    names = [value.strip() for value in values]
    if why := unusable(names, RECORD_COLUMNS):
        wanted = ", ".join(column.name for column in RECORD_COLUMNS)
        raise ImportFileError(f"{lines.name}: line 1 must name each column once: {wanted}. {why}.")
    zone, latest = moments.zone, moments.latest
    read, record_id = ValueReader(names, RECORD_COLUMNS).read, record_id_maker(source)

    def parse(values: list[str]) -> Parsed:
        usage_type, external_id, usage_date, price, quantity, record_key = read(values)
        if int(quantity) > MOST_QUANTITY:
            raise LineRejectedError(f"quantity {quantity!r} is not {QUANTITY.meaning}")
        try:
            moment = datetime.fromisoformat(usage_date)
        except ValueError as error:
            raise LineRejectedError(f"usage_date {usage_date!r} is not in the calendar") from error
        if moment.tzinfo is None:
            if zone is None:
                raise LineRejectedError(
                    f"usage_date {usage_date!r} has no offset, and no --zone was given"
                )
            moment = local_moment(moment, zone)
            usage_date = moment.isoformat()
        stamp = moment.timestamp()
        if not EARLIEST <= stamp < latest:
            raise LineRejectedError(f"usage_date {usage_date!r} {moments.refusal(stamp)}")
        stored = f"\t{usage_date}\t{quantity}\t{price}\t{record_id(record_key)}"
        return usage_type, external_id, stored, stamp

    return LineFormat(header, parse)


def calls_format(lines: Lines, source: str, moments: Moments) -> LineFormat:
    """Return the format of call records in local time. A header with the CALL_COLUMNS is optional.

    A call id occurs several times in a file, so the key of a call is its id, numbers, line and
    start.
    """
    zone = moments.zone
    if zone is None:
        raise ImportFileError("Call records have local times: name their time zone with --zone.")
    names = [column.name for column in CALL_COLUMNS]
    header = ",".join(names)
    _, first, values, _ = lines.peek()
    in_file = [value.strip() for value in values]
    if not unusable(in_file, CALL_COLUMNS):
        lines.skip()
        header, names = first, in_file
    elif first and in_file and len(in_file) != len(CALL_COLUMNS):
        raise ImportFileError(
            f"{lines.name}: line 1 must have {len(CALL_COLUMNS)} columns: {header}."
        )
    read, record_id = ValueReader(names, CALL_COLUMNS).read, record_id_maker(source)

    @lru_cache(maxsize=65_536)
    def moment_of(day: str, time: str) -> tuple[datetime, str, float]:
        moment = call_moment(day, time, zone, moments)
        return moment, moment.isoformat(), moment.timestamp()

    def parse(values: list[str]) -> Parsed:
        call_id, number, line, destination, *times, _, cost = read(values)
        start_day, end_day, start_time, end_time = times
        _, usage_date, start = moment_of(start_day, start_time)
        end_moment, _, end = moment_of(end_day, end_time)
        if end < start:  # clocks went back during the call, which ended in the repeated hour
            end = end_moment.replace(fold=1).timestamp()
        if end < start:
            raise LineRejectedError(
                f"the call ends at {end_day} {end_time}, before it starts at"
                f" {start_day} {start_time}"
            )
        key = SEPARATOR.join((call_id, number, line, destination, start_day, start_time))
        price = pence_to_units(cost)
        stored = f"\t{usage_date}\t{end - start:.0f}\t{price}\t{record_id(key)}"
        return UsageType.VOICE.value, number, stored, start

    return LineFormat(header, parse)


RECORDS, CALLS = "records", "calls"
FORMATS: dict[str, Callable[[Lines, str, Moments], LineFormat]] = {
    RECORDS: records_format,
    CALLS: calls_format,
}


def call_moment(day: str, time: str, zone: ZoneInfo, moments: Moments) -> datetime:
    """Return the moment of a local time such as 15/11/2026 21:00:00; see local_moment."""
    try:
        local = datetime.fromisoformat(f"{day[6:]}-{day[3:5]}-{day[:2]}T{time}")
    except ValueError as error:
        raise LineRejectedError(f"{day} {time} is not in the calendar") from error
    moment = local_moment(local, zone)
    stamp = moment.timestamp()
    if not EARLIEST <= stamp < moments.latest:
        raise LineRejectedError(f"{day} {time} {moments.refusal(stamp)}")
    return moment
