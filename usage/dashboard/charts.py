"""The data that charts.js draws: labels from left to right, and series with a value a label."""

from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any, TypeAlias

from django.conf import settings

from usage.models import RefreshRun, UsageType
from usage.notation import amount_text

Chart: TypeAlias = dict[str, Any]

# The parts of a bar, with the phases of a run in each. More colours would look alike in one bar.
PHASES = {
    "locks": {"fence", "lock"},
    "late keys and seals": {"repair", "seal"},
    "open days": {"view", "count"},
    "period totals": {"compare", "periods"},
}
REST = "audit, commit, vacuum"
FAILED = "failed"
COLOURS = {name: f"part-{number}" for number, name in enumerate([*PHASES, REST], start=1)} | {
    FAILED: "bad"
}


def colour_of(usage_type: UsageType) -> str:
    """The name of the colour of a usage type in dashboard.css, which has six of them."""
    return f"type-{list(UsageType).index(usage_type) % 6 + 1}"


def of_usage(rows: Sequence[dict[str, Any]]) -> list[Chart]:
    """Return charts by day: price of all types, and usage of each type in its unit.

    The rows come from selectors.day_totals. A day without usage between them is 0. Without rows
    there is no chart.
    """
    types = [each for each in UsageType if any(row["usage_type"] == each for row in rows)]
    days = [row["day"] for row in rows]
    first, last = min(days, default=None), max(days, default=None)
    if first is None or last is None:
        return []
    all_days = [first + timedelta(days=number) for number in range((last - first).days + 1)]
    labels = [f"{day.day} {day:%b %Y}" for day in all_days]

    def series(usage_type: UsageType, column: str) -> dict[str, Any]:
        found = {row["day"]: row[column] for row in rows if row["usage_type"] == usage_type}
        # Text keeps every digit for the legend.
        values = [amount_text(Decimal(found.get(day, 0))) for day in all_days]
        return {"label": usage_type.label, "colour": colour_of(usage_type), "values": values}

    price = {
        "id": "price",
        "title": "Price by day",
        "unit": settings.USAGE_CURRENCY,
        "series": [series(usage_type, "price") for usage_type in types],
    }
    usage = [
        {
            "id": f"usage-{usage_type.value}",
            "title": f"{usage_type.label} by day",
            "unit": usage_type.unit,
            "series": [series(usage_type, "usage")],
        }
        for usage_type in types
    ]
    return [{"kind": "lines", "labels": labels, **chart} for chart in [price, *usage]]


def of_runs(runs: Sequence[RefreshRun]) -> list[Chart]:
    """Return charts of the runs that succeeded or failed: seconds by phase, and changed totals.

    The runs come newest first and are drawn oldest first. Without such runs there is no chart.
    """
    drawn = [
        run
        for run in reversed(runs)
        if run.status in {RefreshRun.Status.SUCCESS, RefreshRun.Status.FAILED}
    ]
    if not drawn:
        return []
    seconds = [_seconds_by_part(run) for run in drawn]
    durations = {
        "id": "durations",
        "title": "Duration by phase",
        "unit": "seconds",
        "series": [
            {"label": part, "colour": colour, "values": [each[part] for each in seconds]}
            for part, colour in COLOURS.items()
        ],
    }
    changes = {
        "id": "changes",
        "title": "Changes by run",
        "unit": "totals",
        "series": [
            {
                "label": "open days",
                "colour": COLOURS["open days"],
                "values": [run.rows_changed or 0 for run in drawn],
            },
            {
                "label": "late keys",
                "colour": COLOURS["late keys and seals"],
                "values": [run.keys_repaired for run in drawn],
            },
        ],
    }
    labels = [f"{run.started_at.day} {run.started_at:%b %H:%M:%S}" for run in drawn]
    return [{"kind": "stacked", "labels": labels, **chart} for chart in [durations, changes]]


def _seconds_by_part(run: RefreshRun) -> dict[str, float]:
    """Return the seconds of each part; a failed run has the one part FAILED."""
    parts = dict.fromkeys(COLOURS, 0.0)
    if run.status == RefreshRun.Status.FAILED:
        parts[FAILED] = run.seconds or 0.0
    else:
        for phase, seconds in run.phases.items():
            part = next((name for name, phases in PHASES.items() if phase in phases), REST)
            parts[part] = round(parts[part] + seconds, 4)
    return parts
