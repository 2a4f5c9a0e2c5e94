"""Tables of sealed days and late keys, and the triggers that capture late keys."""

from django.db import migrations, models

from usage.sql.migration_operations import SQLObject

DROP_CAPTURE = (
    "\n".join(
        f"DROP TRIGGER usage_log_late_keys_{event} ON {table};"
        for table in ["usage_datausagerecord", "usage_voiceusagerecord"]
        for event in ["insert", "update", "delete", "truncate"]
    )
    + "\nDROP FUNCTION usage_log_late_keys()"
)


class Migration(migrations.Migration):
    dependencies = [
        ("usage", "0002_daily_totals"),
    ]

    operations = [
        migrations.CreateModel(
            name="LateKey",
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
            ],
            options={
                "db_table": "usage_late_key",
                "managed": False,
            },
        ),
        migrations.CreateModel(
            name="LiveDailyUsage",
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
                "db_table": "usage_daily_live",
                "managed": False,
            },
        ),
        migrations.CreateModel(
            name="SealedDailyUsage",
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
                "db_table": "usage_daily_sealed",
                "managed": False,
            },
        ),
        migrations.AddField(
            model_name="refreshrun",
            name="days_sealed",
            field=models.IntegerField(db_comment="Days sealed by the run.", default=0),
        ),
        migrations.AddField(
            model_name="refreshrun",
            name="keys_repaired",
            field=models.BigIntegerField(
                db_comment="Late keys computed again from the raw records.", default=0
            ),
        ),
        migrations.AddField(
            model_name="refreshrun",
            name="rows_changed",
            field=models.BigIntegerField(
                db_comment="Rows of usage_daily_open that the run wrote.", null=True
            ),
        ),
        migrations.AddField(
            model_name="refreshrun",
            name="sealed_before",
            field=models.DateField(
                db_comment="Days before it were sealed after the run; NULL if none were.", null=True
            ),
        ),
        migrations.AddField(
            model_name="usagestate",
            name="fence",
            field=models.BigIntegerField(
                db_comment="Transaction id: once every older one has ended, fence_day may be reached.",
                null=True,
            ),
        ),
        migrations.AddField(
            model_name="usagestate",
            name="fence_day",
            field=models.DateField(
                db_comment="Up to which day (excluded) the passed fence allows to seal.", null=True
            ),
        ),
        migrations.AddField(
            model_name="usagestate",
            name="raw_fence",
            field=models.BigIntegerField(
                db_comment="Transaction id: once every older one has ended, closed days may be dropped.",
                null=True,
            ),
        ),
        migrations.AddField(
            model_name="usagestate",
            name="raw_kept_from",
            field=models.DateField(
                db_comment="Raw records of days before it are dropped; NULL if none are.", null=True
            ),
        ),
        migrations.AddField(
            model_name="usagestate",
            name="sealed_before",
            field=models.DateField(
                db_comment="Days before it are sealed; NULL if no day ever was.", null=True
            ),
        ),
        migrations.AddField(
            model_name="refreshrun",
            name="keys_differing",
            field=models.IntegerField(
                db_comment="Keys whose total differed in an audit; NULL: no audit.", null=True
            ),
        ),
        migrations.AddField(
            model_name="refreshrun",
            name="subscriptions_audited",
            field=models.IntegerField(
                db_comment="Subscriptions an audit compared; NULL: every one, or no audit.",
                null=True,
            ),
        ),
        migrations.AlterField(
            model_name="refreshrun",
            name="trigger",
            field=models.TextField(
                choices=[
                    ("schedule", "Schedule"),
                    ("command", "Command"),
                    ("api", "Api"),
                    ("retention", "Retention"),
                    ("audit", "Audit"),
                ],
                db_comment="The origin of the run: schedule, command, api, retention or audit.",
            ),
        ),
        SQLObject("usage_daily_sealed", to=1, drop="DROP TABLE usage_daily_sealed"),
        SQLObject("usage_late_key", to=1, drop="DROP TABLE usage_late_key"),
        SQLObject("usage_logging_before", to=1, drop="DROP SEQUENCE usage_logging_before"),
        SQLObject("usage_raw_kept_from", to=1, drop="DROP SEQUENCE usage_raw_kept_from"),
        SQLObject("usage_log_late_keys", to=1, drop=DROP_CAPTURE),
    ]
