"""Helpers that read a page: its words, its charts, and its tables without commas in numbers."""

import json
import re
from html.parser import HTMLParser
from typing import Any

from django.test import Client


class Tables(HTMLParser):
    """A parser that collects the body cells of each table, by the id of the table."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: dict[str, list[list[str]]] = {}
        self._table = ""
        self._in_body = self._in_cell = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "table":
            self._table = dict(attrs).get("id") or ""
            self.rows[self._table] = []
        elif tag == "tbody":
            self._in_body = True
        elif tag == "tr" and self._in_body:
            self.rows[self._table].append([])
        elif tag in {"td", "th"} and self._in_body:
            self._in_cell = True
            self.rows[self._table][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        if tag == "tbody":
            self._in_body = False
        elif tag in {"td", "th"}:
            self._in_cell = False

    def handle_data(self, data: str) -> None:
        if self._in_cell:
            self.rows[self._table][-1][-1] += data.strip().replace(",", "")


def rows(client: Client, url: str, table: str) -> list[list[str]]:
    """Return the rows of a table of a page, whose status must be 200; none without this table."""
    response = client.get(url)
    assert response.status_code == 200, response.content.decode()
    found = Tables()
    found.feed(response.content.decode())
    return found.rows.get(table, [])


def text(client: Client, url: str, *, status: int = 200) -> str:
    """Return the text of a page, with single spaces between words."""
    response = client.get(url)
    assert response.status_code == status, response.content.decode()
    return words(response.content.decode())


def words(html: str) -> str:
    without_scripts = re.sub(r"<script.*?</script>", "", html, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]*>", " ", without_scripts).split())


def charts(client: Client, url: str) -> dict[str, Any]:
    """Return the data of the charts of a page, by id."""
    html = client.get(url).content.decode()
    found = re.findall(r'<script id="([\w-]+)" type="application/json">(.*?)</script>', html)
    return {name: json.loads(data) for name, data in found}
