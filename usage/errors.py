"""Errors of the read model. The docstring of a class is its default message."""

import inspect
from typing import Any


class UsageError(Exception):
    """An error of the usage read model."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or inspect.cleandoc(type(self).__doc__ or "").replace("\n", " "))


class ReadOnlyModelError(UsageError):
    """Daily totals are computed by the refresh and cannot be written. Change the raw usage
    records instead and run: manage.py refresh_usage"""


class TotalsNotFilledError(UsageError):
    """The totals were never filled. Run: manage.py refresh_usage"""


class StaleTotalsError(UsageError):
    """The totals are older than max_staleness allows. Ask again after the next refresh, allow older
    totals, or name subscriptions (subscription_id, external_id) for a live answer."""


class SumTooLargeError(UsageError):
    """Usage adds up to more than 2^63 - 1, the largest bigint."""


class RecordsDroppedError(UsageError):
    """The raw records of that day are dropped. Its daily totals stay."""


class SettingChangedError(UsageError):
    """A setting differs from the value with which this database was made."""


class TimeZoneChangedError(SettingChangedError):
    """USAGE_TIME_ZONE differs from the zone the daily totals are cut in."""


class TimeZoneMisreadError(UsageError):
    """PostgreSQL's offsets in USAGE_TIME_ZONE differ from those of the IANA zone of that name."""


class EncodingError(UsageError):
    """The encoding of the database is not UTF8, so it can't store every name."""


class NoTimeLimitError(UsageError):
    """The statements of web requests have no time limit."""


class LateKeysChangedError(SettingChangedError):
    """USAGE_LATE_KEYS differs from the late keys mode of this database."""


class UnknownSubscriptionError(UsageError):
    """A usage record names a subscription that does not exist. Make the subscription first."""


class AmbiguousSubscriptionError(UsageError):
    """Several subscriptions match that name. Name one by its id or its external_id."""


class RefreshRunningError(UsageError):
    """A refresh or partition maintenance is running. Wait for it to end (manage.py usage_status
    shows it), then try again."""


class RawTableLockedError(UsageError):
    """A raw table stayed locked. A TRUNCATE or ALTER TABLE is under way (see pg_stat_activity); the
    next run tries again."""


class IndexesHeldError(UsageError):
    """An index was not built anew: a transaction stayed open for too long (manage.py usage_status
    names the oldest). Beat's worker tries again for an hour, and then the next day."""


class RefreshInProgressError(UsageError):
    """A refresh is queued or running: the run in the attribute `run`."""

    def __init__(self, run: Any) -> None:
        super().__init__(f"Refresh {run.pk} is {run.status} already. Wait for it to end.")
        self.run = run


class BrokerAwayError(UsageError):
    """The broker cannot be reached, so no worker gets the message. Check REDIS_URL and that its
    server runs."""


class RefreshFailedError(UsageError):
    """The refresh failed. The earlier totals stay."""


class RefreshPausedError(UsageError):
    """Refreshes are paused. Run: manage.py resume_refresh"""


class CaptureOffError(UsageError):
    """A trigger on a raw table is off, so changes of sealed days are not captured."""


class MisplacedTotalsError(UsageError):
    """Sealed totals and open totals overlap, so readers would count records twice."""


class SearchPathError(UsageError):
    """Triggers on the raw tables write to a schema that is not the schema of these tables."""


class DaysWithoutRecordsError(UsageError):
    """Sealed days have totals but no raw records. Reopening them would remove their totals."""


class TooManyRemovalsError(UsageError):
    """Raw records are missing: computing the day again would remove totals that are right."""


class DistributionError(UsageError):
    """The raw records cannot be spread over servers."""


class ImportFileError(UsageError):
    """The file cannot be imported. Nothing was written."""


class ExportError(UsageError):
    """The export cannot contain all rows."""


class TokenError(UsageError):
    """The token cannot be made or found."""
