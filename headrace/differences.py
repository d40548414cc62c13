"""What `headrace diff-topics` prints: counts, and the first keys that differ, value by value."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from headrace.columns import Column, aligned
from streams.replaying.diff import Difference

#: Values of one key that are shown; of a page that was another altogether each would differ.
MOST_VALUES = 8


def difference_lines(found: Difference, limit: int, width: int | None = None) -> list[str]:
    """The counts, then at most ``limit`` keys of each sort."""
    lines = aligned((Column(f"{found.a} and {found.b}"), Column("keys", right=True)), list(_counts(found)), width)
    names = {"different": f"{found.a} -> {found.b}", "only_a": f"only in {found.a}", "only_b": f"only in {found.b}"}
    for sort, examples in found.examples.items():
        total = int(getattr(found, sort))
        if not (shown := examples[:limit]):
            continue
        lines += ["", f"{names[sort]}, {len(shown)} of {total}:" if len(shown) < total else f"{names[sort]}:"]
        for example in shown:
            lines.append(f"  {example.key}" + (f" ({', '.join(example.fields)})" if example.fields else ""))
            moved = [(f"    {path}", _text(a), "->", _text(b)) for path, (a, b) in example.changes.items()]
            lines += aligned([Column("")] * 4, moved[:MOST_VALUES], width)[1:]
            if len(moved) > MOST_VALUES:
                lines.append(f"    and {len(moved) - MOST_VALUES} more: --json FILE has all")
    return lines


def _counts(found: Difference) -> Iterator[tuple[str, str]]:
    revised = found.fields.get("revision", 0)
    yield "same" + (" (but for the revision's number, some)" if revised else ""), str(found.same)
    yield "different", str(found.different)
    yield from ((f"  by {name}", str(count)) for name, count in sorted(found.fields.items()))
    yield f"only in {found.a}", str(found.only_a)
    yield f"only in {found.b}", str(found.only_b)


def _text(said: Any) -> str:
    return "nothing" if said is None else f"{said!r}" if said == "" else f"{said}"
