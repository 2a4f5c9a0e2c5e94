import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bin import spawn, supervisor
from bin.spawn import LauncherError
from bin.supervisor import Process, Supervisor

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]


def process(tmp_path: Path, command: list[str]) -> Process:
    return Process(
        "thing",
        command,
        directory=tmp_path,
        log=tmp_path / "log" / "thing.log",
        environment=os.environ,
        stop_steps=((signal.SIGTERM, 5.0),),
        on_parent_death=signal.SIGTERM,
    )


def wait_until(condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"the condition is false after {seconds} s"
        time.sleep(0.05)


def test_dead_process_is_started_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    watched = Supervisor(tmp_path / "processes.json")
    thing = process(tmp_path, SLEEP)
    watched.start(thing)
    try:
        assert thing.process is not None
        first = thing.process.pid
        os.kill(first, signal.SIGKILL)

        def restarted() -> bool:
            watched.check()
            return thing.process is not None and thing.process.pid != first and thing.alive()

        wait_until(restarted)
        assert "thing ended with code -9; starting it again" in capsys.readouterr().out
        (recorded,) = json.loads(watched.record.read_text())
        assert recorded["pid"] == thing.process.pid
    finally:
        watched.stop()
    assert not watched.record.exists()


def test_process_that_dies_again_and_again_stops_everything_and_shows_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "LONGEST_PAUSE_SECONDS", 0.0)
    watched = Supervisor(tmp_path / "processes.json")
    watched.start(process(tmp_path, [sys.executable, "-c", "print('out of luck'); exit(3)"]))

    def check_for_long() -> None:
        for _ in range(400):
            watched.check()
            time.sleep(0.05)

    with pytest.raises(LauncherError, match=r"(?s)thing ended with code 3, the 6th time.*luck"):
        check_for_long()
    watched.stop()


def test_stop_ends_also_the_children_of_a_process(tmp_path: Path) -> None:
    pid_file = tmp_path / "child"
    parent = (
        "import subprocess, sys, pathlib, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"pathlib.Path({str(pid_file)!r}).write_text(str(child.pid) + '.')\n"
        "time.sleep(600)"
    )
    watched = Supervisor(tmp_path / "processes.json")
    watched.start(process(tmp_path, [sys.executable, "-c", parent]))
    wait_until(lambda: pid_file.exists() and pid_file.read_text().endswith("."))
    child = int(pid_file.read_text().rstrip("."))
    watched.stop()
    wait_until(lambda: not spawn.command_of(child))


def test_leftovers_of_a_killed_run_are_ended_and_nothing_else(tmp_path: Path) -> None:
    recorded = [*SLEEP, str(tmp_path)]
    orphan = subprocess.Popen(recorded)
    stranger = subprocess.Popen([*SLEEP, "a stranger"])
    try:
        record = tmp_path / "processes.json"
        # The stranger has the process id of a recorded process that ended long ago.
        entries = [
            {"pid": orphan.pid, "command": recorded},
            {"pid": stranger.pid, "command": [*SLEEP, str(tmp_path), "another"]},
        ]
        record.write_text(json.dumps(entries))
        Supervisor(record).end_leftovers()
        assert orphan.wait(1) == -signal.SIGTERM
        assert stranger.poll() is None
    finally:
        for left in (orphan, stranger):
            left.kill()
            left.wait()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux signals a child then")
def test_process_ends_when_its_supervisor_is_killed(tmp_path: Path) -> None:
    pid_file = tmp_path / "child"
    program = (
        "import signal, sys, time, pathlib\n"
        "from bin import spawn\n"
        f"child = spawn.spawn({SLEEP!r}, directory=pathlib.Path('/'))\n"
        f"pathlib.Path({str(pid_file)!r}).write_text(str(child.pid) + '.')\n"
        "time.sleep(600)"
    )
    root = Path(__file__).resolve().parents[2]
    parent = subprocess.Popen([sys.executable, "-c", program], cwd=root)
    wait_until(lambda: pid_file.exists() and pid_file.read_text().endswith("."))
    child = int(pid_file.read_text().rstrip("."))
    assert spawn.command_of(child)
    parent.kill()
    parent.wait()
    wait_until(lambda: not spawn.command_of(child))


def test_large_log_begins_anew_and_keeps_one_earlier_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "LARGEST_LOG_BYTES", 10)
    log = tmp_path / "thing.log"
    log.write_text("longer than ten bytes")
    supervisor.bound(log)
    assert log.read_text() == ""
    assert (tmp_path / "thing.log.1").read_text() == "longer than ten bytes"
