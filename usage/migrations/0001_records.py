"""Subscriptions, and their raw usage records."""

import django.db.models.deletion
import django.db.models.functions
from django.conf import settings
from django.db import migrations, models

from usage import sql
from usage.sql.migration_operations import SQLObject, record_model


class Migration(migrations.Migration):
    initial = True

    dependencies = [migrations.swappable_dependency(settings.AUTH_USER_MODEL)]

    operations = [
        migrations.CreateModel(
            name="Subscription",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        primary_key=True,
                        serialize=False,
                        db_comment="Identifies the subscription in every relation of usage.",
                    ),
                ),
                (
                    "external_id",
                    models.CharField(
                        max_length=100,
                        unique=True,
                        db_comment="Its name elsewhere, for example a phone number.",
                    ),
                ),
                (
                    "created_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.Now(),
                        editable=False,
                        db_comment="When it was made here.",
                    ),
                ),
                (
                    "owner",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="subscriptions",
                        to=settings.AUTH_USER_MODEL,
                        db_comment="The user it belongs to, if any (auth_user.id).",
                    ),
                ),
            ],
            options={
                "db_table": "usage_subscription",
                "db_table_comment": "One row per subscription that usage is charged to.",
            },
        ),
        SQLObject(
            "usage_datausagerecord",
            to=1,
            drop="DROP TABLE usage_datausagerecord",
            state_operations=[
                record_model("DataUsageRecord", "usage_datausagerecord", "kilobytes_used")
            ],
        ),
        migrations.RunSQL(
            sql.VOICE.written(sql.read("usage_datausagerecord", 1)),
            "DROP TABLE usage_voiceusagerecord",
            state_operations=[
                record_model("VoiceUsageRecord", "usage_voiceusagerecord", "seconds_used")
            ],
        ),
    ]
