"""Charts of the report as inline SVG: no script, no network."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import matplotlib
from matplotlib.figure import Figure

matplotlib.rcParams.update(
    {
        "svg.fonttype": "none",
        "font.family": "sans-serif",
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
)

#: Colours of the arms, the same in every chart.
COLOURS = {"online": "#0b6e4f", "frozen": "#8a8d91", "bm25": "#c17817", "click_memory": "#7353ba"}


def lines(
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    x: str,
    y: str,
    marks: Mapping[str, float] | None = None,
    bands: Mapping[str, tuple[Sequence[float], Sequence[float]]] | None = None,
) -> str:
    """Line chart: name -> (xs, ys). ``marks``: label -> x of a vertical line. ``bands``: name -> (lows, highs) of 95 %."""
    figure = Figure(figsize=(6.4, 2.6), layout="constrained")
    axes = figure.add_subplot()
    for name, (xs, ys) in series.items():
        axes.plot(xs, ys, label=name.replace("_", " "), color=COLOURS.get(name), linewidth=1.6)
        if bands and name in bands:
            axes.fill_between(xs, *bands[name], color=COLOURS.get(name), alpha=0.15, linewidth=0)
    together: dict[float, list[str]] = {}  # labels at one place share a line of text
    for label, at in (marks or {}).items():
        together.setdefault(at, []).append(label)
    for at, labels in together.items():
        axes.axvline(at, color="#444", linewidth=0.8, linestyle=":")
        text = ", ".join(labels)
        axes.annotate(text, (at, 1.0), xycoords=("data", "axes fraction"), fontsize=7, rotation=90, va="top", ha="right")
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    if len(series) > 1:
        axes.legend(frameon=False, fontsize=8)
    return _svg(figure)


def intervals(rows: Mapping[str, tuple[float, float, float]], x: str) -> str:
    """Forest plot: name -> (difference, low, high)."""
    figure = Figure(figsize=(6.4, 0.5 + 0.32 * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    for n, (diff, low, high) in enumerate(rows.values()):
        colour = COLOURS["online"] if low > 0 else "#b3261e" if high < 0 else COLOURS["frozen"]
        axes.plot([low, high], [n, n], color=colour, linewidth=2)
        axes.plot([diff], [n], "o", color=colour, markersize=5)
    axes.axvline(0, color="#444", linewidth=0.8)
    axes.set_yticks(range(len(rows)), [name.replace("_", " ") for name in rows])
    axes.invert_yaxis()
    axes.set_xlabel(x)
    return _svg(figure)


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]
