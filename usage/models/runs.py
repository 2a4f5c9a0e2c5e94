"""The state of the totals, and the runs of the refresh."""

from datetime import date

from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.functions import RandomUUID
from django.db import models
from django.db.models import Q


class LateKeysMode(models.TextChoices):
    """How changes of days that are over are handled: logged by triggers, or refused in a window."""

    TRIGGERS = "triggers"
    WINDOW = "window"


class UsageState(models.Model):
    """The one row of usage_state: as_of, the marks between the states of days, the time zone."""

    id = models.SmallIntegerField(primary_key=True, default=1, db_comment="Always 1.")
    time_zone = models.TextField(db_comment="IANA zone in which days are cut.")
    as_of = models.DateTimeField(
        null=True,
        db_comment="Every record committed by then is in the totals; NULL if never filled.",
    )
    sealed_before = models.DateField(
        null=True, db_comment="Days before it are sealed; NULL if no day ever was."
    )
    fence = models.BigIntegerField(
        null=True,
        db_comment="Transaction id: once every older one has ended, fence_day may be reached.",
    )
    fence_day = models.DateField(
        null=True, db_comment="Up to which day (excluded) the passed fence allows to seal."
    )
    raw_kept_from = models.DateField(
        null=True, db_comment="Raw records of days before it are dropped; NULL if none are."
    )
    raw_fence = models.BigIntegerField(
        null=True,
        db_comment="Transaction id: once every older one has ended, closed days may be dropped.",
    )
    reached_day = models.DateField(
        null=True,
        db_comment="The day that retention takes for today: one prune moves it by at most 3 days.",
    )
    open_digest = models.DecimalField(
        max_digits=1000,
        decimal_places=8,
        null=True,
        db_comment="Fingerprint of usage_daily_open as the last refresh left it; NULL: period "
        "totals are not filled yet.",
    )
    late_keys = models.TextField(
        choices=LateKeysMode.choices,
        default=LateKeysMode.TRIGGERS,
        db_default=LateKeysMode.TRIGGERS,
        db_comment="How changes of days that are over are noticed: triggers, or window (open days "
        "are all that can change).",
    )
    capture_digest = models.UUIDField(
        null=True,
        db_comment="Fingerprint of the triggers on raw tables as the last refresh saw them; NULL: "
        "none looked yet.",
    )
    unaudited_days = ArrayField(
        models.DateField(),
        null=True,
        db_comment="Sealed days that may miss changes, since a trigger was off: each refresh "
        "computes one of them again. NULL: none.",
    )
    paused_at = models.DateTimeField(
        null=True, db_comment="Since when refreshes are paused; NULL if they are not."
    )
    uuid = models.UUIDField(
        db_default=RandomUUID(),
        editable=False,
        db_comment="Identifies the data of this database; a dump and a replica have the same.",
    )
    timeline = models.IntegerField(
        null=True, db_comment="Timeline of the server at the last refresh; NULL if there was none."
    )
    place = models.TextField(
        blank=True,
        default="",
        db_default="",
        db_comment="Server, database and file of usage_period_total at the last refresh; empty if "
        "there was none.",
    )

    class Meta:
        db_table = "usage_state"
        db_table_comment = "One row: the state of the daily totals, written by the refresh."
        constraints = [
            models.CheckConstraint(condition=Q(id=1), name="usage_state_has_one_row"),
        ]

    @property
    def is_window(self) -> bool:
        """Return whether no record can be late, so that no late key is captured."""
        return self.late_keys == LateKeysMode.WINDOW

    @property
    def unaudited(self) -> list[date]:
        """Return the sealed days that may miss changes, in the order in which they are audited."""
        return list(self.unaudited_days or [])

    @property
    def has_days_to_seal(self) -> bool:
        """Return whether days that are over wait for their fence, or for a refresh to seal them."""
        return self.fence_day is not None and self.fence_day > (self.sealed_before or date.min)


class RefreshRun(models.Model):
    """One run of the refresh, kept for 90 days or 100,000 runs."""

    class Trigger(models.TextChoices):
        """The origin of the run."""

        SCHEDULE = "schedule"
        COMMAND = "command"
        API = "api"
        RETENTION = "retention"
        AUDIT = "audit"

    class Status(models.TextChoices):
        """The state of the run."""

        QUEUED = "queued"
        RUNNING = "running"
        SUCCESS = "success"
        SKIPPED = "skipped"
        FAILED = "failed"

    id = models.BigAutoField(primary_key=True, db_comment="Identifies the run.")
    trigger = models.TextField(
        choices=Trigger.choices,
        db_comment="The origin of the run: schedule, command, api, retention or audit.",
    )
    status = models.TextField(
        choices=Status.choices,
        default=Status.RUNNING,
        db_comment="queued (until the worker takes it), running, success, skipped (another run was "
        "on, or paused) or failed.",
    )
    started_at = models.DateTimeField(
        db_comment="When the run began; of a queued run, when it was requested."
    )
    finished_at = models.DateTimeField(null=True, db_comment="When it ended; NULL while it runs.")
    as_of = models.DateTimeField(null=True, db_comment="The as_of of the totals after the run.")
    open_rows = models.BigIntegerField(
        null=True, db_comment="Rows of usage_daily_open after the run."
    )
    rows_changed = models.BigIntegerField(
        null=True, db_comment="Rows of usage_daily_open that the run wrote."
    )
    keys_repaired = models.BigIntegerField(
        default=0, db_comment="Late keys computed again from the raw records."
    )
    days_sealed = models.IntegerField(default=0, db_comment="Days sealed by the run.")
    sealed_before = models.DateField(
        null=True, db_comment="Days before it were sealed after the run; NULL if none were."
    )
    subscriptions_audited = models.IntegerField(
        null=True, db_comment="Subscriptions an audit compared; NULL: every one, or no audit."
    )
    keys_differing = models.IntegerField(
        null=True, db_comment="Keys whose total differed in an audit; NULL: no audit."
    )
    phases = models.JSONField(default=dict, db_comment="Seconds by phase, in the order they ran.")
    error = models.TextField(default="", blank=True, db_comment="Why it failed or was skipped.")
    remark = models.TextField(
        default="",
        db_default="",
        blank=True,
        db_comment="Problems that a successful run found and repaired, or could not finish.",
    )

    class Meta:
        db_table = "usage_refreshrun"
        db_table_comment = "One row per run of the refresh."
        constraints = [
            models.UniqueConstraint(
                fields=["status"],
                condition=Q(status="queued"),
                name="usage_refreshrun_one_queued",
            ),
        ]
        indexes = [
            models.Index(fields=["-started_at"], name="usage_refreshrun_started"),
            models.Index(
                fields=["-finished_at"],
                condition=Q(status="success"),
                name="usage_refreshrun_success",
            ),
        ]

    @property
    def seconds(self) -> float | None:
        """Return the duration of the run, or None while it runs."""
        return (self.finished_at - self.started_at).total_seconds() if self.finished_at else None

    def add_remark(self, text: str) -> None:
        """Add a sentence to the remark, unless it is empty or already there."""
        if text and text not in self.remark:
            self.remark = f"{self.remark} {text.rstrip('.')}.".lstrip()

    def __str__(self) -> str:
        return f"{self.status} refresh of {self.started_at:%Y-%m-%d %H:%M:%S}"


class RefreshTally(models.Model):
    """Sums over all runs that have ended. They only grow.

    Old runs are deleted, but a rate in Prometheus needs sums that never shrink.
    """

    pk = models.CompositePrimaryKey("name", "label")
    name = models.TextField(db_comment="The counted event, see usage.services.totals.tallies.")
    label = models.TextField(
        db_comment="Which part: a status, a phase, the bound of a bucket; empty if there is one."
    )
    value = models.FloatField(db_comment="The sum over all runs that have ended.")

    class Meta:
        db_table = "usage_refreshtally"
        db_table_comment = "One row per number that /metrics counts over the runs of the refresh."
