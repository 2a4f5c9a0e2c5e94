import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bin import spawn
from bin.spawn import LauncherError
from bin.supervisor import Process, Supervisor
from tests.processes import ROOT

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]


def process(tmp_path: Path, command: list[str], name: str = "thing") -> Process:
    return Process(
        name=name,
        command=command,
        directory=tmp_path,
        log=tmp_path / f"{name}.log",
        environment=os.environ,
        stop_steps=((signal.SIGTERM, 5.0),),
    )


def wait_until(condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"the condition is false after {seconds} s"
        time.sleep(0.05)


def test_process_that_ended_is_named_with_the_end_of_its_log(tmp_path: Path) -> None:
    watched = Supervisor()
    watched.start(process(tmp_path, SLEEP, "other"))
    thing = process(tmp_path, [sys.executable, "-c", "print('out of luck'); exit(3)"])
    watched.start(thing)
    try:
        assert thing.process is not None
        thing.process.wait(10)
        with pytest.raises(LauncherError, match=r"(?s)^thing ended with code 3, .*luck$"):
            watched.check()
    finally:
        watched.stop()


def test_each_start_begins_a_log_and_keeps_that_of_the_last_run(tmp_path: Path) -> None:
    for text in ("first", "second", "third"):
        watched = Supervisor()
        thing = process(tmp_path, [sys.executable, "-c", f"print('{text}')"])
        watched.start(thing)
        assert thing.process is not None
        thing.process.wait(10)
        watched.stop()
    assert (tmp_path / "thing.log").read_text() == "third\n"
    assert (tmp_path / "thing.log.1").read_text() == "second\n"


def test_services_stop_in_reverse_order(tmp_path: Path) -> None:
    order = tmp_path / "order"
    watched = Supervisor()
    for name in ("first", "second"):
        program = (
            "import signal, sys, time\n"
            "def end(*_):\n"
            f"    open({str(order)!r}, 'a').write('{name} ')\n"
            "    sys.exit()\n"
            "signal.signal(signal.SIGTERM, end)\n"
            "print('ready', flush=True)\n"
            "time.sleep(600)"
        )
        started = process(tmp_path, [sys.executable, "-c", program], name)
        watched.start(started)
        wait_until(lambda log=started.log: "ready" in log.read_text())  # type: ignore[misc]
    watched.check()
    watched.stop()
    assert order.read_text() == "second first "


def test_stop_ends_also_the_children_of_a_process(tmp_path: Path) -> None:
    pid_file = tmp_path / "child"
    parent = (
        "import subprocess, sys, pathlib, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"pathlib.Path({str(pid_file)!r}).write_text(str(child.pid) + '.')\n"
        "time.sleep(600)"
    )
    watched = Supervisor()
    watched.start(process(tmp_path, [sys.executable, "-c", parent]))
    wait_until(lambda: pid_file.exists() and pid_file.read_text().endswith("."))
    child = int(pid_file.read_text().rstrip("."))
    watched.stop()
    wait_until(lambda: not spawn.command_of(child))


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


@pytest.mark.parametrize("program", ["sleep", "/no/such/program"])
def test_interrupt_while_a_process_is_started_leaves_no_process(program: str) -> None:
    """Fails when Interrupted is raised inside Popen, since the new process would run on, unknown;
    and when the signal is forgotten because the program cannot run."""
    code = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from bin import interrupt, spawn\n"
        "interrupt.raise_interrupted()\n"
        "here = Path.cwd()\n"
        "real = spawn.when_parent_dies\n"
        "def late(sent):\n"
        "    request, parent = real(sent), os.getpid()\n"
        "    return lambda: (request(), os.kill(parent, signal.SIGTERM))\n"
        "spawn.when_parent_dies = late\n"
        "try:\n"
        f"    spawn.spawn([{program!r}, '30'], directory=here)\n"
        "except interrupt.Interrupted:\n"
        "    left = [p for p in Path('/proc').glob('[0-9]*/stat')"
        " if p.read_text().split()[3] == str(os.getpid())]\n"
        "    print('interrupted', len(left))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stdout == "interrupted 0\n", done.stderr
