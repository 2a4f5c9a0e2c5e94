"""Reads the header `Authorization`, the same way wherever it is needed."""

from django.http import HttpRequest


def credentials(request: HttpRequest) -> tuple[str, list[str]]:
    """The scheme in lower case, and the words after it; spaces and tabs separate words.

    The scheme is empty where there is no such header.
    """
    # request.headers would read every header there is.
    header = request.META.get("HTTP_AUTHORIZATION", "")
    scheme, *words = [word for word in header.replace("\t", " ").split(" ") if word] or [""]
    return scheme.lower(), words
