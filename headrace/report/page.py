"""The report's page: self-contained HTML from the numbers of report.json."""

from __future__ import annotations

import json
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from headrace.report.charts import intervals, lines
from headrace.report.tables import METRICS


def render(report: dict[str, Any]) -> str:
    """The page as text.

    Raises:
        jinja2.UndefinedError: the report lacks a field that the page shows.
    """
    environment = Environment(loader=PackageLoader("headrace.report", "."), undefined=StrictUndefined, autoescape=True)
    template = environment.get_template("page.html.j2")
    raw = json.dumps(report, indent=1, default=str)
    return template.render(r=report, metrics=METRICS, charts=_charts(report), raw=raw)


def _charts(report: dict[str, Any]) -> dict[str, list[Markup]]:
    series = report["series"]
    paired = {name: (p["diff"], p["low"], p["high"]) for name, p in report["quality"]["paired"].items() if p is not None}
    marks = {mark["label"]: mark["at"] for mark in series["marks"]}
    quality = [
        lines(
            {arm: (series["progress"]["x"], ys) for arm, ys in series["progress"]["reward"].items()},
            "searches of the live stream",
            "reward per search",
            marks,
        ),
        intervals(paired, "online less frozen, paired 95 % interval by query"),
    ]
    steps = series["steps"]
    learning = [
        lines({"reward of rollouts": (steps["wall_s"], steps["reward"])}, "wall seconds", "mean reward", steps["marks"]),
        lines({"distinct identifiers in a group": (steps["wall_s"], steps["unique"])}, "wall seconds", "of G rollouts"),
    ]
    return {"quality": [Markup(c) for c in quality], "learning": [Markup(c) for c in learning]}
