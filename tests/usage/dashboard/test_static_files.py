"""Files that pages load: only from this server, as the content policy allows."""

import hashlib
import re
from pathlib import Path

import pytest
from django.test import Client

from usage import dashboard

FOLDER = Path(dashboard.__file__).parent
UPLOT = FOLDER / "static" / "dashboard" / "uplot"
TEMPLATES = sorted((FOLDER / "templates").rglob("*.html"))

# SHA-256 of the files in the npm package uplot 1.6.32.
DIGESTS = {
    "uPlot.iife.min.js": "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f",
    "uPlot.min.css": "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
    "LICENSE": "8f989229699b4fe2f1a0432d0e9edc338a8a911e250e2d1b01ecd770a5f5b1bd",
}


def test_vendored_files_are_those_of_the_package() -> None:
    found = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in UPLOT.iterdir()}
    assert found == DIGESTS
    assert "uPlot (v1.6.32)" in (UPLOT / "uPlot.iife.min.js").read_text()


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("dashboard.css", "text/css"),
        ("charts.js", "text/javascript"),
        ("uplot/uPlot.iife.min.js", "text/javascript"),
    ],
)
def test_file_is_cached_for_a_minute_and_then_revalidated(path: str, kind: str) -> None:
    response = Client().get(f"/static/dashboard/{path}")
    assert response.status_code == 200
    assert response.headers["Content-Type"].startswith(kind)
    assert response.headers["Cache-Control"] == "max-age=60, public"
    again = Client().get(
        f"/static/dashboard/{path}",
        headers={"If-Modified-Since": response.headers["Last-Modified"]},
    )
    assert again.status_code == 304


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda file: file.name)
def test_no_template_has_a_script_or_style_of_its_own(template: Path) -> None:
    html = template.read_text()
    assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:", html)
    assert all("src=" in tag for tag in re.findall(r"<script[^>]*>", html))
    assert not re.search(r"(src|href)=\"(https?:)?//", html)


def test_there_are_templates_to_look_at() -> None:
    assert {"base.html", "usage.html", "over_limit.html", "refreshes.html"} <= {
        template.name for template in TEMPLATES
    }
