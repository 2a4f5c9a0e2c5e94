"""Daily totals: usage_day(), the materialized view, the view for readers, state and runs."""

from django.conf import settings
from django.db import migrations, models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.state import StateApps

from usage.sql.migration_operations import SQLObject


def choose_time_zone(_apps: StateApps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Set the session setting from which the files of usage_day and its bounds read the zone."""
    schema_editor.execute(
        "SELECT set_config('usage.time_zone', %s, true)", [settings.USAGE_TIME_ZONE]
    )


def start_state(_apps: StateApps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Insert the state. as_of is now: this transaction fills the view from tables that it made."""
    schema_editor.execute(
        "INSERT INTO usage_state (id, time_zone, as_of) VALUES (1, %s, now())",
        [settings.USAGE_TIME_ZONE],
    )


class Migration(migrations.Migration):
    dependencies = [("usage", "0001_records")]

    operations = [
        migrations.RunPython(choose_time_zone, migrations.RunPython.noop),
        migrations.CreateModel(
            name="DailyUsage",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "subscription_id",
                        "day",
                        "usage_type",
                        blank=True,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("day", models.DateField()),
                ("usage_type", models.TextField(choices=[("data", "Data"), ("voice", "Voice")])),
                ("total_price", models.DecimalField(decimal_places=8, max_digits=1000)),
                ("total_usage", models.BigIntegerField()),
                ("record_count", models.BigIntegerField()),
                ("last_usage_at", models.DateTimeField()),
            ],
            options={
                "db_table": "usage_daily",
                "managed": False,
            },
        ),
        migrations.CreateModel(
            name="OpenDailyUsage",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "subscription_id",
                        "day",
                        "usage_type",
                        blank=True,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("day", models.DateField()),
                ("usage_type", models.TextField(choices=[("data", "Data"), ("voice", "Voice")])),
                ("total_price", models.DecimalField(decimal_places=8, max_digits=1000)),
                ("total_usage", models.BigIntegerField()),
                ("record_count", models.BigIntegerField()),
                ("last_usage_at", models.DateTimeField()),
                ("always_null", models.BooleanField(null=True)),
            ],
            options={
                "db_table": "usage_daily_open",
                "managed": False,
            },
        ),
        migrations.CreateModel(
            name="RefreshRun",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        db_comment="Identifies the run.", primary_key=True, serialize=False
                    ),
                ),
                (
                    "trigger",
                    models.TextField(
                        choices=[("schedule", "Schedule"), ("command", "Command"), ("api", "Api")],
                        db_comment="The origin of the run: schedule, command, api, retention or audit.",
                    ),
                ),
                (
                    "status",
                    models.TextField(
                        choices=[
                            ("running", "Running"),
                            ("success", "Success"),
                            ("skipped", "Skipped"),
                            ("failed", "Failed"),
                        ],
                        db_comment="running, success, skipped (another run was on, or paused) or failed.",
                        default="running",
                    ),
                ),
                ("started_at", models.DateTimeField(db_comment="When the run began.")),
                (
                    "finished_at",
                    models.DateTimeField(
                        db_comment="When it ended; NULL while it runs.", null=True
                    ),
                ),
                (
                    "as_of",
                    models.DateTimeField(
                        db_comment="The as_of of the totals after the run.", null=True
                    ),
                ),
                (
                    "open_rows",
                    models.BigIntegerField(
                        db_comment="Rows of usage_daily_open after the run.", null=True
                    ),
                ),
                (
                    "phases",
                    models.JSONField(
                        db_comment="Seconds by phase, in the order they ran.", default=dict
                    ),
                ),
                (
                    "error",
                    models.TextField(
                        blank=True, db_comment="Why it failed or was skipped.", default=""
                    ),
                ),
            ],
            options={
                "db_table": "usage_refreshrun",
                "db_table_comment": "One row per run of the refresh.",
                "indexes": [
                    models.Index(fields=["-started_at"], name="usage_refreshrun_started"),
                    models.Index(
                        condition=models.Q(("status", "success")),
                        fields=["-finished_at"],
                        name="usage_refreshrun_success",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="UsageState",
            fields=[
                (
                    "id",
                    models.SmallIntegerField(
                        db_comment="Always 1.", default=1, primary_key=True, serialize=False
                    ),
                ),
                ("time_zone", models.TextField(db_comment="IANA zone in which days are cut.")),
                (
                    "as_of",
                    models.DateTimeField(
                        db_comment="Every record committed by then is in the totals; NULL if never filled.",
                        null=True,
                    ),
                ),
                (
                    "paused_at",
                    models.DateTimeField(
                        db_comment="Since when refreshes are paused; NULL if they are not.",
                        null=True,
                    ),
                ),
            ],
            options={
                "db_table": "usage_state",
                "db_table_comment": "One row: the state of the daily totals, written by the refresh.",
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("id", 1)), name="usage_state_has_one_row"
                    )
                ],
            },
        ),
        migrations.RunPython(start_state, migrations.RunPython.noop),
        SQLObject("usage_day", to=1, drop="DROP FUNCTION usage_day(timestamptz)"),
        SQLObject("usage_day_start", to=1, drop="DROP FUNCTION usage_day_start(date)"),
        SQLObject("usage_day_end", to=1, drop="DROP FUNCTION usage_day_end(date)"),
        SQLObject("usage_refresh_lock", to=1, drop="DROP TABLE usage_refresh_lock"),
        # Roles belong to the server: another database may use this role, so going back keeps it.
        SQLObject("usage_analyst", to=1, drop="SELECT 1"),
        SQLObject("usage_daily_open", to=1, drop="DROP MATERIALIZED VIEW usage_daily_open"),
        SQLObject("usage_daily", to=1, drop="DROP VIEW usage_daily"),
        SQLObject(
            "usage_subscription_keep_used",
            to=1,
            drop="DROP TRIGGER usage_subscription_keep_used ON usage_subscription;"
            " DROP FUNCTION usage_subscription_keep_used()",
        ),
    ]
