"""Training taken again from the journal: from one checkpoint to another, to the last bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from schemas.artefacts import Artefacts
from schemas.checkpoints import Manifest
from schemas.connections import Connections
from schemas.errors import Incompatible, InvalidRequest, Unavailable
from schemas.store import Store
from schemas.topics import STEPS
from trainers import checkpoints
from trainers.follow import Feed
from trainers.journal import read_journal
from trainers.journalled import check_scorer, intents_after, left_out_of, restored_after, settings_at
from trainers.lines import Line
from trainers.settings import LearnerSettings
from trainers.state import Versions, libraries, load_state, restore, save_state
from trainers.step import advance
from trainers.stock import Stock, take_on
from trainers.tools import OpenTools


class Remade(NamedTuple):
    """``differing``: files whose bytes are not those of the checkpoint that was made then; empty when it is the same."""

    manifest: Manifest
    steps: int
    differing: tuple[str, ...]


def remake(
    connections: Connections,
    store: Store,
    into: Store,
    artefacts: Artefacts,
    start: str,
    end: str,
    open_tools: OpenTools,
    tell: Callable[[int, int], None] = lambda done, of: None,
) -> Remade:
    """Take the journalled steps between two checkpoints of one line again and write what comes of it into ``into``.

    Args:
        tell: called after every step with steps taken and steps in all.

    Raises:
        InvalidRequest: ``end`` does not continue ``start``.
        Incompatible: it was made with other identifiers, another relevance scorer, or other libraries, which round otherwise.
        Unavailable, Corrupt: a checkpoint, the journal or the examples are no longer whole.
    """
    first, last = checkpoints.verify(store, start), checkpoints.read(store, end)
    _check_line(store, first, last)
    _check_versions(last, artefacts)
    records = read_journal(connections, line=Line.of(store, last))
    left_out = left_out_of(records)
    intents = [intent for intent in intents_after(records, first.step) if intent.step <= last.step]
    check_scorer(intents, last.relevance_version, artefacts.relevance)
    versions = Versions(artefacts.relevance, artefacts.identifiers)

    def settings_of(step: int) -> LearnerSettings:
        return settings_at(records, step, first.settings, LearnerSettings())

    def go_back(step: int) -> None:
        if step > first.step and (checkpoint := restored_after(records, step)):
            restore(state, store, checkpoint)

    settings = settings_of(first.step + 1)
    state = load_state(store, first, settings, versions)
    sizes = state.policy.tokenizer.level_sizes
    feed = Feed(connections, state.offsets, artefacts.identifiers, sizes, lambda _: None, lambda _: None, state.clock_ms)
    stock = Stock(open_tools(state.policy, settings), feed)
    try:
        for done, intent in enumerate(intents, start=1):
            go_back(intent.step - 1)
            take_on(settings_of(intent.step), state, stock, open_tools)
            tools = stock.at(intent.catalogue_offset)
            advance(tools, state, feed.take(intent.offsets), intent, left_out=intent.step in left_out)
            tell(done, len(intents))
        go_back(last.step)
        state.offsets, state.parent = dict(feed.taken), last.parent
    finally:
        feed.close()
    # What no step makes: a learner that goes on from what is made here goes on as from the one that was lost.
    state.journal_offset, state.clock_ms = last.offsets.get(STEPS.name, {}).get(0, 0), last.clock_ms
    taken = intents[-1] if intents else None
    made = save_state(into, state, taken, stock.settings, versions, last.metrics, last.alarms)
    differing = tuple(name for name in sorted({*made.files, *last.files}) if made.files.get(name) != last.files.get(name))
    return Remade(made, len(intents), differing)


def _check_line(store: Store, first: Manifest, last: Manifest) -> None:
    one = last
    while one.checkpoint != first.checkpoint:
        if one.step <= first.step or not one.parent:
            remedy = f"`headrace lineage {last.checkpoint}` lists what it continues"
            raise InvalidRequest("--from", first.checkpoint, f"a checkpoint that {last.checkpoint} continues", remedy)
        one = checkpoints.read(store, one.parent)


def _check_versions(last: Manifest, artefacts: Artefacts) -> None:
    for what, then, now in (
        ("identifiers", last.codebook_version, artefacts.identifiers),
        ("relevance scorer", last.relevance_version, artefacts.relevance),
        ("libraries", last.libraries, libraries()),
    ):
        if then != now:
            raise Incompatible(f"{what} of checkpoint {last.checkpoint}", now, then, "remake it with those it was made with")


def parent_of(store: Store, checkpoint: str) -> str:
    """The checkpoint that this one continues.

    Raises:
        Unavailable: no such checkpoint, or it continues none.
    """
    if parent := checkpoints.read(store, checkpoint).parent:
        return parent
    raise Unavailable(f"the parent of checkpoint {checkpoint}", "it is a warm start", "name one that training has made")
