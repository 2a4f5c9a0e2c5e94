"""Tokens of machine clients. Only the digest of a key is stored, so the key can't be read here."""

import hashlib

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now


class Scope(models.TextChoices):
    """A right of a token."""

    READ = "usage:read", "read the usage of every subscription"
    READ_OWN = "usage:read:own", "read the usage of the subscriptions that the token's user owns"
    REFRESH_READ = "refresh:read", "read the history of refreshes"
    REFRESH_RUN = "refresh:run", "ask for a refresh"


def digest_of(key: str) -> str:
    """Return the digest that is stored for a key. A key has 256 random bits, so a plain hash can't
    be reversed. A slow hash, as for passwords, would cost a request more than all its other work.
    """
    return hashlib.sha256(key.encode()).hexdigest()


class AccessToken(models.Model):
    """A token, with which a client sends requests in the name of its user, within its scopes."""

    id = models.BigAutoField(primary_key=True, db_comment="Identifies the token to operators.")
    digest = models.CharField(
        max_length=64, unique=True, editable=False, db_comment="SHA-256 of the key, in hexadecimal."
    )
    name = models.CharField(
        max_length=100, db_comment="The purpose of the token, in the operator's words."
    )
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.CASCADE,
        related_name="access_tokens",
        db_comment="The user it belongs to (auth_user.id).",
    )
    scopes = ArrayField(
        models.TextField(choices=Scope.choices),
        db_comment="The scope: the requests that the token allows.",
    )
    created_at = models.DateTimeField(
        db_default=Now(), editable=False, db_comment="When it was made."
    )
    expires_at = models.DateTimeField(
        null=True, blank=True, db_comment="From when on it is refused; NULL: never."
    )
    last_used_at = models.DateTimeField(
        null=True, editable=False, db_comment="When it was last used, to the minute; NULL: never."
    )
    revoked_at = models.DateTimeField(
        null=True, editable=False, db_comment="When it was revoked; NULL if it was not."
    )

    class Meta:
        db_table = "usage_accesstoken"
        db_table_comment = "One row per token of a machine client."
        constraints = [
            models.CheckConstraint(
                condition=Q(scopes__len__gt=0) & Q(scopes__contained_by=Scope.values),
                name="usage_accesstoken_known_scopes",
            ),
            models.CheckConstraint(
                condition=~Q(scopes__contains=[Scope.READ, Scope.READ_OWN]),
                name="usage_accesstoken_all_or_own",
            ),
        ]

    def __str__(self) -> str:
        return self.name
