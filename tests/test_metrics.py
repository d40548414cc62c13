"""Metrics, alert rules, dashboard and documentation agree: names exist, units are in them, nothing is forgotten."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from tests.exported import named, samples

ROOT = Path(__file__).parents[1]
ALERTS: list[dict[str, Any]] = [
    rule for group in yaml.safe_load((ROOT / "deploy" / "alerts.yml").read_text())["groups"] for rule in group["rules"]
]
BOARD: dict[str, Any] = json.loads((ROOT / "deploy" / "grafana" / "dashboards" / "headrace.json").read_text())
PANELS: list[str] = [target["expr"] for panel in BOARD["panels"] for target in panel["targets"]]
#: Prometheus's own, of each process that it asks.
OF_PROMETHEUS = {"up"}

#: What a name may end in: a base unit, or what is counted.
UNITS = ("total", "seconds", "bytes", "records", "outputs", "requests", "items", "pairs", "ratio", "step", "version")
#: One gauge for whatever the learner reports of a step; its label names the quantity, and each has a unit of its own.
MIXED = {"headrace_learner_step_value"}


def asked(expression: str) -> dict[str, set[str]]:
    """Metric -> labels it is matched by, as Prometheus's grammar reads the expression."""
    found: dict[str, set[str]] = {}

    def visit(node: Any) -> None:
        if isinstance(node, promql_parser.VectorSelector):
            found.setdefault(node.name, set()).update(matcher.name for matcher in node.matchers.matchers)
        for name in ("expr", "lhs", "rhs", "vector_selector", "args", "param"):
            inner = getattr(node, name, None)
            for one in inner if isinstance(inner, list) else [inner] if inner is not None else []:
                visit(one)

    visit(promql_parser.parse(expression))
    return found


def test_the_reader_of_expressions_finds_every_name() -> None:
    """In functions, ranges, aggregations, on both sides, in a subquery's inside."""
    said = 'a - on (x) group_right () (b > 0) and sum by (l) (rate(c{k="v"}[5m])) or max_over_time(rate(d[1m])[5m:1m])'
    assert asked(said) == {"a": set(), "b": set(), "c": {"k"}, "d": set()}
    with pytest.raises(ValueError):
        asked("sum(rate(a[5m])")


@pytest.mark.parametrize("expression", [*[rule["expr"] for rule in ALERTS], *PANELS])
def test_every_expression_parses_and_asks_for_metrics_that_exist(expression: str) -> None:
    """An alert on a name that nobody exports never rings."""
    names = asked(expression)
    assert names and set(names) <= samples() | OF_PROMETHEUS


def test_every_alert_says_when_how_loud_and_what() -> None:
    """Names are unique; each has a delay or a window of its own, a severity and a sentence whose braces close."""
    assert len({rule["alert"] for rule in ALERTS}) == len(ALERTS) >= 12
    for rule in ALERTS:
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        assert "for" in rule or "[" in rule["expr"]
        assert rule["labels"]["severity"] in ("page", "warn")
        summary = rule["annotations"]["summary"]
        assert summary.count("{{") == summary.count("}}") and len(summary) > 20


def test_every_metric_of_ours_is_documented_and_has_a_unit() -> None:
    """docs/operations.md has the table; a unit is the last word of a name (Prometheus's conventions)."""
    said = set(re.findall(r"\bheadrace_[a-z_]+\b", (ROOT / "docs" / "operations.md").read_text()))
    assert set(named()) <= said
    assert {name for name in named() if name.rsplit("_", 1)[1] not in UNITS} == MIXED
    assert all(family.documentation for family in named().values())


def test_what_an_operator_must_see_has_an_alert_and_a_panel() -> None:
    """Lag, watermark, quarantine, commits, learner, served step, refused checkpoints, refused searches, processes."""
    alerted = {name for rule in ALERTS for name in asked(rule["expr"])}
    drawn = {name for expression in PANELS for name in asked(expression)}
    for name in (
        "headrace_lag_seconds", "headrace_lag_records", "headrace_watermark_seconds", "headrace_quarantined_records_total",
        "headrace_last_commit_timestamp_seconds", "headrace_learner_steps_total", "headrace_served_step",
        "headrace_search_requests_total", "headrace_keywords_chains_total", "headrace_integrity_strain_ratio", "headrace_learner_held_seconds", "headrace_learner_guard_seconds",
        "headrace_learner_rollbacks_total", "up", "process_start_time_seconds",
    ):  # fmt: skip
        assert name in alerted and name in drawn, name
    assert "headrace_served_refused_total" in alerted


def test_panels_do_not_overlap() -> None:
    """Grafana would push one of two aside."""
    cells = [
        (x, y)
        for panel in BOARD["panels"]
        for place in [panel["gridPos"]]
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert len({panel["id"] for panel in BOARD["panels"]}) == len(BOARD["panels"])
