"""Parts of a scope that nobody was seen with on the stored pages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from reward.text import normalise
from schemas.campaigns import Scope
from schemas.errors import Unavailable
from schemas.examples import TrainingExample

#: Names that a sentence holds.
MOST = 3


def asks_something(scope: Scope) -> bool:
    """Whether it names anything that a request says: its query, and its user's segment and market."""
    return bool(scope.queries or scope.segments or scope.markets)


def not_held(error: Unavailable) -> str:
    """That nobody could look."""
    return f"queries, segments and markets of the scope were not held against stored pages: {error}"


def unseen(scope: Scope, examples: Sequence[TrainingExample]) -> Iterator[str]:
    """A sentence for each part with names that no stored page has: all of them, or some."""
    if not asks_something(scope):
        return
    if not examples:
        yield "no page is stored yet to hold queries, segments and markets of the scope against"
        return
    queries = {normalise(query) for query in {example.query for example in examples}}
    for one, several, names, seen in (
        ("query", "queries", scope.queries, queries),
        ("segment", "segments", scope.segments, {example.segment for example in examples}),
        ("market", "markets", scope.markets, {example.market for example in examples}),
    ):
        strange = [name for name in names if name not in seen]
        if not strange:
            continue
        told = ", ".join(f'"{name}"' for name in strange[:MOST])
        more = f" and {len(strange) - MOST} more" if len(strange) > MOST else ""
        what = one if len(strange) == 1 else f"any of the {several}"
        yield f"no stored page of the last {len(examples):,} has {what} {told}{more}"
