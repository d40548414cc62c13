"""Previews and effects over a run's own examples: what command line and console share."""

from __future__ import annotations

from functools import cached_property
from operator import attrgetter

import msgspec

from reward.campaigns.facts import ItemFacts
from reward.desk.looks import Looks
from reward.desk.oddities import oddities
from reward.preview.effect import Effect, effect
from reward.preview.preview import preview
from reward.preview.rates import NewestRates
from reward.preview.reading import RecentPages, Stored
from reward.preview.results import Preview
from reward.preview.unseen import asks_something, not_held, unseen
from reward.settings import RewardSettings
from schemas.campaigns import Campaign
from schemas.catalogue import Catalogue
from schemas.connections import Connections
from schemas.errors import Unavailable
from schemas.store import Store
from schemas.weights import RewardWeights


class Previews:
    """Keeps what it has read, so that a second question is quick. Safe to ask from several threads."""

    def __init__(
        self, connections: Connections, store: Store, settings: RewardSettings, *,
        count: int | None = None, expected_interaction: bool = True,
    ) -> None:  # fmt: skip
        """``count``: newest examples to run over, instead of the setting; ``expected_interaction`` as the
        learner's setting ``interaction``; False: clicks as observed.

        Raises:
            InvalidRequest: ``count`` is outside its bounds.
        """
        self._connections, self._store, self._settings = connections, store, settings
        self._rates = NewestRates(connections, store, settings.posterior, expected_interaction)
        self.recent = RecentPages(connections, settings.preview.examples if count is None else count)

    def of_draft(self, desk: Looks, body: Campaign) -> Preview:
        """What the desk's book would do with this decision in it; the first warnings are what would keep it from going live,
        then what of it is odd.

        Raises:
            InvalidRequest, Unavailable: as `preview`.
        """
        current = desk.book()
        found = self.preview(current, desk.book_with(body))
        told = (*desk.refusals(body), *oddities(current, body), *self.unseen(body))
        return msgspec.structs.replace(found, warnings=(*told, *found.warnings))

    def unseen(self, body: Campaign) -> tuple[str, ...]:
        """What of its scope nobody was seen with on the stored pages; where they cannot be read, that.

        Segments and markets that the shop has listed (`reward.settings.DeskSettings`) are refused elsewhere if they are strange.
        """
        if not asks_something(body.scope):
            return ()
        try:
            return tuple(unseen(body.scope, self.recent.read().examples))
        except Unavailable as error:
            return (not_held(error),)

    def preview(self, current: RewardWeights, draft: RewardWeights, at_ms: int | None = None) -> Preview:
        """The draft against the current book. ``at_ms`` (event time) None: the newest page's time, or the start of what the
        draft adds where that is later.

        Raises:
            InvalidRequest: no examples yet.
            Unavailable: Kafka, the catalogue or the newest snapshot is not there.
        """
        stored = self.recent.read()
        row, facts = self._items
        at_ms = _when(stored, current, draft) if at_ms is None else at_ms
        found = preview(
            stored.examples, stored.pools, current, draft, row, facts, self._settings, at_ms, self._rates.read(),
        )  # fmt: skip
        return msgspec.structs.replace(found, warnings=(*found.warnings, *_remarks(stored, found, self.recent.count)))

    def effect(self, desk: Looks, book: RewardWeights, control_share: float) -> Effect:
        """What a book of the desk has done against the one before it, whose share of users was to be ``control_share``.

        Raises:
            InvalidRequest: the book replaced nothing, or there are no examples yet.
            Unavailable: Kafka does not answer.
        """
        found = effect(self.recent.read().examples, book, control_share, self._settings.preview)
        return msgspec.structs.replace(found, made_by=desk.told_of(book.version))

    @cached_property
    def _items(self) -> tuple[dict[str, int], ItemFacts]:
        catalogue = Catalogue.load(self._store, attributes=False)
        return catalogue.row, ItemFacts.of(catalogue)


def _when(stored: Stored, current: RewardWeights, draft: RewardWeights) -> int:
    newest = max((example.ts for example in stored.examples), default=0)
    known = set(map(repr, current.campaigns))
    return max([newest, *(c.starts_ms for c in draft.campaigns if repr(c) not in known)])


def _remarks(stored: Stored, found: Preview, wanted: int) -> list[str]:
    said = []
    if found.pages < wanted // 2:
        said.append(
            f"{found.pages:,} pages of the {wanted:,} examples asked for: there are no more, or revisions of the same"
        )
    if not found.snapshot_version:
        said.append(
            "there is no posterior snapshot yet: CTRs are those stored with the pages, places are examined as at the start"
        )
    newest = max(stored.examples, key=attrgetter("ts")).relevance_version
    if other := sum(example.relevance_version != newest for example in stored.examples):
        said.append(
            f"{other:,} examples have tiers of another relevance scorer than the newest page ({newest}): the learner asks its own"
        )
    if stored.unreadable:
        said.append(f"{stored.unreadable:,} records could not be read and were passed over")
    return said
