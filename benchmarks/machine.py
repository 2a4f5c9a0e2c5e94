"""The machine and the versions that figures were measured on."""

import os
import platform
from pathlib import Path

import django
from django.db import connection


def describe() -> dict[str, str]:
    """Return processor, memory, load and versions."""
    with connection.cursor() as cursor:
        cursor.execute("SHOW server_version")
        (server,) = cursor.fetchone()
        cursor.execute(
            "SELECT string_agg(name || '=' || current_setting(name), ', ')"
            " FROM unnest(ARRAY['shared_buffers', 'max_wal_size', 'fsync', 'synchronous_commit'])"
            " AS settings (name)"
        )
        (settings,) = cursor.fetchone()
    return {
        "processor": f"{os.cpu_count()} x {_processor()}",
        "memory": f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.1f} GB",
        "load before": f"{os.getloadavg()[0]:.1f}",
        "PostgreSQL": f"{server} ({settings})",
        "Python": platform.python_version(),
        "Django": django.get_version(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
