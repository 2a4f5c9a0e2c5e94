"""Errors of the read model. The docstring of a class is the message when none is given."""

import inspect
from typing import Any


class UsageError(Exception):
    """The usage read model could not do what was asked."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or inspect.cleandoc(type(self).__doc__ or "").replace("\n", " "))


class ReadOnlyModelError(UsageError):
    """Daily totals are computed by the refresh and cannot be written. Change the raw usage
    records instead and run: manage.py refresh_usage"""


class TotalsNotFilledError(UsageError):
    """The totals were never filled. Run: manage.py refresh_usage"""


class StaleTotalsError(UsageError):
    """The totals are older than the question allows. Ask again after the next refresh, allow older
    totals, or name subscriptions (subscription_id, external_id) for a live answer."""


class SumTooLargeError(UsageError):
    """Usage adds up to more than 2^63 - 1, the largest bigint."""


class RecordsDroppedError(UsageError):
    """The raw records of that day are dropped. Its daily totals stay."""


class SettingChangedError(UsageError):
    """A setting differs from what this database was made with."""


class TimeZoneChangedError(SettingChangedError):
    """USAGE_TIME_ZONE differs from the zone the daily totals are cut in."""


class TimeZoneMisreadError(UsageError):
    """PostgreSQL reads another clock in USAGE_TIME_ZONE than the zone of that name has."""


class EncodingError(UsageError):
    """The database has another encoding than UTF8, and can't hold every name."""


class NoTimeLimitError(UsageError):
    """The statements of web requests have no time limit."""


class LateKeysChangedError(SettingChangedError):
    """USAGE_LATE_KEYS differs from how this database captures late keys."""


class UnknownSubscriptionError(UsageError):
    """A usage record names a subscription that does not exist. Make the subscription first."""


class AmbiguousSubscriptionError(UsageError):
    """More than one subscription goes by that name. Name it by its id or its external_id."""


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
    """A refresh is queued or running. `run` is the one."""

    def __init__(self, run: Any) -> None:
        super().__init__(f"Refresh {run.pk} is {run.status} already. Wait for it to end.")
        self.run = run


class BrokerAwayError(UsageError):
    """The broker cannot be reached, so no worker can be told. Check REDIS_URL and that its server
    runs."""


class RefreshFailedError(UsageError):
    """The refresh failed. The earlier totals stay."""


class RefreshPausedError(UsageError):
    """Refreshes are paused. Run: manage.py resume_refresh"""


class CaptureOffError(UsageError):
    """A trigger on a raw table is off, so changes of sealed days are not captured."""


class MisplacedTotalsError(UsageError):
    """Sealed totals and open totals overlap, so readers would count records twice."""


class SearchPathError(UsageError):
    """Triggers on the raw records write to another schema than the one these tables are in."""


class DaysWithoutRecordsError(UsageError):
    """Sealed days have totals and no raw record. Opened again, they would lose their totals."""


class TooManyRemovalsError(UsageError):
    """Raw records are missing: computing the day again would remove totals that are right."""


class DistributionError(UsageError):
    """The raw records cannot be spread over servers."""


class ImportFileError(UsageError):
    """The file cannot be imported. Nothing was written."""


class ExportError(UsageError):
    """The rows cannot be given whole."""


class TokenError(UsageError):
    """The token cannot be made or found."""
