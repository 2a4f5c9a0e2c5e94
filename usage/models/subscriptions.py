from django.conf import settings
from django.db import models
from django.db.models.functions import Now


class Subscription(models.Model):
    """The account that usage is charged to, for example a phone line.

    The database refuses to delete a subscription that has usage.
    """

    id = models.BigAutoField(
        primary_key=True, db_comment="Identifies the subscription in every relation of usage."
    )
    external_id = models.CharField(
        max_length=100, unique=True, db_comment="Its name elsewhere, for example a phone number."
    )
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="subscriptions",
        db_comment="The user it belongs to, if any (auth_user.id).",
    )
    created_at = models.DateTimeField(
        db_default=Now(), editable=False, db_comment="When it was made here."
    )

    class Meta:
        db_table = "usage_subscription"
        db_table_comment = "One row per subscription that usage is charged to."

    def __str__(self) -> str:
        return self.external_id
