"""The one parser of the header `Authorization`."""

from django.http import HttpRequest


def credentials(request: HttpRequest) -> tuple[str, list[str]]:
    """Return the scheme in lower case, and the words after it; spaces and tabs separate words.

    Without this header the scheme is empty.
    """
    # request.headers would parse every header of the request.
    header = request.META.get("HTTP_AUTHORIZATION", "")
    scheme, *words = [word for word in header.replace("\t", " ").split(" ") if word] or [""]
    return scheme.lower(), words
