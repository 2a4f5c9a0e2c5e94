"""Variables of the environment: no other module reads them.

Every function raises ImproperlyConfigured with the name of the variable and the values that are
allowed; a value that may be a secret is not repeated.
"""

import os
import zoneinfo
from typing import Any

import dj_database_url
from django.core.exceptions import ImproperlyConfigured


def text(name: str, default: str | None = None) -> str:
    """Return the variable unchanged, or the default; without a default it must be set."""
    value = os.environ.get(name, "") or default
    if value is None:
        raise ImproperlyConfigured(f"{name} is not set. See docs/settings.md.")
    return value


def flag(name: str) -> bool:
    """Return True for 1, true, yes, on, and False for 0, false, no, off or an unset variable."""
    value = os.environ.get(name, "").strip().lower()
    if value in {"1", "true", "yes", "on"}:
        return True
    if value in {"", "0", "false", "no", "off"}:
        return False
    raise ImproperlyConfigured(f"{name}={value!r} is neither true nor false. Use 1 or 0.")


def items(name: str) -> list[str]:
    """Return the items of a comma-separated list, none if the variable is unset."""
    return [item.strip() for item in os.environ.get(name, "").split(",") if item.strip()]


def integer(name: str, default: int, *, least: int, most: int) -> int:
    """Return a whole number from `least` to `most`, or the default."""
    value = optional_integer(name, least=least, most=most)
    return default if value is None else value


def optional_integer(name: str, *, least: int, most: int) -> int | None:
    """Return a whole number from `least` to `most`, or None if the variable is unset or empty."""
    value = os.environ.get(name, "").strip()
    if not value:
        return None
    if value.isascii() and value.isdigit() and least <= int(value) <= most:
        return int(value)
    raise ImproperlyConfigured(
        f"{name}={value!r} is not a whole number from {least} to {most}. Correct it or unset it."
    )


def time_zone(name: str, default: str) -> str:
    """Return the name of an IANA time zone."""
    value = text(name, default)
    if value not in zoneinfo.available_timezones():
        raise ImproperlyConfigured(
            f"{name}={value!r} is not an IANA time zone. Use a name such as UTC or Europe/London."
        )
    return value


def choice(name: str, *allowed: str) -> str:
    """Return one of the allowed words; the first is the default."""
    value = text(name, allowed[0])
    if value in allowed:
        return value
    raise ImproperlyConfigured(f"{name}={value!r} is none of: {', '.join(allowed)}. Use one.")


def currency(name: str, default: str) -> str:
    """Return the three letters of an ISO 4217 currency code."""
    value = text(name, default)
    if len(value) == 3 and value.isascii() and value.isalpha() and value.isupper():
        return value
    raise ImproperlyConfigured(
        f"{name}={value!r} is not an ISO 4217 code. Use three capital letters such as USD."
    )


def database(name: str) -> dict[str, Any]:
    """Return the settings of a database. Messages omit the address, which may have a password."""
    return _database(name, text(name))


def optional_database(name: str) -> dict[str, Any] | None:
    """Return the settings of a database, or None if the variable is unset or empty."""
    value = os.environ.get(name, "")
    return _database(name, value) if value else None


def replicas(name: str) -> dict[str, dict[str, Any]]:
    """Return the settings of the databases in a comma-separated list, named replica1 and so on;
    tests use the primary in their place."""
    return {
        f"replica{number}": _database(name, value) | {"TEST": {"MIRROR": "default"}}
        for number, value in enumerate(items(name), start=1)
    }


def _database(name: str, value: str) -> dict[str, Any]:
    try:
        address = dj_database_url.parse(value, conn_max_age=60, conn_health_checks=True)
    except ValueError as error:
        raise ImproperlyConfigured(
            f"{name} is not the address of a database. Use postgresql://user:password@host:port/name"
            " and percent-encode special characters, for example / as %2F."
        ) from error
    if address["ENGINE"] != "django.db.backends.postgresql":
        raise ImproperlyConfigured(f"{name} must name a PostgreSQL server: postgresql://...")
    return {**address}


def optional_secret(name: str, *, least: int) -> str | None:
    """Return a secret of at least `least` visible ASCII characters, or None if unset or empty."""
    value = os.environ.get(name, "")
    if not value:
        return None
    if len(value) >= least and all("!" <= character <= "~" for character in value):
        return value
    raise ImproperlyConfigured(
        f"{name} has fewer than {least} characters, or some that are not visible ASCII. Make one "
        "with: python -c 'import secrets; print(secrets.token_urlsafe())'"
    )


def broker(name: str) -> str:
    """Return the address of a Redis or Valkey server, with its password if it has one."""
    value = text(name)
    if value.partition("://")[0] not in {"redis", "rediss", "redis+socket", "sentinel"}:
        raise ImproperlyConfigured(
            f"{name} must name a Redis or Valkey server. Use redis://:password@host:port/0."
        )
    return value
