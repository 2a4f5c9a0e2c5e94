import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from bin.lock import LOCKS

ROOT = Path(__file__).resolve().parents[2]
SERVE = "requirements-serve.lock"
TEST = "requirements-dev.lock"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A small tree with the scripts of bin/ and no requirements."""
    shutil.copytree(ROOT / "bin", tmp_path / "tree" / "bin")
    for name in (*LOCKS, *LOCKS.values()):
        (tmp_path / "tree" / name).write_text("# nothing\n")
    return tmp_path / "tree"


def wheel(place: Path, name: str) -> Path:
    """Write a package without content and return its path."""
    path = place / f"{name}-1.0-py3-none-any.whl"
    information = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(
            f"{information}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"
        )
        file.writestr(
            f"{information}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        file.writestr(f"{information}/RECORD", "")
    return path


def program(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def start(tree: Path, path: str) -> "subprocess.CompletedProcess[str]":
    """Run the first step of bin/serve and bin/test with this PATH alone."""
    return subprocess.run(
        ["/bin/sh", "-c", f'lock={SERVE}; . "{tree}/bin/environment.sh"', f"{tree}/bin/serve"],
        env={"PATH": path},
        capture_output=True,
        text=True,
    )


def install(tree: Path, lock: str, **environment: str) -> "subprocess.Popen[str]":
    """Start the installation of a lock file."""
    return subprocess.Popen(
        [sys.executable, "-m", "bin.install", lock],
        cwd=tree,
        env={**os.environ, "PIP_NO_INDEX": "1", **environment},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def installed(tree: Path) -> set[str]:
    """Return the packages in .venv, without pip's own."""
    listed = subprocess.run(
        [tree / ".venv" / "bin" / "python", "-m", "pip", "list", "--format", "freeze"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return {line.partition("==")[0] for line in listed.split()} - {"pip", "setuptools"}


def locked(*packages: Path) -> str:
    """Return a lock file with these packages."""
    return "".join(
        f"{package.name.partition('-')[0]}==1.0 \\\n"
        f"    --hash=sha256:{hashlib.sha256(package.read_bytes()).hexdigest()}\n"
        for package in packages
    )


def tools(tmp_path: Path) -> Path:
    """Make a PATH without Python and return its directory."""
    made = tmp_path / "tools"
    made.mkdir()
    for name in ("dirname", "sh"):
        found = shutil.which(name)
        assert found
        (made / name).symlink_to(found)
    return made


def test_older_python_is_named(tree: Path, tmp_path: Path) -> None:
    path = tools(tmp_path)
    program(path / "python3", "echo old 3.10.4")
    done = start(tree, str(path))
    assert done.returncode == 1
    assert "needs Python 3.11 or newer; python3 is 3.10.4." in done.stderr


def test_missing_python_is_named(tree: Path, tmp_path: Path) -> None:
    done = start(tree, str(tools(tmp_path)))
    assert done.returncode == 1
    assert "no python3 was found" in done.stderr


def test_missing_venv_is_named(tree: Path, tmp_path: Path) -> None:
    path = tools(tmp_path)
    program(
        path / "python3",
        f'case $2 in *ensurepip*) exit 1 ;; *) echo "{path}/python3" ;; esac',
    )
    done = start(tree, str(path))
    assert done.returncode == 1
    assert "has no venv or no pip" in done.stderr
    assert "python3-venv" in done.stderr


def test_newer_python_beside_an_older_one_replaces_an_environment_without_python(
    tree: Path, tmp_path: Path
) -> None:
    (tree / ".venv" / "bin").mkdir(parents=True)
    (tree / ".venv" / "bin" / "python").symlink_to("/nowhere/python3")
    path = tools(tmp_path)
    program(path / "python3", "echo old 3.9.2")
    program(path / "python3.12", f'exec "{sys.executable}" "$@"')
    done = start(tree, str(path))
    assert done.returncode == 0, done.stderr
    python = tree / ".venv" / "bin" / "python"
    assert subprocess.run([python, "-m", "pip", "--version"]).returncode == 0


@pytest.mark.parametrize(
    ("script", "shown"), [("serve", "--subscriptions N"), ("test", "bin/test --faults")]
)
def test_help_installs_nothing_and_needs_neither_venv_nor_pip(
    tree: Path, tmp_path: Path, script: str, shown: str
) -> None:
    path = tools(tmp_path)
    program(
        path / "python3",
        f'case "$*" in *ensurepip*|-m*) exit 1 ;; *) exec "{sys.executable}" -S "$@" ;; esac',
    )
    before = {*tree.rglob("*")}
    for option in ("--help", "-h"):
        done = subprocess.run(
            [tree / "bin" / script, option],
            cwd=tmp_path,
            env={"PATH": str(path)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(f"bin/{script}: ")
        assert shown in done.stdout
    assert {*tree.rglob("*")} == before


def test_environment_is_made_once_and_again_when_it_must(tree: Path) -> None:
    both = [install(tree, SERVE), install(tree, TEST)]
    said = [one.communicate()[0] for one in both]
    assert [one.returncode for one in both] == [0, 0]
    assert sum("Installing requirements" in text for text in said) == 1

    environment = tree / ".venv"
    planted = environment / "planted"
    planted.touch()
    assert install(tree, SERVE).communicate()[0] == "", "a second run has nothing to do"

    (tree / SERVE).write_text("# changed\n")
    assert "Installing requirements" in install(tree, SERVE).communicate()[0]
    assert planted.exists(), "a change installs into the same environment"

    (environment / "installation-unfinished").touch()
    assert "Installing requirements" in install(tree, SERVE).communicate()[0]
    assert not planted.exists(), "an interrupted one is made anew"


def test_the_tests_add_to_what_serving_needs_and_serving_takes_nothing_away(
    tree: Path, tmp_path: Path
) -> None:
    server, tool = wheel(tmp_path, "server"), wheel(tmp_path, "tool")
    (tree / SERVE).write_text(locked(server))
    (tree / TEST).write_text(locked(server, tool))
    links = str(tmp_path)
    both = [install(tree, lock, PIP_FIND_LINKS=links) for lock in (SERVE, SERVE)]
    assert [(one.communicate(), one.returncode)[1] for one in both] == [0, 0]
    assert installed(tree) == {"server"}
    unchanged = next((tree / ".venv").rglob("server-1.0.dist-info")).stat().st_ctime_ns

    added = install(tree, TEST, PIP_FIND_LINKS=links).communicate()[0]
    assert f"Installing {TEST}" in added
    assert installed(tree) == {"server", "tool"}
    for lock in (SERVE, TEST):
        assert install(tree, lock).communicate()[0] == "", "everything is there"

    # Another version of what serving needs: the next run of the tests installs what it needs again.
    (tree / SERVE).write_text(locked(server) + "# changed\n")
    assert f"Installing {SERVE}" in install(tree, SERVE, PIP_FIND_LINKS=links).communicate()[0]
    assert installed(tree) == {"server", "tool"}
    assert f"Installing {TEST}" in install(tree, TEST, PIP_FIND_LINKS=links).communicate()[0]
    (now,) = (tree / ".venv").rglob("server-1.0.dist-info")
    assert now.stat().st_ctime_ns == unchanged, "nothing was installed twice"


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM])
def test_pip_ends_with_the_installation_and_the_next_one_starts_anew(
    tree: Path, tmp_path: Path, sent: signal.Signals
) -> None:
    """Fails when the pip of an ended installation writes into the environment of the next one."""
    package = wheel(tmp_path, "guest")
    (tree / SERVE).write_text(locked(package))
    with socket.create_server(("127.0.0.1", 0)) as index:
        index.settimeout(60)
        address = f"http://127.0.0.1:{index.getsockname()[1]}/"
        first = install(
            tree, SERVE, PIP_NO_INDEX="0", PIP_INDEX_URL=address, PIP_CONFIG_FILE=os.devnull
        )
        connection, _ = index.accept()
        with connection:
            first.send_signal(sent)
            first.wait(30)
            assert first.returncode == (-sent if sent == signal.SIGKILL else 130)
            connection.settimeout(20)
            while connection.recv(65_536):
                """Read the request of pip until pip ends."""
    second = install(tree, SERVE, PIP_FIND_LINKS=str(tmp_path))
    assert f"Installing {SERVE}" in second.communicate()[0]
    assert second.returncode == 0
    assert installed(tree) == {"guest"}


def test_a_package_that_is_not_what_the_lock_file_names_is_not_installed(tree: Path) -> None:
    """Fails when pip installs a file of the index that differs from the locked one."""
    package = wheel(tree, "guest")
    for text, code in [("guest==1.0 --hash=sha256:" + "0" * 64, 1), (locked(package), 0)]:
        (tree / TEST).write_text(text + "\n")
        done = install(tree, TEST, PIP_FIND_LINKS=str(package.parent))
        said = done.communicate()[1]
        assert done.returncode == code, said
        assert ("DO NOT MATCH THE HASHES" in said) is (code == 1)


def test_a_requirement_that_is_not_locked_is_named(tree: Path) -> None:
    (tree / "requirements-dev.txt").write_text("guest==1.0\n")
    done = install(tree, TEST)
    said = done.communicate()[1]
    assert done.returncode == 0
    assert "other versions than requirements*.txt of guest==1.0. Write them: " in said


@pytest.mark.parametrize("script", ["bin/serve", "bin/test", "bin/environment.sh"])
def test_script_is_posix_shell(script: str) -> None:
    assert subprocess.run(["/bin/sh", "-n", ROOT / script]).returncode == 0


@pytest.mark.parametrize("script", ["bin/serve", "bin/test", ".ci/run"])
def test_script_is_executable(script: str) -> None:
    assert os.access(ROOT / script, os.X_OK)
