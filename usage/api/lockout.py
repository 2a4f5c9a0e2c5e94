"""Stops an address that guesses passwords.

django-axes keeps failures by user name, address and browser. The limit goes by the sum of an
address, so it holds for one user name as well as for many.
"""

from axes.handlers.database import AxesDatabaseHandler
from axes.helpers import get_client_username
from axes.models import AccessAttempt
from django.conf import settings
from django.http import HttpRequest, HttpResponse


class Failures(AxesDatabaseHandler):
    """The failures of an address, of which a success deletes those of its own user name alone.

    axes would delete all failures of the address. With one account of their own, guessers could
    then try other people's passwords without end.
    """

    def reset_user_attempts(
        self, request: HttpRequest, credentials: dict[str, str] | None = None
    ) -> int:
        """How many rows were deleted."""
        own = AccessAttempt.objects.filter(
            username=get_client_username(request, credentials),
            ip_address=request.axes_ip_address,  # type: ignore[attr-defined]
        )
        count, _ = own.delete()
        return count


def locked_out(request: HttpRequest, *_: object) -> HttpResponse:
    """The response to an address with too many failures."""
    seconds = int(settings.AXES_COOLOFF_TIME.total_seconds())
    return HttpResponse(
        f"Too many wrong passwords came from your address. Try again in {seconds // 60} minutes.",
        status=429,
        content_type="text/plain; charset=utf-8",
        headers={"Retry-After": str(seconds)},
    )
