"""Two beats and four workers: one refresh at a time, and no error."""

import json
import time
from collections.abc import Callable
from functools import partial

from bin import processes
from tests.connections import ask, wait_until
from tests.exact import plain_totals, totals_of
from tests.faults.installation import Installation
from tests.faults.trials import Trials

WRITE = """
    INSERT INTO usage_datausagerecord (subscription_id, usage_date, price, kilobytes_used)
    SELECT number, now() - number * interval '1 hour', 0.01, number
    FROM generate_series(1, 40) AS numbers (number)
"""


def test_two_beats_and_four_workers_refresh_one_at_a_time(
    installation: Installation, trials: Trials
) -> None:
    """Fails when a refresh does not take its lock: two at once would write the row of state, and
    one of them would fail."""
    seconds = trials.seconds(short=15, full=600)
    # With this many records the next message comes while a refresh is running.
    installation.manage(
        "generate_usage", "--subscriptions", "10000", "--days", "2", "--records", "200000"
    )
    for number in (1, 2, 3, 4):
        installation.start(processes.worker(f"worker{number}@%h"), "celery.log")
    for number in (1, 2):
        installation.start(processes.beat(str(installation.place / f"beat{number}")), "celery.log")
    with installation.session() as session:
        query: Callable[[str], list[tuple[object, ...]]] = partial(ask, session)

        def successes() -> int:
            ((count,),) = ask(
                session, "SELECT count(*) FROM usage_refreshrun WHERE status = 'success'"
            )
            return int(count)

        wait_until(successes, seconds=60, what="the first refresh")
        deadline = time.monotonic() + seconds
        # A refresh that waits for a raw table has the lock, so the next message finds it taken.
        ask(session, "BEGIN; LOCK TABLE usage_voiceusagerecord IN ACCESS EXCLUSIVE MODE")
        time.sleep(3)
        ask(session, "ROLLBACK")
        while time.monotonic() < deadline:
            ask(session, WRITE)
            trials.count("writes")
            time.sleep(0.2)
        expected = plain_totals(query)
        wait_until(lambda: totals_of("usage_daily", query) == expected, what="exact totals")
        runs = dict(ask(session, "SELECT status, count(*) FROM usage_refreshrun GROUP BY status"))
    trials.count("seconds", round(seconds))
    for status, number in runs.items():
        trials.count(f"runs {status}", number)
    assert runs.keys() <= {"success", "skipped", "running"}, runs
    assert runs["success"] > 5
    assert runs["skipped"] > 0
    log = (installation.place / "celery.log").read_text().splitlines()
    levels = {json.loads(line)["level"] for line in log if line.startswith("{")}
    assert levels == {"info"}
