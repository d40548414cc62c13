"""A folder with a shop's own data: its log is the history, its simulator the people who shop live.

Without a simulator the log's later page views are the live part, as in any logged world. The simulator keeps its own times
and ids; requests and outcomes are moved and renamed here.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.adapters.folder_log import FolderLog, ImpressionLine
from headrace.adapters.log_split import LogSplit, split_log
from headrace.adapters.logged import LoggedWorld, shift_ms
from headrace.adapters.reading import RawId
from headrace.adapters.simulator import load_simulator
from headrace.adapters.tables import read_items, read_judgments, read_queries
from headrace.shop.settings import DAY_MS, ShopSettings
from headrace.world import Outcome, Request
from schemas.catalogue import Catalogue
from schemas.errors import InvalidValue
from schemas.events import Click, Order


class FolderWorld(LoggedWorld):
    """The shop in ``folder``; see docs/data.md. With a ``simulate.py`` people of it shop live, else the log answers."""

    def __init__(self, folder: Path, settings: ShopSettings, now_ms: int) -> None:
        self._settings, self._seed = settings.folder, settings.seed
        catalogue, self._raw_item = read_items(folder)
        self._queries = read_queries(folder)
        ordinary, held_out = read_judgments(folder, self._queries, catalogue)
        log = FolderLog(folder)
        self._simulator = load_simulator(folder)
        if self._simulator is None:
            self._raw_start, border, end = log.first_ms, log.last_ms + 1, log.last_ms + 1
        else:
            self._raw_start = self._simulator.start_ms
            border = self._raw_start + int(self._settings.history_days * DAY_MS)
            end = max(border, min(border + int(self._settings.live_days * DAY_MS), log.last_ms))
        self._shift = shift_ms(end, now_ms, settings.quiet_days)
        catalogue = _with_arrivals(catalogue, log.arrivals(catalogue), self._shift)
        views = log.views(lambda line: self._used(line, border), self._shift, self._queries, catalogue)
        if self._simulator is None:
            split = split_log(views, self._settings, self._seed)
        else:
            split = LogSplit(tuple(views), (), border + self._shift, end + self._shift)
        super().__init__(folder.name, catalogue, ordinary, split)
        self.held_out = held_out  #: labels of queries kept apart for evaluation
        self._tier.update({(judgment.query, judgment.item): judgment.tier for judgment in held_out})
        self.start_ms = self._raw_start + self._shift
        if self._simulator is not None and self._simulator.drift_ms is not None and self._simulator.drift_ms < end:
            self.drift_ms = self._simulator.drift_ms + self._shift
        self._live: dict[str, dict[str, Any]] = {}

    @property
    def notes(self) -> tuple[str, ...]:
        """None with a simulator, else those of a log."""
        return () if self._simulator is not None else super().notes

    def requests(self) -> Iterator[Request]:
        """Searches of the simulator after the history's days, of a sample of its users, at moved times; else of the log."""
        if self._simulator is None:
            yield from super().requests()
            return
        for raw in self._simulator.world.requests():
            ts = int(raw["ts"]) + self._shift
            if ts < self.live_ms or not self._sampled(raw["user"], self._settings.live_users):
                continue
            if ts >= self.end_ms:
                return
            candidates = tuple(str(item) for item in raw["cand"])
            query = self._queries.text[raw["query_id"]]
            groups = str(raw.get("segment", "")), str(raw.get("market", ""))
            request = Request(
                f"r{raw['imp']}", ts, f"u{raw['user']}", str(raw.get("session", "")), query, candidates, *groups
            )
            self._live[request.request_id] = raw
            yield request

    def feedback(self, request: Request, shown: Sequence[str]) -> Outcome:
        """What the simulator's user does, else what the log says; see `World.feedback`."""
        if self._simulator is None:
            return super().feedback(request, shown)
        clicks, orders = [], []
        for raw_ts, kind, raw_item, position in self._simulator.world.feedback(self._at(request), self._raw_ids(shown)):
            ts, item = int(raw_ts) + self._shift, str(raw_item)
            if kind == "click":
                clicks.append(Click(ts, request.user, item, request.request_id, int(position)))
            elif kind == "order":
                price = float(self.catalogue.prices_N[self.catalogue.row[item]])
                orders.append(Order(ts, request.user, item, f"o-{request.request_id}-{item}", price))
            else:
                raise InvalidValue("outcome of simulate.py", kind, "click or order", "correct World.feedback")
        return Outcome(tuple(clicks), tuple(orders), ())

    def labelled(self, request: Request) -> bool:
        """With a simulator always: tiers without a judgment are 0 to it too."""
        return self._simulator is not None or super().labelled(request)

    def click_probability(self, request: Request, items: Sequence[str]) -> NDArray[np.float64]:
        """The simulator's own probability [N] of a click on an examined item, else the logged click as 0 or 1."""
        if self._simulator is None:
            return super().click_probability(request, items)
        return np.asarray(self._simulator.world.click_prob(self._at(request), self._raw_ids(items))[0], dtype=np.float64)

    def _at(self, request: Request) -> dict[str, Any]:
        """The simulator's request, at the time at which it is really asked."""
        if request.request_id not in self._live:
            raise InvalidValue("request", request.request_id, "one of requests()", "take requests from this world")
        ts = request.ts - self._shift
        return {**self._live[request.request_id], "ts": ts, "day": (ts - self._raw_start) / DAY_MS}

    def _raw_ids(self, items: Sequence[str]) -> list[RawId]:
        return [self._raw_item[item] for item in items]

    def _sampled(self, user: RawId, share: float) -> bool:
        digest = hashlib.blake2b(f"{self._seed}:{user}".encode(), digest_size=8).digest()
        return int.from_bytes(digest, "little") < share * 2**64

    def _used(self, line: ImpressionLine, border: int) -> bool:
        """With a simulator: page views of sampled users before ``border``. A log alone has bounds of its own."""
        return self._simulator is None or (line.ts < border and self._sampled(line.user, self._settings.history_users))


def _with_arrivals(catalogue: Catalogue, times: dict[int, int], shift: int) -> Catalogue:
    arrives_N = catalogue.available_from_N.copy()
    for row, ts in times.items():
        arrives_N[row] = ts + shift
    return dataclasses.replace(catalogue, available_from_N=arrives_N)
