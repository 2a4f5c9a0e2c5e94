"""How every process writes its log: one JSON object a line, or lines for people.

Code logs with the standard library. structlog adds what is bound to the request, the run or the
task at hand, and writes the line. Nothing that signs anybody in is written, wherever it came from.
"""

import json
import re
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import orjson
import structlog

# The keys of `extra` that reach the log: other code puts whole requests and tasks in there.
KEYS = (
    *("address", "method", "path", "endpoint", "status", "milliseconds"),
    *("trigger", "seconds", "open_rows", "rows_changed", "keys_repaired", "days_sealed", "phases"),
)

# Shorter ones are words, which would vanish from every line.
SHORTEST_SECRET = 8

HIDDEN = "[hidden]"
# What follows the name of a scheme, of a password or of a session is one, and so is what stands
# in an address before its host, and what begins as a key of usage.services.tokens does.
SPOKEN = re.compile(
    r"(?i)(\b(?:token|bearer|basic)\s+|\b(?:password|passwd|sessionid|csrftoken)=)"
    r"[^\s'\"@;,&\\]+"
    r"|(://[^:/@\s]*:)[^/@\s'\"]+(?=@)"
    r"|(\busage_)[0-9a-f]{16,}"
)
# A terminal obeys them wherever they come from; JSON escapes them by itself.
CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))}
CONTROLS.update({ord(kept): kept for kept in "\n\t"})
# A line without any of these is not searched: nearly all lines are.
SIGNS = ("token", "bearer", "basic", "passw", "sessionid=", "://", "usage_")
# "Token" also begins sentences; a key has digits.
WORD = re.compile(r"[A-Za-z]+[.:!?]*")


def settings(*, is_readable: bool, secrets: Iterable[str | None]) -> dict[str, Any]:
    """The LOGGING of Django, which gunicorn and Celery share."""
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
    """What turns a record of the standard library into a line."""
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
    """The password in an address, decoded."""
    password = urlsplit(address).password
    return unquote(password) if password else None


def hiding(secrets: Iterable[str | None]) -> Callable[[str], str]:
    """A function that replaces the secrets in a line, and whatever looks like another one."""
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
        if any(sign in lowered for sign in SIGNS):
            line = SPOKEN.sub(_hide_spoken, line)
        return line

    return hide


def _hide_spoken(found: re.Match[str]) -> str:
    before = found[1] or found[2] or found[3]
    value = found[0].removeprefix(before)
    is_sentence = before[-1].isspace() and WORD.fullmatch(value)
    return found[0] if is_sentence else before + HIDDEN


def _json(event: Any, default: Callable[[Any], Any]) -> str:
    return orjson.dumps(event, default=default).decode()
