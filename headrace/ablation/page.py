"""The ablation in markdown: tables, and what they say in plain sentences. Every number is one of the combined JSON."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from headrace.ablation.arms import FROZEN, OURS, table
from headrace.ablation.lab import CLASSES
from headrace.ablation.measures import DAYS, VISITS, span_name

#: The baseline that position advantages have to beat.
RIVAL = "grpo_sft"
#: Fewer seeds than this are said to prove nothing.
LEAST_SEEDS = 3
#: Measures that have a winner, with their words.
CONTESTS = {
    "reward": "reward per search", "clicks": "clicks per search", "orders": "orders per search", "ndcg": "NDCG@10",
    "unseen.ndcg": "NDCG@10 on unseen queries", "unseen.clicks": "clicks on unseen queries", "tail: reward": "reward on tail queries",
    "visits 0: reward": "reward at a query's first search", "visits 16+: reward": "reward after 16 searches for the query",
    "new_clicks": "clicks on new items",
}  # fmt: skip


def section(found: dict[str, Any], title: str, command: str, proof: bool = True) -> str:
    """A section of markdown under ``## title``. ``proof`` False: it says that it proves nothing."""
    lines = [f"## {title}", "", f"`{command}`", "", _about(found), ""]
    if not proof or len(found["seeds"]) < LEAST_SEEDS:
        lines += [f"**{len(found['seeds'])} seed(s) and {sum(found['searches'].values())} searches prove nothing.**", ""]
    named = {group: [name for name in found["arms"] if name in arms] for group, arms in table().items()}
    main = [name for name in found["arms"] if name not in named["switches"]]
    lines += _compared(found, main)
    lines += ["### What it says", "", *(f"- {line}" for line in verdicts(found)), ""]
    if named["switches"]:
        lines += ["### One switch at a time", "", *_compared(found, [OURS, *named["switches"]])]
    lines += ["### Unseen queries", "", *_unseen(found, main), "### Where", "", *_where(found, main)]
    lines += ["### The learner's health", "", *_health(found)]
    return "\n".join(lines)


def verdicts(found: dict[str, Any]) -> list[str]:
    """Which arm wins what, with the evidence; a lead within the interval is said to be no win."""
    said = []
    for measure, words in CONTESTS.items():
        means = {name: arm["means"].get(measure) for name, arm in found["arms"].items()}
        ranked = sorted((name for name in means if means[name] is not None), key=lambda name: -means[name])
        if not ranked:
            continue
        if means[ranked[0]] == means[ranked[-1]]:
            said.append(f"{words}: all alike, {_number(means[ranked[0]])}")
            continue
        best, against = ranked[0], [o for o in (FROZEN, OURS) if o in found["paired"] and o != ranked[0]]
        cells = [f"{_interval(row)} on {o}" for o in against if (row := found["paired"][o][best][measure])]
        held = all(found["paired"][o][best][measure] and found["paired"][o][best][measure]["low"] > 0 for o in against)
        what = "wins" if held else "leads, without proof"
        said.append(f"{words}: `{best}` {what}, {_number(means[best])}" + (f" ({'; '.join(cells)})" if cells else ""))
    if OURS in found["paired"]:
        said += [_against(found, other) for other in (RIVAL, "click_memory", "frozen_ctr", "bm25") if other in found["arms"]]
        if FROZEN in found["arms"]:
            said.append(_against(found, FROZEN))
    return said


def _against(found: dict[str, Any], other: str) -> str:
    rows = {name: row for name, row in found["paired"][OURS][other].items() if row}
    better = [name for name, row in rows.items() if row["high"] < 0]  # the other less ours
    worse = [name for name, row in rows.items() if row["low"] > 0]
    return f"`{OURS}` beats `{other}` in: {', '.join(better) or 'nothing'}; loses in: {', '.join(worse) or 'nothing'}"


def write_section(file: Path, text: str) -> None:
    """Put the section into a markdown file: in place of the one with the same heading, else at its end."""
    heading = text.partition("\n")[0]
    before = file.read_text() if file.is_file() else ""
    old = re.search(rf"^{re.escape(heading)}$.*?(?=^## |\Z)", before, re.MULTILINE | re.DOTALL)
    if old:
        after = f"{before[: old.start()]}{text.rstrip()}\n\n{before[old.end() :]}".rstrip() + "\n"
    else:
        after = f"{before.rstrip()}\n\n{text.rstrip()}\n".lstrip()
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(after)


def _about(found: dict[str, Any]) -> str:
    seeds, loop = found["seeds"], found["loop"]
    counts = ", ".join(f"{found['searches'][str(s)]} searches for {found['queries'][str(s)]} queries" for s in seeds)
    refused = sum((Counter(arm["refused"]) for arm in found["arms"].values()), Counter[str]())
    whys = ", ".join(f"{why} {n:,}" for why, n in sorted(refused.items()))
    lost = f" The event plane refused, over all arms: {whys}." if refused else ""
    mixed = " The arms were not all played by the same code." if len(found["code"]) > 1 else ""
    return (
        f"{', '.join(found['data'])}, seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}: {counts}. A step every "
        f"{loop['step_every']} searches, a publication every {loop['publish_every']} steps, "
        f"{'through the gate' if loop['gated'] else 'without the gate'}. All arms start from the same warm start and meet the "
        f"same searches, users and draws. {_drawn(found)}{lost}{mixed}"
    )


def _drawn(found: dict[str, Any]) -> str:
    paired = "Differences are paired by search, with 95 % intervals clustered by query"
    if (runs := max(arm["runs"] for arm in found["arms"].values())) == 1:
        return f"{paired}; they do not count what a learner's own draws do."
    return f"Of every learner {runs} runs a seed, each with draws of its own; their mean. {paired}, which count those draws too."


def _compared(found: dict[str, Any], names: Sequence[str]) -> list[str]:
    names = [name for name in names if name in found["arms"]]
    head = ["arm", "reward", "clicks", "orders", "NDCG@10", "click HR@10", "click MRR@10", "order HR@10", "order MRR@10"]
    shown = ("reward", "clicks", "orders", "ndcg", "click_hr", "click_mrr", "order_hr", "order_mrr")
    others = [other for other in (FROZEN, OURS) if other in found["paired"]]
    head += [f"{measure}, less {other}" for other in others for measure in ("reward", "clicks")]
    rows = []
    for name in names:
        cells = [_number(found["arms"][name]["means"][measure]) for measure in shown]
        pairs = [
            found["paired"][other][name][m] if other != name else None for other in others for m in ("reward", "clicks")
        ]
        rows.append([f"`{name}`", *cells, *map(_interval, pairs)])
    says = [f"`{name}`: {found['arms'][name]['says']}." for name in names]
    return [*_table(head, rows), "", " ".join(says), ""]


def _unseen(found: dict[str, Any], names: Sequence[str]) -> list[str]:
    head = ["arm", "NDCG@10", "clicks", "reward", *(f"NDCG@10, less {other}" for other in found["paired"])]
    rows = [
        [f"`{name}`", *(_number(found["arms"][name]["means"][f"unseen.{m}"]) for m in ("ndcg", "clicks", "reward")),
         *(_interval(found["paired"][o][name]["unseen.ndcg"] if o != name else None) for o in found["paired"])]
        for name in names
    ]  # fmt: skip
    about = f"{sum(found['probes'].values())} searches for queries that no log, label or stream had, after the stream's end."
    return [about, "", *_table(head, rows), ""]


def _where(found: dict[str, Any], names: Sequence[str]) -> list[str]:
    cuts = [f"visits {span_name(*span)}" for span in VISITS] + list(CLASSES)
    cuts += ["before the drift", *(f"drift day {day}" for day in range(DAYS))]
    cuts = [cut for cut in cuts if any(found["arms"][name]["means"][f"{cut}: reward"] is not None for name in names)]
    rows = [
        [f"`{name}`", *(_number(found["arms"][name]["means"][f"{cut}: reward"]) for cut in cuts),
         _number(found["arms"][name]["means"]["new_shown"]), _number(found["arms"][name]["means"]["new_clicks"])]
        for name in names
    ]  # fmt: skip
    about = "Reward per search by earlier searches for the query, by its frequency, and by day; then new items' share and clicks."
    return [about, "", *_table(["arm", *cuts, "new items shown", "clicks on new items"], rows), ""]


def _health(found: dict[str, Any]) -> list[str]:
    names = {"unique_sids": "distinct SIDs a group", "constant_groups": "constant groups", "entropy": "entropy (nats)",
             "sft_ce": "full-vocabulary cross-entropy (nats a code)", "warm_start_ce": "the same on warm-start pairs"}  # fmt: skip
    rows = []
    for name, arm in found["arms"].items():
        if not arm["trained"]:
            continue
        ends = [(arm["health"]["first"][key], arm["health"]["last"][key]) for key in names]
        cells = ["-" if first is None else f"{_number(first)} → {_number(last)}" for first, last in ends]
        rows.append([f"`{name}`", *cells, _number(arm["valid_sid_rate"]), f"{arm['promoted']} of {arm['published']}"])
    head = ["arm", *names.values(), "valid SIDs, unconstrained", "promoted"]
    return ["First tenth of the steps → last.", "", *_table(head, rows), ""]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _interval(row: dict[str, float] | None) -> str:
    return "-" if row is None else f"{row['diff']:+.4f} [{row['low']:+.4f}, {row['high']:+.4f}]"
