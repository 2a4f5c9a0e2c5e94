"""The alert rules use only metrics that /metrics exposes."""

import re
from typing import Any

import pytest
import yaml
from django.conf import LazySettings
from django.test import Client

from tests.factories import refresh_totals
from tests.processes import ROOT
from tests.usage.monitoring.scraping import TOKEN, Samples, scrape
from usage.models import RefreshRun
from usage.services.audit.verification import verify

RULES: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((ROOT / "docs/operations/alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]
# Words of an expression that are no metrics: functions, operators and keywords.
WORDS = {
    *("sum", "max", "by", "on", "group_left", "and"),
    *("rate", "increase", "histogram_quantile", "min_over_time", "predict_linear"),
}
OF_PROMETHEUS = {"up"}


def metrics_named(expression: str) -> set[str]:
    """Return the metrics of an expression: words outside of selectors, ranges and groupings."""
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]|by \([^)]*\)", " ", expression)
    return set(re.findall(r"\b[a-z_][a-z_0-9]*\b", bare)) - WORDS - OF_PROMETHEUS


def labels_named(expression: str) -> list[tuple[str, str, str]]:
    """Return each metric, label and value of `metric{label="value"}`."""
    return [
        (metric, label, value)
        for metric, selector in re.findall(r"(\w+)\{([^}]*)\}", expression)
        for label, value in re.findall(r'(\w+)="([^"]*)"', selector)
        if metric not in OF_PROMETHEUS
    ]


@pytest.fixture
def exposed(state: None, settings: LazySettings) -> Samples:
    """Return the samples of /metrics after an audit, a refresh and a request."""
    settings.USAGE_METRICS_TOKEN = TOKEN
    refresh_totals()
    verify()
    assert RefreshRun.objects.filter(trigger="audit").exists()
    Client().get("/health/live")
    return scrape()


def test_every_rule_names_only_metrics_that_are_exposed(exposed: Samples) -> None:
    names = {name for name, _ in exposed}
    for rule in RULES:
        named = metrics_named(rule["expr"])
        assert named or "up{" in rule["expr"], rule["alert"]
        assert named <= names, rule["alert"]


def test_every_label_value_named_is_exposed(exposed: Samples) -> None:
    for rule in RULES:
        for metric, label, value in labels_named(rule["expr"]):
            if label == "endpoint":
                continue  # exposed only after a request to it
            values = {dict(labels).get(label) for name, labels in exposed if name == metric}
            assert value in values, rule["alert"]


def test_an_unknown_metric_is_found() -> None:
    assert metrics_named('sum by (le) (rate(usage_a_bucket{x="y"}[5m])) > 2 * up{job="u"}') == {
        "usage_a_bucket"
    }


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_rule_is_complete_and_documented(rule: dict[str, Any]) -> None:
    assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
    assert rule["labels"]["severity"] in {"page", "ticket"}
    assert rule["annotations"]["summary"]
    assert rule["expr"].count("(") == rule["expr"].count(")")
    assert re.fullmatch(r"\d+[smhd]", rule.get("for", "1m"))
    assert f"`{rule['alert']}`" in (ROOT / "docs/operations.md").read_text()


def test_names_of_alerts_are_unique() -> None:
    names = [rule["alert"] for rule in RULES]
    assert len(names) == len(set(names))
