"""Totals of months and of all days. The first refresh fills them; until then nothing reads them."""

from django.db import migrations, models

from usage.sql.migration_operations import SQLObject


class Migration(migrations.Migration):
    dependencies = [("usage", "0004_read_sealed_days")]

    operations = [
        migrations.CreateModel(
            name="PeriodTotal",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "subscription_id",
                        "period",
                        "usage_type",
                        blank=True,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("period", models.DateField()),
                ("usage_type", models.TextField(choices=[("data", "Data"), ("voice", "Voice")])),
                ("total_price", models.DecimalField(decimal_places=8, max_digits=1000)),
                ("total_usage", models.BigIntegerField()),
                ("record_count", models.BigIntegerField()),
                ("is_largest", models.BooleanField()),
            ],
            options={
                "db_table": "usage_period_total",
                "managed": False,
            },
        ),
        migrations.AddField(
            model_name="usagestate",
            name="open_digest",
            field=models.DecimalField(
                db_comment="Fingerprint of usage_daily_open as the last refresh left it; NULL: period totals are not filled yet.",
                decimal_places=8,
                max_digits=1000,
                null=True,
            ),
        ),
        SQLObject("usage_period_total", to=1, drop="DROP TABLE usage_period_total"),
        SQLObject(
            "usage_refresh_daily_open", to=1, drop="DROP FUNCTION usage_refresh_daily_open()"
        ),
        SQLObject(
            "usage_daily_open_touched_by",
            to=1,
            drop="DROP FUNCTION usage_daily_open_touched_by(xid8)",
        ),
    ]
