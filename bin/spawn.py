"""Start and end processes so that none outlives the process that started it."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from bin import interrupt

PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


class LauncherError(Exception):
    """A program or server cannot start; the message names it and says what to do."""


@dataclass(frozen=True)
class Account:
    """The system account that a server runs as."""

    uid: int
    gid: int


def when_parent_dies(send: signal.Signals) -> Callable[[], None] | None:
    """Return a function for the child to run first: Linux then signals it when its parent dies."""
    libc, parent = LIBC, os.getpid()
    if libc is None:
        return None

    def request_signal() -> None:
        libc.prctl(PR_SET_PDEATHSIG, int(send))
        if os.getppid() != parent:
            os._exit(1)

    return request_signal


def spawn(
    command: Sequence[str],
    *,
    directory: Path,
    output: IO[bytes] | int | None = None,
    environment: Mapping[str, str] | None = None,
    account: Account | None = None,
    on_parent_death: signal.Signals = signal.SIGTERM,
    stdin: int | None = subprocess.DEVNULL,
) -> "subprocess.Popen[bytes]":
    """Start a command in a session of its own, so that Ctrl-C reaches only the supervisor.

    Without `output` the command shares the caller's output. Raises LauncherError if the program
    cannot run.
    """
    process = None
    try:
        # An interrupt inside Popen would leave a process that nobody knows.
        with interrupt.held():
            process = subprocess.Popen(
                command,
                cwd=directory,
                env=environment,
                stdin=stdin,
                stdout=output,
                stderr=None if output is None else subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=when_parent_dies(on_parent_death),
                user=account.uid if account else None,
                group=account.gid if account else None,
                extra_groups=[] if account else None,
            )
    except OSError as error:
        raise LauncherError(f"Cannot run {command[0]}: {error}.") from error
    except interrupt.Interrupted:
        if process is not None:
            end(process)
        raise
    return process


def run_to_end(process: "subprocess.Popen[bytes]") -> int:
    """Wait for a process and return its exit code; an interrupt ends the process."""
    try:
        return process.wait()
    except BaseException:
        end(process, (signal.SIGINT, 10.0))
        raise


def end(process: "subprocess.Popen[bytes]", *steps: tuple[signal.Signals, float]) -> None:
    """Send each signal and wait its seconds until the process ends; SIGKILL is the last.

    Children in the session of the process are killed too.
    """
    for send, seconds in steps:
        if process.poll() is not None:
            break
        process.send_signal(send)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            continue
    if process.poll() is None:
        process.kill()
        process.wait()
    kill_session(process.pid)


def kill_session(leader: int) -> None:
    """Kill the remaining processes in the session of a process that has ended."""
    try:
        os.killpg(leader, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


def exists(pid: int) -> bool:
    """Return whether a process has this id; a zombie counts."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def command_of(pid: int) -> list[str]:
    """Return the command line of a process, empty if it has ended."""
    if Path("/proc/self/cmdline").exists():
        try:
            line = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            return []
        return [os.fsdecode(word) for word in line.split(b"\0")[:-1]]
    shown = subprocess.run(
        ["/bin/ps", "-ww", "-o", "command=", "-p", str(pid)], capture_output=True, text=True
    )
    return shown.stdout.split()


def end_orphan(
    pid: int, is_ours: Callable[[list[str]], bool], *steps: tuple[signal.Signals, float]
) -> None:
    """End a process of an earlier run; it is not a child, so its command line identifies it."""
    for send, seconds in (*steps, (signal.SIGKILL, 5.0)):
        deadline = time.monotonic() + seconds
        if not is_ours(command_of(pid)):
            return
        os.kill(pid, send)
        while time.monotonic() < deadline and is_ours(command_of(pid)):
            time.sleep(0.05)


def last_lines(log: Path, count: int = 15) -> str:
    """Return the last lines of a log, indented, to print with an error."""
    try:
        lines = log.read_text(errors="replace").splitlines()[-count:]
    except OSError:
        return ""
    return "".join(f"\n    {line}" for line in lines)
