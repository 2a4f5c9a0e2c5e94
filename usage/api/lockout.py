"""The lockout of an address that guesses passwords.

django-axes stores failures by user name, address and browser. The limit applies to the sum of an
address, so it holds for guesses at one user name and at many.
"""

from axes.handlers.database import AxesDatabaseHandler
from axes.helpers import get_client_username
from axes.models import AccessAttempt
from django.conf import settings
from django.http import HttpRequest, HttpResponse


class Failures(AxesDatabaseHandler):
    """The failures of an address. A successful login deletes only those of its own user name.

    axes would delete all failures of the address. With an account of their own, guessers could then
    try other people's passwords without limit.
    """

    def reset_user_attempts(
        self, request: HttpRequest, credentials: dict[str, str] | None = None
    ) -> int:
        """Delete the failures of this user name at this address, and return their number."""
        own = AccessAttempt.objects.filter(
            username=get_client_username(request, credentials),
            ip_address=request.axes_ip_address,  # type: ignore[attr-defined]
        )
        count, _ = own.delete()
        return count


def locked_out(request: HttpRequest, *_: object) -> HttpResponse:
    """Return the response to an address with too many failures."""
    seconds = int(settings.AXES_COOLOFF_TIME.total_seconds())
    return HttpResponse(
        f"Too many wrong passwords came from your address. Try again in {seconds // 60} minutes.",
        status=429,
        content_type="text/plain; charset=utf-8",
        headers={"Retry-After": str(seconds)},
    )
