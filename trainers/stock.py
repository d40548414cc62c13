"""The tools of a step over the items there are: those of the run's catalogue, with what came, moved and went since.

Which records of `catalogue.items` a step knows is decided before it and stands in its intent. What they make of the tools is
worked out from the run's own catalogue each time, never from the step before, so a step that is taken again meets the same.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import structlog

from schemas.errors import InvalidValue
from schemas.events import ItemAdded
from trainers.distinct import check_group
from trainers.follow import Feed
from trainers.identifiers.assortment import Assortment
from trainers.settings import LearnerSettings
from trainers.state import LearnerState, adopt
from trainers.tools import OpenTools, Tools

log = structlog.get_logger()


class Stock:
    """The tools at the catalogue that a step's intent names. ``first``: over the run's own catalogue."""

    def __init__(self, first: Tools, feed: Feed) -> None:
        self._feed, self._looked, self._offset = feed, float("-inf"), 0
        self.use(first)

    @property
    def settings(self) -> LearnerSettings:
        """Those of the tools, under which steps are taken."""
        return self._first.settings

    def use(self, first: Tools) -> None:
        """Go on with other tools, because the settings are others."""
        self._first, self._held = first, (0, first)

    def next(self, least: int) -> int:
        """The offset of `catalogue.items` for the next intent: the newest, at most once in ``catalogue_every_s``. Where it leaves fewer
        than ``least`` identifiers, which is an accident of the catalogue, a step could not be taken: the one before stays until more
        are back.

        What is refused of the records up to it goes to quarantine now: a step that is taken again asks nothing of this, so it
        goes there once.
        """
        before, newest = self._offset, self._feed.catalogue_offset
        if newest == before or time.monotonic() - self._looked < self.settings.catalogue_every_s:
            return before
        self._looked, held = time.monotonic(), self._held
        try:
            check_group(least, self.at(newest).trie)
        except InvalidValue as error:
            self._offset, self._held = before, held
            log.warning("the catalogue before stays", offset=newest, stays=before, why=str(error))
            return before
        self._feed.set_aside(before, newest)
        return newest

    def at(self, offset: int) -> Tools:
        """The tools over the catalogue after the records before ``offset``.

        Raises:
            Unavailable: they do not come.
        """
        self._offset = offset
        if offset != self._held[0]:
            self._held = offset, stocked(self._first, self._feed.changes(offset))
            tools = self._held[1]
            log.info("catalogue", offset=offset, items=len(tools.catalogue), changes=len(tools.trie.changes))
        return self._held[1]


def take_on(settings: LearnerSettings, state: LearnerState, stock: Stock, open_tools: OpenTools) -> None:
    """Take steps under these settings from now on, if they are others: the state goes on under them, with other tools."""
    if settings != stock.settings:
        adopt(state, settings)
        stock.use(open_tools(state.policy, settings))


def stocked(first: Tools, records: Sequence[ItemAdded]) -> Tools:
    """The tools after these records: what is rolled out, scored, written into prompts and mixed in.

    Prompts name items by their present identifiers; a warm-start pair of an item that moved leads to where it is now, one of an
    item that is gone is not drawn.
    """
    before = Assortment(first.catalogue, first.trie)
    now = before.after(records)
    if now is before:
        return first
    return replace(
        first,
        catalogue=now.catalogue,
        trie=now.trie,
        builder=first.builder.over(now, {record.item for record in records}),
        rewards=first.rewards.over(now.catalogue, now.trie, first.builder.encoder),
        pairs=None if first.pairs is None else first.pairs.over(now.moves(before)),
    )
