"""Files of rejected lines: their paths, the files that they never overwrite, and their import."""

import os
import stat
from pathlib import Path

import pytest

from tests.usage.importing import (
    call,
    counts,
    finished,
    imported,
    start_command,
    start_python,
    stored,
    write,
    write_records,
)
from usage.errors import ImportFileError
from usage.services.imports import Importer, ImportOptions, ImportStoppedError, rejects
from usage.services.imports.lines import source_name

pytestmark = pytest.mark.usefixtures("directory", "only_default_partitions")

GOOD = "data,a,2026-11-15T21:00:00Z,1,1,k"
BAD = "data,a,2026-11-15T21:00:00Z,free,1,k2"
ZONE = "UTC"


def test_they_lie_beside_their_input(directory: Path) -> None:
    """Fails when files with the same name in two directories share a file of rejected lines."""
    paths = []
    for name in ["a", "b"]:
        (directory / name).mkdir()
        paths.append(write_records(directory / name / "x.csv", BAD, BAD.replace("free", name)))
    reports = [imported(path) for path in paths]
    assert [report.rejects for report in reports] == [
        directory / "a" / "x.csv.rejects",
        directory / "b" / "x.csv.rejects",
    ]
    assert ",b,1,k2" in (directory / "b" / "x.csv.rejects").read_text()
    assert sorted(os.listdir(directory)) == ["a", "b"]  # noqa: PTH208 - nothing else lies there


def test_no_file_and_no_link_is_overwritten(directory: Path) -> None:
    """Fails when an existing file is emptied, or a link, dangling or not, is followed."""
    victim = directory / "victim"
    victim.write_text("precious\n")
    (directory / "x.csv.rejects").symlink_to(victim)
    (directory / "x.csv.rejects-2").symlink_to(directory / "nowhere")
    (directory / "x.csv.rejects-3").write_text("corrected by hand\n")
    report = imported(write_records(directory / "x.csv", BAD))
    assert report.rejects == directory / "x.csv.rejects-4"
    assert stat.S_IMODE(report.rejects.stat().st_mode) == 0o600
    assert victim.read_text() == "precious\n"
    assert not (directory / "nowhere").exists()
    assert (directory / "x.csv.rejects-3").read_text() == "corrected by hand\n"


def test_corrected_lines_are_read_before_others_are_rejected(directory: Path) -> None:
    """One command imports the file and its corrected lines; both names are inputs."""
    path = write_records(directory / "x.csv", GOOD, BAD)
    corrected = imported(path).rejects
    assert corrected is not None
    corrected.write_text(corrected.read_text().replace(",free,", ",2,"))
    text = corrected.read_text()
    Importer(ImportOptions()).check([str(path), str(corrected)])
    assert counts(imported(path)) == (2, 0, 1, 1)
    assert counts(imported(corrected)) == (1, 1, 0, 0)
    assert corrected.read_text() == text


def test_a_chosen_path_is_never_overwritten(directory: Path) -> None:
    path = write_records(directory / "x.csv", BAD)
    taken = write(directory / "taken", "of an earlier run")
    link = directory / "link"
    link.symlink_to(directory / "nowhere")
    for rejects_path in [taken, link, path, directory]:
        with pytest.raises(ImportFileError, match=r" exists\. Give --rejects a path where nothing"):
            Importer(ImportOptions(rejects=rejects_path)).check([str(path)])
        with pytest.raises(ImportStoppedError, match=r" cannot be written: File exists"):
            imported(path, rejects=rejects_path)
    assert taken.read_text() == "of an earlier run\n"


def test_imports_from_standard_input_have_a_file_each(directory: Path) -> None:
    """Fails when two concurrent imports write to one file."""
    path = write_records(directory / "x.csv", BAD, BAD)
    ((code, output, _),) = [run_with_input(path, directory)]
    assert code == 1
    assert f"Rejected lines are in {directory / 'stdin.rejects'}. " in output
    ((_, output, _),) = [run_with_input(path, directory)]
    assert f"Rejected lines are in {directory / 'stdin.rejects-2'}. " in output


def run_with_input(path: Path, directory: Path) -> tuple[int, str, str]:
    with path.open() as file:
        process = start_command("import_usage", "-", cwd=directory, stdin=file.fileno())
    output, error = process.communicate(timeout=60)
    return process.returncode, output, error


def test_their_number_is_bounded(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rejects, "MOST_FILES", 2)
    path = write_records(directory / "x.csv", BAD)
    assert [imported(path).rejects for _ in range(2)] == [
        directory / "x.csv.rejects",
        directory / "x.csv.rejects-2",
    ]
    with pytest.raises(ImportStoppedError, match=r"x\.csv\.rejects-2 cannot be written: File ex"):
        imported(path)


def test_a_full_disk_is_named(directory: Path) -> None:
    """A limit on the file size simulates a full disk. Fails when the result is a traceback."""
    path = write_records(directory / "x.csv", GOOD, *[BAD] * 100)
    script = directory / "short.py"
    script.write_text(
        "import resource, sys, django\n"
        "django.setup()\n"
        "from django.core.management import call_command\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "from usage.services.imports import ImportOptions, ImportStoppedError, import_file\n"
        "try:\n"
        "    import_file(sys.argv[1], ImportOptions())\n"
        "except ImportStoppedError as error:\n"
        "    print(error)\n"
    )
    ((code, output, error),) = finished([start_python(script, path, cwd=directory)])
    assert (code, error) == (0, "")
    assert output.startswith(
        f"{path}.rejects cannot be written: File too large. Give another path with --rejects. "
        "Before that: 101 read, 1 added"
    )


@pytest.mark.one_server("it counts records already known as added")
def test_those_of_call_records_are_imported(directory: Path) -> None:
    """Fails when the header of the file is read as a call, or its line number as the column `line`
    of a call."""
    good = call("15/11/2026 21:00:00", "15/11/2026 21:01:00")
    path = write(directory / "calls.csv", good, good.replace(",10", ",ten"), "1,01")
    options = {"format": "calls", "zone": ZONE}
    first = imported(path, **options)
    assert counts(first) == (3, 1, 0, 2)
    assert first.rejects is not None
    text = first.rejects.read_text().replace(",ten", ",20").replace("01,1,02", "01,2,02")
    first.rejects.write_text(text)
    second = imported(first.rejects, **options)
    assert counts(second) == (2, 1, 0, 1)
    assert second.rejects == directory / "calls.csv.rejects.rejects"
    # A line that is rejected a second time has two more columns, and can still be imported.
    whole = good.replace("01,1,02", "01,3,02")
    second.rejects.write_text(second.rejects.read_text().replace("1,01\n", f"{whole}\n"))
    assert counts(imported(second.rejects, **options)) == (1, 1, 0, 0)
    assert [price for _, _, _, price, _ in stored()] == ["0.10", "0.10", "0.20"]
    corrected = [
        good,
        good.replace("01,1,02", "01,2,02").replace(",10", ",20"),
        whole,
    ]
    assert counts(imported(write(path, *corrected), **options)) == (3, 0, 3, 0)


def test_the_source_is_that_of_the_original_file() -> None:
    assert source_name("a/x.csv.gz.rejects") == "x.csv"
    assert source_name("x.csv.rejects-12.rejects") == "x.csv"
    assert source_name("x.rejects.csv") == "x.rejects.csv"
