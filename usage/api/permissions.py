"""Who may ask."""

from rest_framework.permissions import IsAuthenticated


class MayReadUsage(IsAuthenticated):
    """May read every subscription: anyone who signed in."""
