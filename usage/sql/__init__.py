"""The SQL objects of the read model. Each file has one object, and its name and version."""

from importlib import resources


def read(name: str, version: int) -> str:
    """Return the text of `<name>_v<version>.sql`, for example `usage_daily_v01.sql`."""
    return (resources.files(__name__) / f"{name}_v{version:02d}.sql").read_text(encoding="utf-8")
