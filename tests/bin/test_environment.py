import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LOCK = "requirements-dev.lock"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A small tree with the scripts of bin/ and no requirements."""
    shutil.copytree(ROOT / "bin", tmp_path / "tree" / "bin")
    for name in ("requirements.txt", "requirements.lock", "requirements-dev.txt", LOCK):
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
        ["/bin/sh", "-c", f'. "{tree}/bin/environment.sh"', f"{tree}/bin/serve"],
        env={"PATH": path},
        capture_output=True,
        text=True,
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


def test_environment_is_made_once_and_again_when_it_must(tree: Path) -> None:
    def install() -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-m", "bin.install"], cwd=tree, text=True, stdout=subprocess.PIPE
        )

    both = [install(), install()]
    said = [one.communicate()[0] for one in both]
    assert [one.returncode for one in both] == [0, 0]
    assert sum("Installing the requirements" in text for text in said) == 1

    environment = tree / ".venv"
    planted = environment / "planted"
    planted.touch()
    assert install().communicate()[0] == "", "a second run has nothing to do"

    (tree / LOCK).write_text("# changed\n")
    assert "Installing the requirements" in install().communicate()[0]
    assert planted.exists(), "a change installs into the same environment"

    (environment / "installation-unfinished").touch()
    assert "Installing the requirements" in install().communicate()[0]
    assert not planted.exists(), "an interrupted one is made anew"


def test_a_package_that_is_not_what_the_lock_file_names_is_not_installed(tree: Path) -> None:
    """Fails when pip installs a file of the index that differs from the locked one."""
    package = wheel(tree, "guest")
    for digest, code in [("0" * 64, 1), (hashlib.sha256(package.read_bytes()).hexdigest(), 0)]:
        (tree / LOCK).write_text(f"guest==1.0 --hash=sha256:{digest}\n")
        done = subprocess.run(
            [sys.executable, "-m", "bin.install"],
            cwd=tree,
            env={**os.environ, "PIP_FIND_LINKS": str(package.parent), "PIP_NO_INDEX": "1"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == code, done.stderr
        assert ("DO NOT MATCH THE HASHES" in done.stderr) is (code == 1)


def test_a_requirement_that_is_not_locked_is_named(tree: Path) -> None:
    (tree / "requirements-dev.txt").write_text("guest==1.0\n")
    done = subprocess.run(
        [sys.executable, "-m", "bin.install"], cwd=tree, capture_output=True, text=True
    )
    assert done.returncode == 0
    assert "other versions than requirements*.txt of guest==1.0. Write them: " in done.stderr


@pytest.mark.parametrize("script", ["bin/serve", "bin/test", "bin/environment.sh"])
def test_script_is_posix_shell(script: str) -> None:
    assert subprocess.run(["/bin/sh", "-n", ROOT / script]).returncode == 0


@pytest.mark.parametrize("script", ["bin/serve", "bin/test", ".ci/run"])
def test_script_is_executable(script: str) -> None:
    assert os.access(ROOT / script, os.X_OK)
