"""The event log of a data folder (`stream/events.jsonl`, or its zstd form): its lines, and what they become."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import msgspec

from headrace.adapters.log_split import LoggedView
from headrace.adapters.reading import RawId, one_of, read_lines
from headrace.adapters.tables import Queries
from headrace.world import Outcome
from schemas.catalogue import Catalogue
from schemas.errors import InvalidData
from schemas.events import Click, Group, Impression, Order, Return, ShownItem


class ImpressionLine(msgspec.Struct, tag_field="type", tag="impression", forbid_unknown_fields=True):
    ts: int
    imp: RawId
    user: RawId
    query_id: RawId
    items: list[RawId]
    session: RawId = ""
    lp: float = 0.0  #: log-probability of the list
    segment: Group = ""
    market: Group = ""


class ClickLine(msgspec.Struct, tag_field="type", tag="click", forbid_unknown_fields=True):
    ts: int
    imp: RawId
    user: RawId
    item: RawId
    pos: int = 0


class OrderLine(msgspec.Struct, tag_field="type", tag="order", forbid_unknown_fields=True):
    ts: int
    imp: RawId
    user: RawId
    item: RawId
    pos: int = 0
    value: float | None = None


class ReturnLine(msgspec.Struct, tag_field="type", tag="return", forbid_unknown_fields=True):
    ts: int
    imp: RawId
    user: RawId
    item: RawId


class ItemAddedLine(msgspec.Struct, tag_field="type", tag="item_added", forbid_unknown_fields=True):
    ts: int
    item: RawId


Line = ImpressionLine | ClickLine | OrderLine | ReturnLine | ItemAddedLine


class FolderLog:
    """The log's ``lines`` as (row, line), in the file's order, and their meaning under a catalogue.

    Raises:
        InvalidData: a line is not as documented, names an unknown query or item, or there is no line at all.
    """

    def __init__(self, folder: Path) -> None:
        path = one_of(folder / "stream", "events.jsonl.zst", "events.jsonl")
        self.file = str(path)
        self.lines: list[tuple[int, Line]] = list(read_lines(path, Line))
        if not self.lines:
            raise InvalidData(self.file, None, "events", "empty", "at least one event")
        self.first_ms = min(line.ts for _, line in self.lines)
        self.last_ms = max(line.ts for _, line in self.lines)

    def views(
        self, wanted: Callable[[ImpressionLine], bool], shift_ms: int, queries: Queries, catalogue: Catalogue
    ) -> list[LoggedView]:
        """The wanted page views in the file's order, moved by ``shift_ms``, each with what became of it.

        Lines about other views are left out. New items are no part of a view: see `arrivals`.
        """
        pages = {
            line.imp: self._impression(row, line, shift_ms, queries, catalogue)
            for row, line in self.lines
            if isinstance(line, ImpressionLine) and wanted(line)
        }
        later: defaultdict[RawId, list[Click | Order | Return]] = defaultdict(list)
        for row, line in self.lines:
            if isinstance(line, ClickLine | OrderLine | ReturnLine) and line.imp in pages:
                later[line.imp].append(self._reaction(row, line, shift_ms, catalogue))
        return [LoggedView(page, _outcome(later[imp])) for imp, page in pages.items()]

    def _reaction(
        self, row: int, line: ClickLine | OrderLine | ReturnLine, shift_ms: int, catalogue: Catalogue
    ) -> Click | Order | Return:
        self.check_item(row, line.item, catalogue)
        ts, user, request, item = line.ts + shift_ms, f"u{line.user}", f"r{line.imp}", str(line.item)
        order_id = f"o-{request}-{item}"
        if isinstance(line, ReturnLine):
            return Return(ts, user, order_id)
        if line.pos < 0:
            raise InvalidData(self.file, row, "pos", line.pos, "1 or more, 0 for not known")
        if isinstance(line, ClickLine):
            return Click(ts, user, item, request, line.pos)
        price = float(catalogue.prices_N[catalogue.row[item]])
        return Order(ts, user, item, order_id, price if line.value is None else line.value)

    def arrivals(self, catalogue: Catalogue) -> dict[int, int]:
        """Catalogue row -> the log's time at which the item appears, for the new ones."""
        times: dict[int, int] = {}
        for row, line in self.lines:
            if isinstance(line, ItemAddedLine):
                self.check_item(row, line.item, catalogue)
                times[catalogue.row[str(line.item)]] = line.ts
        return times

    def check_item(self, row: int, item: RawId, catalogue: Catalogue) -> None:
        """Raises InvalidData when the catalogue lacks the item."""
        if str(item) not in catalogue.row:
            raise InvalidData(self.file, row, "item", item, "in items.parquet")

    def _impression(
        self, row: int, line: ImpressionLine, shift_ms: int, queries: Queries, catalogue: Catalogue
    ) -> Impression:
        if line.query_id not in queries.text:
            raise InvalidData(self.file, row, "query_id", line.query_id, "in queries.parquet")
        if not line.items or len(set(line.items)) < len(line.items):
            raise InvalidData(self.file, row, "items", line.items, "at least one item, none of them twice")
        for item in line.items:
            self.check_item(row, item, catalogue)
        each = math.exp(min(0.0, line.lp) / len(line.items))  # only the list's probability is known: equal parts
        shown = tuple(ShownItem(str(item), n, max(each, 1e-12)) for n, item in enumerate(line.items, start=1))
        text = queries.text[line.query_id]
        return Impression(
            line.ts + shift_ms, f"r{line.imp}", f"u{line.user}", text, shown, str(line.session),
            segment=line.segment, market=line.market,
        )  # fmt: skip


def _outcome(events: list[Click | Order | Return]) -> Outcome:
    return Outcome(
        tuple(event for event in events if isinstance(event, Click)),
        tuple(event for event in events if isinstance(event, Order)),
        tuple(event for event in events if isinstance(event, Return)),
    )
