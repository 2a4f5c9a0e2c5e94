"""bin/serve with real servers: each test continues from the state of the one before."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bin import serve, spawn

ROOT = Path(__file__).resolve().parents[2]
UP = "Ctrl-C stops everything."


class Serving:
    """Runs of bin/serve with the same .local, and their output."""

    def __init__(self, local: Path, environment: dict[str, str], port: int) -> None:
        self.local = local
        self.environment = environment
        self.port = port
        self.output = local.parent / "output"
        self.run: subprocess.Popen[bytes] | None = None

    def launch(self) -> "subprocess.Popen[bytes]":
        sample = ["--subscriptions", "20", "--days", "5", "--records", "20000"]
        where = ["--local", str(self.local), "--port", str(self.port)]
        with self.output.open("wb") as output:
            return subprocess.Popen(
                [sys.executable, "-m", "bin.serve", *where, *sample],
                cwd=ROOT,
                env=self.environment,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def start(self) -> None:
        self.run = self.launch()
        wait_until(lambda: UP in self.said() or self.ended(), 90)
        assert UP in self.said(), self.said()

    def ended(self) -> bool:
        return self.run is None or self.run.poll() is not None

    def said(self) -> str:
        return self.output.read_text()

    def line(self, program: str) -> str:
        """Return the printed command of this program, with its continuation line."""
        found = re.search(rf"^  (\S*{program}.*\\\n.*)$", self.said(), re.MULTILINE)
        assert found, self.said()
        return found.group(1)

    def token(self) -> str:
        return (self.local / "demo_token").read_text().strip()

    def pids(self) -> list[int]:
        """Return the ids of all running processes of these runs: their output goes to its files."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if (process / "fd" / "1").readlink().is_relative_to(self.local.parent):
                    found.append(int(process.name))
        return found

    def pid(self, word: str) -> int:
        """Return the id of the process that bin/serve started with this word."""
        (found,) = [
            pid for pid in self.pids() if os.getsid(pid) == pid and word in spawn.command_of(pid)
        ]
        return found


def wait_until(condition: Callable[[], object], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"the condition is false after {seconds} s"
        time.sleep(0.1)


def shell(command: str) -> str:
    return subprocess.run(
        ["/bin/sh", "-c", command], check=True, capture_output=True, text=True
    ).stdout


def records(serving: Serving) -> str:
    query = "SELECT 'records', sum(record_count) FROM usage_daily"
    return shell(re.sub(r"-c '.*'", f'-At -c "{query}"', serving.line("psql")))


@pytest.fixture(scope="module")
def serving(open_directory: Path, own_servers: dict[str, str]) -> Iterator[Serving]:
    """A running bin/serve whose first port is taken; the first run was killed during its start."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        made = Serving(open_directory / ".local", own_servers, taken.getsockname()[1])
        try:
            made.run = made.launch()
            wait_until(lambda: "Loading 20,000 sample records" in made.said(), 60)
            time.sleep(0.1)
            made.run.kill()
            made.run.wait()
            made.start()
            yield made
        finally:
            if made.run is not None:
                made.run.terminate()
                made.run.wait(60)


def test_kill_while_the_sample_was_loaded_is_mended_by_the_next_start(serving: Serving) -> None:
    assert records(serving) == "records|20000\n"
    assert not list(serving.local.glob("sample-of-*"))


def test_printed_curl_line_answers(serving: Serving) -> None:
    if shutil.which("curl") is None:
        pytest.skip("no curl on this machine")
    response = json.loads(shell(f"{serving.line('curl')} --silent"))
    assert response["as_of"]
    assert response["currency"] == "USD"


def test_printed_psql_line_answers(serving: Serving) -> None:
    assert "total_price" in shell(serving.line("psql"))
    assert "(5 rows)" in shell(serving.line("psql"))
    assert records(serving) == "records|20000\n"


def test_printed_status_line_answers(serving: Serving) -> None:
    printed = re.search(r"^  (\. '.*usage_status)$", serving.said(), re.MULTILINE)
    assert printed
    assert "totals        as of" in shell(printed.group(1))


def test_analyst_reads_nothing_but_totals(serving: Serving) -> None:
    forbidden = re.sub(r"-c '.*'", "-c 'SELECT * FROM usage_datausagerecord'", serving.line("psql"))
    done = subprocess.run(["/bin/sh", "-c", forbidden], capture_output=True, text=True)
    assert "permission denied" in done.stderr


def test_analyst_has_a_time_limit(serving: Serving) -> None:
    command = re.sub(r"-c '.*'", "-At -c 'SHOW statement_timeout'", serving.line("psql"))
    assert shell(command) == "1min\n"


def test_taken_port_was_stepped_over(serving: Serving) -> None:
    found = re.search(r"answers at http://127\.0\.0\.1:(\d+)/", serving.said())
    assert found
    assert int(found.group(1)) > serving.port


def test_an_own_server_has_no_replicas_of_another_one(serving: Serving) -> None:
    kept = (serving.local / "environment").read_text().splitlines()
    assert "export DATABASE_REPLICA_URL=''" in kept
    assert "export DATABASE_DIRECT_URL=''" in kept


def test_secrets_are_for_their_owner_alone(serving: Serving) -> None:
    for name in ("secret_key", "demo_password", "demo_token", "broker_password", "environment"):
        secret = serving.local / name
        assert stat.S_IMODE(secret.stat().st_mode) == 0o600
        assert len(secret.read_text().strip()) >= 40
    assert (serving.local / "demo_password").read_text() not in serving.said()
    schedule = serving.local / "schedule"
    assert stat.S_IMODE(schedule.stat().st_mode) == 0o700
    assert [file.name for file in schedule.iterdir() if file.name.startswith("beat")]
    assert not list(serving.local.glob("beat*"))


def test_the_secret_key_passes_the_check_for_deployment(serving: Serving) -> None:
    command = f". '{serving.local}/environment' && exec '{sys.executable}' manage.py check --deploy"
    checked = subprocess.run(
        ["/bin/sh", "-c", command],
        cwd=ROOT,
        env=serving.environment,
        capture_output=True,
        text=True,
    )
    assert "security.W008" in checked.stderr, "bin/serve uses plain http"
    assert "security.W009" not in checked.stderr


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="only Linux lists sockets so")
def test_nothing_listens_beyond_this_machine(serving: Serving) -> None:
    listening = {}
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for row in Path(table).read_text().splitlines()[1:]:
            fields = row.split()
            if fields[3] == "0A":
                listening[f"socket:[{fields[9]}]"] = fields[1].split(":")[0]
    held = set()
    for pid in serving.pids():
        for handle in Path(f"/proc/{pid}/fd").iterdir():
            if handle.is_symlink() and (name := str(handle.readlink())) in listening:
                held.add(listening[name])
    assert held == {"0100007F"}


def test_second_one_is_refused_and_says_where_the_first_answers(serving: Serving) -> None:
    kept = serving.said()
    second = serving.launch()
    assert second.wait(20) == 1
    said = serving.said()
    serving.output.write_text(kept)
    assert re.fullmatch(
        r"Another bin/serve runs at http://127\.0\.0\.1:\d+/ \(process \d+\)\.\n", said
    )


def test_killed_worker_stops_everything_and_is_named(serving: Serving) -> None:
    assert serving.run is not None
    os.kill(serving.pid("worker"), signal.SIGKILL)
    assert serving.run.wait(60) == 1
    assert re.search(
        r"\nworker ended with code -9, so everything stops\. \S+/worker\.log ends with:\n"
        r"(    .*\n)+Stopping \.\.\.\nStopped\.\n$",
        serving.said(),
    )
    assert serving.pids() == []


def test_killed_supervisor_takes_everything_with_it(serving: Serving) -> None:
    serving.start()
    assert serving.run is not None
    serving.run.kill()
    serving.run.wait()
    wait_until(lambda: not serving.pids())


def test_starts_again_with_the_same_data_and_token(serving: Serving) -> None:
    token = serving.token()
    serving.start()
    assert serving.token() == token
    assert token in serving.line("curl")
    assert records(serving) == "records|20000\n"
    assert "Loading" not in serving.said()


def test_starts_again_after_everything_was_killed(serving: Serving) -> None:
    assert serving.run is not None
    for pid in serving.pids():
        os.kill(pid, signal.SIGKILL)
    serving.run.wait()
    serving.start()
    assert records(serving) == "records|20000\n"


def test_everything_the_readme_shows_runs(serving: Serving) -> None:
    """Run every command of README.md and docs/commands.md in one shell, and all SQL there.

    Fails when a page names an option, parameter, relation or column that does not exist.
    """
    text = "".join((ROOT / page).read_text() for page in ("README.md", "docs/commands.md"))
    commands = re.findall(r"^    \$ (.*)$", text, re.MULTILINE)
    queries = re.findall(r"^    SELECT (?:.|\n)*?;$", text, re.MULTILINE)
    assert len(commands) == text.count("$ ") >= 8
    assert len(queries) == text.count("SELECT") - text.count("SELECT * FROM") >= 1
    if shutil.which("curl") is None:
        commands = [command for command in commands if not command.startswith("curl")]
    tree = serving.local.parent
    for name in (".venv", "manage.py", "tests"):
        (tree / name).symlink_to(ROOT / name)
    address = re.search(r"answers at (\S+)/ ", serving.said())
    assert address
    lines = [
        f"export API={address[1]}/api/v1 TOKEN=$(cat .local/demo_token)",
        *(re.sub(r"^curl ", "curl --fail-with-body -sS ", command) for command in commands),
    ]
    done = subprocess.run(
        ["/bin/sh", "-exc", "\n".join(lines)],
        cwd=tree,
        env=serving.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "0 added, 88,394 already known" in done.stdout
    assert '"exceeded":[' in done.stdout
    assert "totals        as of" in done.stdout
    assert (tree / "november.csv").read_text().startswith("subscription_id,")
    for query in queries:
        psql, _, _ = serving.line("psql").partition("-c '")
        assert re.search(r"\(\d+ rows?\)", shell(f'{psql} -c "{" ".join(query.split())}"'))


def test_interrupt_stops_everything(serving: Serving) -> None:
    assert serving.run is not None
    worker = serving.pid("worker")
    serving.run.send_signal(signal.SIGINT)
    assert serving.run.wait(60) == 0
    assert serving.said().endswith("Stopping ...\nStopped.\n")
    serving.run = None
    assert serving.pids() == []
    assert spawn.command_of(worker) == []
    assert not list((serving.local / "socket").iterdir())
    assert "shutdown" in (serving.local / "log" / "worker.log").read_text().lower()


@pytest.mark.parametrize(
    ("sent", "during"),
    [(signal.SIGTERM, "Preparing the database"), (signal.SIGHUP, "Starting the web server")],
)
def test_signal_during_the_start_stops_everything(
    serving: Serving, sent: signal.Signals, during: str
) -> None:
    serving.run = serving.launch()
    wait_until(lambda: during in serving.said(), 60)
    time.sleep(0.5)
    serving.run.send_signal(sent)
    assert serving.run.wait(60) == 0
    assert serving.said().endswith("Stopping ...\nStopped.\n")
    assert UP not in serving.said()
    assert serving.pids() == []


def test_help_names_every_option_with_its_default() -> None:
    for name, value in serve.DEFAULTS.items():
        shown = value.name if isinstance(value, Path) else value
        assert re.search(
            rf"^  --{name} .*\({re.escape(str(shown))}\)$", serve.__doc__, re.MULTILINE
        )
    assert serve.__doc__.count("  --") == len(serve.DEFAULTS)
