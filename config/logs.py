"""Log format of every process: one JSON object a line, or readable lines in development.

Code logs with the standard library. structlog adds the ids of the current request, run or task and
writes the line. Passwords, keys and session ids in a line are replaced.
"""

import json
import re
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import orjson
import structlog

# The keys of `extra` that the log has; libraries also put whole requests and tasks there.
KEYS = (
    *("address", "method", "path", "endpoint", "status", "milliseconds"),
    *("trigger", "seconds", "open_rows", "rows_changed", "keys_repaired", "days_sealed", "phases"),
)

# A shorter secret may be a common word, which would vanish from every line.
SHORTEST_SECRET = 8

HIDDEN = "[hidden]"
# A secret by its place: after the name of an authentication scheme, of a password or of a session,
# before the host of an address, or after the prefix of keys from usage.services.accounts.tokens.
SECRET_BY_PLACE = re.compile(
    r"(?i)(\b(?:token|bearer|basic)\s+|\b(?:password|passwd|sessionid|csrftoken)=)"
    r"[^\s'\"@;,&\\]+"
    r"|(://[^:/@\s]*:)[^/@\s'\"]+(?=@)"
    r"|(\busage_)[0-9a-f]{16,}"
)
# A terminal executes control characters. JSON escapes them already.
CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))}
CONTROLS.update({ord(kept): kept for kept in "\n\t"})
# Nearly every line has none of these, and the slower pattern is skipped.
HINTS = ("token", "bearer", "basic", "passw", "sessionid=", "://", "usage_")
# A sentence may have a word after "Token" or "Basic"; a key has digits.
WORD = re.compile(r"[A-Za-z]+[.:!?]*")


def settings(*, is_readable: bool, secrets: Iterable[str | None]) -> dict[str, Any]:
    """Return Django's LOGGING, which gunicorn and Celery share."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "line": {"()": formatter, "is_readable": is_readable, "secrets": [*secrets]}
        },
        "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
        "root": {"handlers": ["console"], "level": "INFO"},
        "loggers": {
            # usage.monitoring.request_log already writes one line for each response.
            "django.request": {"level": "ERROR"},
        },
    }


def formatter(
    *, is_readable: bool, secrets: Iterable[str | None] = ()
) -> structlog.stdlib.ProcessorFormatter:
    """Return the formatter of records of the standard library."""
    render = (
        structlog.dev.ConsoleRenderer(
            colors=False, exception_formatter=structlog.dev.plain_traceback
        )
        if is_readable
        else structlog.processors.JSONRenderer(serializer=_json)
    )
    hide = hiding(secrets)

    def write(logger: Any, name: str, event: structlog.typing.EventDict) -> str:
        line = hide(str(render(logger, name, event)))
        return line.translate(CONTROLS) if is_readable else line

    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.stdlib.ExtraAdder(allow=KEYS),
            structlog.processors.TimeStamper(fmt="iso", utc=True),
        ],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            write,
        ],
    )


def password_in(address: str) -> str | None:
    """Return the password in an address, decoded."""
    password = urlsplit(address).password
    return unquote(password) if password else None


def hiding(secrets: Iterable[str | None]) -> Callable[[str], str]:
    """Return a function that replaces these secrets in a line, and others by their place."""
    forms = {
        form
        for secret in secrets
        if secret and len(secret) >= SHORTEST_SECRET
        for form in (secret, quote(secret, safe=""), json.dumps(secret)[1:-1])
    }
    longest_first = sorted(forms, key=len, reverse=True)

    def hide(line: str) -> str:
        for form in longest_first:
            line = line.replace(form, HIDDEN)
        lowered = line.lower()
        if any(hint in lowered for hint in HINTS):
            line = SECRET_BY_PLACE.sub(_hide_by_place, line)
        return line

    return hide


def _hide_by_place(found: re.Match[str]) -> str:
    before = found[1] or found[2] or found[3]
    value = found[0].removeprefix(before)
    is_sentence = before[-1].isspace() and WORD.fullmatch(value)
    return found[0] if is_sentence else before + HIDDEN


def _json(event: Any, default: Callable[[Any], Any]) -> str:
    return orjson.dumps(event, default=default).decode()
