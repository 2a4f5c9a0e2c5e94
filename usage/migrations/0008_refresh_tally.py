"""Sums over all runs for /metrics, since old runs are deleted."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("usage", "0007_roles"),
    ]

    operations = [
        migrations.CreateModel(
            name="RefreshTally",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "name",
                        "label",
                        blank=True,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                (
                    "name",
                    models.TextField(
                        db_comment="The counted event, see usage.services.totals.tallies."
                    ),
                ),
                (
                    "label",
                    models.TextField(
                        db_comment="Which part: a status, a phase, the bound of a bucket; empty if there is one."
                    ),
                ),
                ("value", models.FloatField(db_comment="The sum over all runs that have ended.")),
            ],
            options={
                "db_table": "usage_refreshtally",
                "db_table_comment": "One row per number that /metrics counts over the runs of the refresh.",
            },
        ),
    ]
