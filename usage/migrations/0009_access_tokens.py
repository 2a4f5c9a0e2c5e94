"""Tokens with scopes, which store the digest of the key only. Older tokens are dropped, since
their keys were stored in plain text."""

import django.contrib.postgres.fields
import django.db.models.deletion
import django.db.models.functions.datetime
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("usage", "0008_refresh_tally"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="AccessToken",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        db_comment="Identifies the token to operators.",
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                (
                    "digest",
                    models.CharField(
                        db_comment="SHA-256 of the key, in hexadecimal.",
                        editable=False,
                        max_length=64,
                        unique=True,
                    ),
                ),
                (
                    "name",
                    models.CharField(
                        db_comment="The purpose of the token, in the operator's words.",
                        max_length=100,
                    ),
                ),
                (
                    "scopes",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.TextField(
                            choices=[
                                ("usage:read", "read the usage of every subscription"),
                                (
                                    "usage:read:own",
                                    "read the usage of the subscriptions that the token's user owns",
                                ),
                                ("refresh:read", "read the history of refreshes"),
                                ("refresh:run", "ask for a refresh"),
                            ]
                        ),
                        db_comment="The scope: the requests that the token allows.",
                        size=None,
                    ),
                ),
                (
                    "created_at",
                    models.DateTimeField(
                        db_comment="When it was made.",
                        db_default=django.db.models.functions.datetime.Now(),
                        editable=False,
                    ),
                ),
                (
                    "expires_at",
                    models.DateTimeField(
                        blank=True, db_comment="From when on it is refused; NULL: never.", null=True
                    ),
                ),
                (
                    "last_used_at",
                    models.DateTimeField(
                        db_comment="When it was last used, to the minute; NULL: never.",
                        editable=False,
                        null=True,
                    ),
                ),
                (
                    "revoked_at",
                    models.DateTimeField(
                        db_comment="When it was revoked; NULL if it was not.",
                        editable=False,
                        null=True,
                    ),
                ),
                (
                    "user",
                    models.ForeignKey(
                        db_comment="The user it belongs to (auth_user.id).",
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="access_tokens",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={
                "db_table": "usage_accesstoken",
                "db_table_comment": "One row per token of a machine client.",
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(
                            ("scopes__len__gt", 0),
                            (
                                "scopes__contained_by",
                                ["usage:read", "usage:read:own", "refresh:read", "refresh:run"],
                            ),
                        ),
                        name="usage_accesstoken_known_scopes",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("scopes__contains", ["usage:read", "usage:read:own"]), _negated=True
                        ),
                        name="usage_accesstoken_all_or_own",
                    ),
                ],
            },
        ),
        migrations.RunSQL("DROP TABLE IF EXISTS authtoken_token", migrations.RunSQL.noop),
    ]
