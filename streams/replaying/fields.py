"""What two records of one kind are compared by: the identity under which a later one replaces an earlier one, and fields.

Left out are the marks of *when* something was said (``emitted_at``) and differences to an earlier revision (``d_clicks``):
two logs may come to the same labels by different ways. The revision's number is such a way too: it is told apart, and does
not make two records different.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from schemas.examples import TrainingExample
from schemas.topics import DELTAS, EXAMPLES, SNAPSHOTS, VIEWS
from schemas.views import View, ViewStatus

#: The field that may differ in what counts as the same.
REVISION = "revision"

#: Fields of the records that are not compared, besides those that follow from the revision.
UNCOMPARED = frozenset({"emitted_at", "d_clicks", "d_orders", "trace", "view_id", "example_id", "path"})


class Kind(NamedTuple):
    """How records of a topic are compared; ``fields`` are the names of what ``values`` gives, in that order.

    ``absent``: whether a record says that there is nothing. ``parts``: records of one key add up, none replaces another.
    """

    fields: tuple[str, ...]
    key: Callable[[Any], str]
    values: Callable[[Any], tuple[Any, ...]]
    absent: Callable[[Any], bool] = lambda _: False
    parts: bool = False


def taken_back(view: View | TrainingExample) -> bool:
    """Whether the view is as if it had never been: what a switch says of one that the rebuilt log lacks.

    The join itself retracts orders, never the click before them, so it leaves no view like this.
    """
    return view.status is ViewStatus.RETRACTED and not any(e.clicks or e.orders for e in view.items)


def _page(view: View | TrainingExample) -> tuple[Any, ...]:
    return (
        view.ts, view.user, view.query, view.recent_queries, view.recent_items, view.recent_orders, view.candidates,
        view.checkpoint, view.weights_version, view.segment, view.market, view.filter,
    )  # fmt: skip


def _label(view: View | TrainingExample) -> tuple[Any, ...]:
    return (
        tuple((e.item, e.clicks) for e in view.items),
        tuple((e.item, e.orders) for e in view.items),
        tuple((e.item, e.value) for e in view.items),
        tuple((e.item, e.position, e.propensity) for e in view.items),
        view.status,
        view.revision,
    )


def view_values(view: View) -> tuple[Any, ...]:
    """The compared fields of a view."""
    return (*_label(view), (*_page(view), view.session, view.snapshot_version, view.support))


def _example_values(example: TrainingExample) -> tuple[Any, ...]:
    facts = tuple((e.tier, e.tier_confidence, e.ctr, e.ctr_variance, e.ctr_ess) for e in example.items)
    versions = (example.relevance_version, example.snapshot_version, example.calibrator_version)
    return (*_label(example), _page(example), facts, versions)


_LABEL = ("clicks", "orders", "value", "items", "status", REVISION, "page")

KINDS: Mapping[str, Kind] = {
    VIEWS.name: Kind(_LABEL, lambda v: v.request_id, view_values, taken_back),
    EXAMPLES.name: Kind((*_LABEL, "components", "versions"), lambda e: e.request_id, _example_values, taken_back),
    DELTAS.name: Kind(
        ("counts", "last"), lambda d: f"source {d.source}, stamp {d.stamp}", lambda d: (d.deltas, d.last), parts=True
    ),
    SNAPSHOTS.name: Kind(
        ("version", "content", "calibrator", "pairs"),
        lambda s: f"stamp {s.stamp}",
        lambda s: (
            s.version,
            (s.sha256, s.examination_version, s.identifiers),
            (s.calibrator_version, s.corrector),
            (s.pairs, s.evicted),
        ),
    ),
}
