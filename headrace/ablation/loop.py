"""The closed loop of one arm: search, feedback, view, posterior, example, step, swap, in the order of event time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from headrace.ablation.answering import (
    Answerer,
    LexicalAnswers,
    MemoryAnswers,
    PolicyAnswers,
    TableAnswers,
    Tiers,
    TrueTiers,
)
from headrace.ablation.arms import Arm
from headrace.ablation.lab import Lab
from headrace.ablation.learning import Line
from headrace.ablation.plane import Plane
from headrace.ablation.rows import Rows
from headrace.ablation.settings import Setup
from headrace.ablation.users import Users
from headrace.world import Event, Request
from schemas.events import Impression
from serving.history import Recent
from serving.parts import open_checkpoint
from serving.requests import SearchRequest
from trainers.policies.base import PromptContext
from trainers.state import own_weights
from trainers.validity import valid_sid_rate

#: Prompts on which the valid-SID rate is measured.
VALID_PROMPTS = 128


@dataclass(frozen=True)
class Played:
    """What an arm left behind."""

    stream: Rows
    probes: Rows
    valid_sid_rate: float | None  #: of what was served at the end, None without a model
    curves: dict[str, list[float]]
    publications: list[dict[str, float | bool]]
    refused: dict[str, int]  #: records by core and reason, see `Plane.refused`


def play(lab: Lab, arm: Arm, setup: Setup, tell: Callable[[int], None] = lambda _: None) -> Played:
    """Run one arm from the warm start to the end of the stream, then ask it for the withheld queries.

    ``tell``: how many searches are answered. Deterministic: the same lab, arm and settings give the same bits.
    """
    torch.set_num_threads(setup.settings.trainers.learner.threads)
    tiers = Tiers(lab.parts.relevance, lab.artefacts.relevance)
    plane = Plane(lab.parts.catalogue, tiers, lab.prefixes, setup.settings, lab.world.live_ms)
    users, answers = Users(setup.settings.serving.engine), _answerer(lab, arm, setup, tiers, plane)
    line = Line(lab, setup, tiers, plane) if arm.trained else None
    plane.offer(lab.history if answers.counts else ())
    for event in lab.history:
        users.did(event)
    plane.advance(lab.world.live_ms)
    rows, page = Rows(lab, len(lab.requests)), setup.settings.delivery.page
    for block in lab.blocks(setup):
        arrivals = plane.advance(lab.requests[block.start].ts)
        for wave in [[n] for n in block] if answers.at_once else lab.waves(block):
            batch = [lab.requests[n] for n in wave]
            asked = [_asked(request, users, page) for request in batch]
            for n, request, shown in zip(wave, batch, answers.answer(batch, asked), strict=True):
                outcome = rows.put(n, request, _items(shown))
                answers.observe(request, _items(shown), outcome)
                if shown is None:
                    continue
                events: tuple[Event, ...] = (shown, *outcome.clicks, *outcome.orders, *outcome.returns)
                for event in events:
                    users.did(event)
                plane.offer(events if answers.counts else ())
        if line is not None:
            assert isinstance(answers, PolicyAnswers)
            line.read(arrivals)
            line.follow(block.stop, answers)
        tell(block.stop)
    probes = _probe(lab, answers, page, setup.settings.serving.batch)
    valid = _valid(lab, answers) if isinstance(answers, PolicyAnswers) and lab.probes else None
    curves, publications = (line.curves(), line.publications) if line else ({}, [])
    return Played(rows, probes, valid, curves, publications, dict(plane.refused))


def _answerer(lab: Lab, arm: Arm, setup: Setup, tiers: Tiers, plane: Plane) -> Answerer:
    settings = setup.settings
    ordering = TrueTiers(lab.world, lab.parts.catalogue) if arm.tiers == "true" else tiers
    if arm.answers == "policy":
        frozen = own_weights(open_checkpoint(lab.store, lab.artefacts.frozen)[0])
        return PolicyAnswers(lab, settings, ordering, plane, frozen)
    if arm.answers == "table":
        return TableAnswers(lab, settings.reward.serving, ordering, plane)
    return LexicalAnswers(lab.lexical) if arm.answers == "bm25" else MemoryAnswers(lab, settings)


def _asked(request: Request, users: Users | None, page: int) -> SearchRequest:
    recent = users.recent(request.user, request.ts) if users else Recent()
    return SearchRequest(
        request.request_id, request.ts, request.user, request.query, page, request.candidates, request.session,
        recent.queries, recent.items, segment=request.segment, market=request.market, recent_orders=recent.orders,
    )  # fmt: skip


def _items(shown: Impression | None) -> Sequence[str]:
    return () if shown is None else [entry.item for entry in shown.items]


def _probe(lab: Lab, answers: Answerer, page: int, size: int) -> Rows:
    """Searches for the withheld queries, answered by what is served at the end; nobody learns from them.

    They bring no past of their user along: with it, arms would be asked different prompts.
    """
    rows = Rows(lab, len(lab.probes))
    for start in range(0, len(lab.probes), size):
        batch = lab.probes[start : start + size]
        asked = [_asked(request, None, page) for request in batch]
        for n, (request, shown) in enumerate(zip(batch, answers.answer(batch, asked), strict=True), start):
            rows.put(n, request, _items(shown))
    return rows


def _valid(lab: Lab, answers: PolicyAnswers) -> float:
    prompts = answers.engine.prompts([PromptContext(request.query) for request in lab.probes[:VALID_PROMPTS]])
    return valid_sid_rate(answers.engine.policy, prompts, lab.parts.identifiers.trie)
