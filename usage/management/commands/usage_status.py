import json
import sys
from argparse import ArgumentParser
from dataclasses import asdict
from datetime import datetime
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder
from django.template.defaultfilters import filesizeformat

from usage.management.terminal import one_line
from usage.management.usage_command import UsageCommand
from usage.monitoring.replicas import Replica, look_at_replicas
from usage.services.raw.zone_data import differences_in_kept_days
from usage.services.totals.status import Status, read_status


class Command(UsageCommand):
    help = (
        "Show the age of the totals, the last refreshes and the sizes of tables. Exits 1 when the "
        "totals are older than USAGE_MAX_AGE_SECONDS or were never filled, 2 when the database is "
        "away. "
        "Example: manage.py usage_status --json"
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *_args: Any, **options: Any) -> None:
        status = read_status()
        differences = [str(difference) for difference in differences_in_kept_days()]
        if options["json"]:
            report = {
                **asdict(status),
                "replicas": [asdict(replica) for replica in look_at_replicas()],
                "fresh": status.is_fresh,
                "zone_data_differences": differences,
            }
            self.stdout.write(json.dumps(report, cls=DjangoJSONEncoder, indent=2))
        else:
            lines = [*_lines(status, differences), *map(_replica, look_at_replicas())]
            for name, text in lines:
                self.stdout.write(one_line(f"{name:<14}{text}"))
        if not status.is_fresh:
            sys.exit(1)


def _lines(status: Status, differences: list[str]) -> list[tuple[str, str]]:
    if not status.populated or status.age_seconds is None:
        totals = "never filled. Run: manage.py refresh_usage"
    else:
        verdict = "fresh" if status.is_fresh else "TOO OLD"
        totals = (
            f"as of {_moment(status.as_of)}, {status.age_seconds:.0f} s old, {verdict} "
            f"(at most {status.max_age_seconds} s)"
        )
    lines = [("totals", totals), ("time zone", status.time_zone)]
    lines += [("zone data", f"differs for {difference}") for difference in differences]
    if status.paused_at:
        since = _moment(status.paused_at)
        lines.append(("paused", f"since {since}. Run: manage.py resume_refresh"))
    lines += [
        ("sealed", f"days before {status.sealed_before}" if status.sealed_before else "no day"),
        ("raw kept", f"from {status.raw_kept_from}" if status.raw_kept_from else "all"),
        ("late keys", f"{status.late_keys} wait for the next refresh"),
    ]
    if status.clock_is_ahead:
        lines.append(("clock", status.clock_is_ahead))
    lines += [
        ("triggers", f"{fault}. Run: manage.py enable_triggers") for fault in status.capture_faults
    ]
    if status.unaudited_days:
        days = ", ".join(map(str, status.unaudited_days))
        lines.append(("unaudited", f"{days}: each refresh computes one of these days again"))
    if not status.periods_filled:
        lines.append(("months", "not added up yet: the next refresh does it"))
    lines += [("fence", f"waits for {blocker}") for blocker in status.fence_waits_for]
    if status.oldest_transaction:
        lines.append(("oldest", status.oldest_transaction))
    if status.last_audit:
        lines.append(("last audit", _audit(status.last_audit)))
    for name, run in [
        ("last run", status.last_run),
        ("last success", status.last_success),
        ("last failure", status.last_failure),
    ]:
        lines.append((name, _run(run) if run else "none"))
    for table, partitions in status.partitions.items():
        lines.append(
            (
                "partitions",
                f"{table}: {partitions['count']} days, {partitions['first_day']} to "
                f"{partitions['last_day']}; default partition "
                f"{_bytes(partitions['default_bytes'])}",
            )
        )
        if missing := partitions["missing_days"]:
            lines.append(
                (
                    "partitions",
                    f"{table}: none for {', '.join(map(str, missing))}. Run: manage.py "
                    "make_partitions (a day with records in the default partition stays there)",
                )
            )
    lines.append(
        (
            "locks",
            f"a refresh takes {status.refresh_locks:,} of the {status.lock_room:,} that the server "
            "has room for",
        )
    )
    if status.open_view_bloat is not None:
        bloat = f"{status.open_view_bloat} dead rows for each live row of the open view"
        lines.append(("bloat", bloat))
    lines += [("size", f"{table}: {_bytes(size)}") for table, size in status.sizes.items()]
    return lines


def _replica(replica: Replica) -> tuple[str, str]:
    if replica.fault is not None:
        return "replica", f"{replica.name} {replica.fault}: it is left out"
    if replica.age_seconds is None:
        return "replica", f"{replica.name} has no totals yet"
    return "replica", f"{replica.name}: {replica.age_seconds:.0f} s old"


def _audit(run: dict[str, Any]) -> str:
    subscriptions = run["subscriptions_audited"]
    verdict = (
        f"{run['keys_differing']} keys differ. Run: manage.py verify_usage --repair"
        if run["keys_differing"]
        else "no key differs"
    )
    return (
        f"{_moment(run['started_at'])}, {run['status']}, "
        f"{'all' if subscriptions is None else subscriptions} subscriptions, {verdict}"
    )


def _run(run: dict[str, Any]) -> str:
    seconds = (
        f" in {(run['finished_at'] - run['started_at']).total_seconds():.2f} s"
        if run["finished_at"]
        else ""
    )
    rows = (
        f", {run['open_rows']} open rows, {run['rows_changed']} changed, "
        f"{run['keys_repaired']} late keys, {run['days_sealed']} days sealed"
        if run["open_rows"] is not None
        else ""
    )
    why = run["error"] or run["remark"]
    return (
        f"{run['status']}{seconds}, started {_moment(run['started_at'])} by "
        f"{run['trigger']}{rows}{f': {why}' if why else ''}"
    )


def _bytes(size: int) -> str:
    """Return a size such as 16.0 KB. Django's no-break space would become an escape here."""
    return filesizeformat(size).replace("\xa0", " ")


def _moment(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC" if moment else "never"
