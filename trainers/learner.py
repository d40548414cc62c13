"""The continuous learner: examples in, steps journalled, checkpoints out; killed anywhere, it resumes where it was.

A step is decided first (its intent goes to the journal), then taken, then reported. So after a kill the steps since the
last checkpoint are taken again from their intents, exactly, and the weights are those of a run that was never killed.
Several processes may take the steps together (`trainers.ranks`); this one is rank 0, which decides and writes.
"""

from __future__ import annotations

import time
from threading import Event

import structlog

from reward.campaigns.force import in_force
from schemas.artefacts import Artefacts
from schemas.checkpoints import Manifest
from schemas.connections import Connections
from schemas.journal import StepIntent, StepResult, TrainingSettings
from schemas.quarantine import Quarantined
from schemas.store import Store
from schemas.topics import QUARANTINE, STEPS
from trainers import checkpoints
from trainers.batches import choose, fresh_quota
from trainers.breaker import Breaker
from trainers.distinct import check_group
from trainers.exposition import Exposition
from trainers.follow import Feed
from trainers.holding import Holding, quarantined
from trainers.journal import Journal, read_journal
from trainers.journalled import (
    check_scorer,
    decisions_of,
    intents_after,
    left_out_of,
    restored_after,
    results_of,
    settings_at,
    settings_before,
)
from trainers.lines import Line
from trainers.orders import Begin, GoBack, Lead, Stop, Take
from trainers.promotion import Present, Publisher
from trainers.ranks import ALONE, Ranks
from trainers.recollection import seen_until
from trainers.settings import TrainerSettings
from trainers.state import Versions, load_state, restore, save_state
from trainers.step import advance
from trainers.stock import Stock, take_on
from trainers.tools import OpenTools
from trainers.watch import Watch
from trainers.whereabouts import whereabouts

log = structlog.get_logger()

#: Longest second look for news before a step (s).
NEWS_S = 0.005


def learn(learner: Learner, stop: Event) -> None:
    """Learn until ``stop`` is set, on any rank; then write a last checkpoint and tell the others that it is over."""
    try:
        learner.resume()
        while not (stop.is_set() or learner.called_off):
            if learner.wait_for_step():
                learner.step(learner.intend())
                learner.judge()
            if learner.checkpoint_due():
                learner.publish(learner.checkpoint())
        if learner.unsaved():
            learner.checkpoint()
        learner.dismiss()
    finally:
        learner.close()


class Learner:
    """One line of training. Methods are called in the order of `learn`."""

    def __init__(
        self, connections: Connections, store: Store, artefacts: Artefacts, settings: TrainerSettings, open_tools: OpenTools,
        ranks: Ranks = ALONE,
    ) -> None:  # fmt: skip
        self._store, self._wanted, self._open_tools = store, settings.learner, open_tools
        self._versions = Versions(artefacts.relevance, artefacts.identifiers)
        self._line = Line(store, artefacts.frozen)
        self._manifest = checkpoints.newest_of(store, self._line, artefacts.identifiers)
        # Not before there is something to start from, as it ends another learner; before the journal is read, as nobody adds to it then.
        self._connections, self._journal = connections, Journal(connections, artefacts.frozen)
        behind = self._manifest.offsets.get(STEPS.name, {}).get(0, 0)
        self._records = read_journal(connections, behind, self._line)
        self._pending = intents_after(self._records, self._manifest.step)
        self._left_out = left_out_of(self._records)
        self._settings = self._wanted
        if self._pending:
            self._settings = settings_at(self._records, self._pending[0].step, self._manifest.settings, self._wanted)
        self._lead = Lead(ranks)
        self._lead.tell(Begin(self._manifest.checkpoint, self._settings, self._wanted.sharded))
        self.state = load_state(store, self._manifest, self._settings, self._versions, ranks, self._wanted.sharded)
        self._breaker = Breaker(settings.learner.breaker)
        self._feed = Feed(
            connections, self.state.offsets, artefacts.identifiers, self.state.policy.tokenizer.level_sizes, self._quarantine,
            self._breaker.follow, self.state.clock_ms,
        )  # fmt: skip
        self._stock = Stock(open_tools(self.state.policy, self._settings), self._feed)
        self._publisher = Publisher(connections, store, artefacts, self._journal, settings.gate)
        self._exposition = Exposition(settings.learner.metrics_host, settings.learner.metrics_port)
        self._watch = Watch(settings.learner.guards, self._restore, self._journal, self._exposition)
        self._holding = Holding(self._breaker, self._journal, self._exposition)
        self._intent: StepIntent | None = None
        #: Version of the weights that the last gradient is of; None: there was none.
        self._learned_under = self._manifest.weights_version if self._manifest.step else None
        self._metrics: dict[str, float] = {}
        self._saved_step, self._saved_at = self.state.step, time.monotonic()
        self._stepped_at = time.monotonic()

    def resume(self) -> None:
        """Take the journalled steps after the checkpoint again, under the settings of that time, and settle what its publication
        left open."""
        reported = results_of(self._records)
        if self._pending:
            first, last = self._pending[0].step, self._pending[-1].step
            log.info("steps to take again", checkpoint=self._manifest.checkpoint, first=first, last=last)
        check_scorer(self._pending, self._manifest.relevance_version, self._versions.relevance)
        if self._manifest.relevance_version != self._versions.relevance:
            scorers = {"before": self._manifest.relevance_version, "now": self._versions.relevance}
            log.warning("another relevance scorer from here on", step=self.state.step, **scorers)
        self._feed.catch_up()
        self._holding.recall(self._records)
        if self._manifest.step > 0:
            now = self._present(self._manifest.catalogue_offset)
            self._publisher.settle(self._manifest, self.state, now, decisions_of(self._records))
        seen = seen_until(self._connections, self._manifest, self._line, self._watch.reach)
        self._watch.recall(self._manifest.alarms, seen, self._records)
        for intent in self._pending:
            self.retake(intent, report=intent.step not in reported)
        if self._pending and not self._go_back():
            # The kill may have come before they were told of the last step.
            self._watch.judge(self.state.step, self._publisher.fallback)
        self._settings = self._wanted
        said = self._wanted.model_dump(mode="json")
        if settings_before(self._records, self.state.step + 1, self._manifest.settings) != said:
            self._journal.append(TrainingSettings(self.state.step, said, int(time.time() * 1000)))
        log.info("resumed", checkpoint=self._manifest.checkpoint, step=self.state.step, replayed=len(self._pending))

    def wait_for_step(self) -> bool:
        """Read what has come; whether a step is due: enough fresh views, or a time limit and something to learn from.

        None is while the log is broken (`trainers.breaker`); what comes then waits.
        """
        self._lead.beat()
        self._feed.poll(0.0 if self._enough() else 0.05)
        self._exposition.lag(self._feed.lag())
        if self._holding.on(self.state.step):
            return False
        if self._enough():
            self._feed.poll(NEWS_S)  # the first look brought what was fetched a step ago; newer weights should count now
            return not self._holding.on(self.state.step)
        waited = time.monotonic() - self._stepped_at >= self._settings.wait_s
        revisit = len(self.state.window) > 0 and self.state.idle < self._settings.idle_steps
        return waited and (revisit or self._chosen()[0] != self._feed.taken)

    def intend(self) -> StepIntent:
        """Decide the next step and write it down, with the newest weights and snapshot there are: what of them is in force.

        Raises:
            InvalidValue: the settings do not fit the catalogue: no such step is written, as every start would take it again.
        """
        offsets, _ = self._chosen()
        apart = self._settings.sampling == "without_replacement" and self._settings.loss.learner != "sft"
        least = self._settings.group if apart else 1  # identifiers that a step takes
        number, catalogue_offset = self.state.step + 1, self._stock.next(least)
        check_group(least, self._stock.at(catalogue_offset).trie)
        intent = StepIntent(
            step=number,
            offsets=offsets,
            weights=in_force(self._feed.weights, self._feed.clock_ms),
            snapshot=self._feed.snapshot,
            catalogue_offset=catalogue_offset,
            random_counter=number,
            created_ms=int(time.time() * 1000),
            aside=self._breaker.aside,
            relevance_version=self._versions.relevance,
            ranks=self._lead.ranks.size,
        )
        self._journal.append(intent)
        return intent

    def retake(self, intent: StepIntent, report: bool) -> None:
        """Take a journalled step again, under the settings of its time and from the weights of its time."""
        self._go_back()
        self._settings = settings_at(self._records, intent.step, self._manifest.settings, self._wanted)
        self.step(intent, report)

    def step(self, intent: StepIntent, report: bool = True) -> None:
        """Take a step as intended; deterministic, so it is the same when it is taken again after a kill."""
        left_out = intent.step in self._left_out
        self._lead.tell(Take(intent, self._settings, left_out))
        # Not before: the state of a step is what steps made of it, whatever settings are waiting for the next.
        take_on(self._settings, self.state, self._stock, self._open_tools)
        tools, records = self._stock.at(intent.catalogue_offset), self._feed.take(intent.offsets)
        batch, metrics = advance(tools, self.state, records, intent, self._lead.ranks, left_out)
        self.state.offsets = dict(self._feed.taken)
        learned = "loss" in metrics  # else the step was left out, or had no views
        if learned:
            metrics |= whereabouts(self.state, batch.views, tools, metrics)
        metrics |= {
            "lag": float(self._feed.lag()), "window": float(len(self.state.window)), "revised": float(batch.revised),
            "held_out": float(batch.held_out), "aside": float(len(batch.broken)),
        }  # fmt: skip
        now_ms = int(time.time() * 1000)
        if learned:
            if self._learned_under not in (None, intent.weights.version):
                metrics["weights_to_gradient_s"] = (now_ms - intent.weights.created_ms) / 1000
            self._learned_under = intent.weights.version
        self._intent, self._metrics, self._stepped_at = intent, metrics, time.monotonic()
        running = tuple(campaign.id for campaign in intent.weights.campaigns)
        result = StepResult(intent.step, len(batch.views), batch.fresh, intent.weights.version, metrics, now_ms, running)
        if report:
            refused = [record.refused for record in records if record.refused]
            if set_aside := [*refused, *quarantined(batch.broken)]:
                self._journal.send_all(QUARANTINE, b"learner", set_aside)
            self._exposition.aside(len(batch.broken))
            self.state.journal_offset = self._journal.append(result)
        self._exposition.step(metrics, batch.fresh)
        self._watch.see(intent.step, metrics, result.measure)

    def judge(self) -> None:
        """Let the guards look at the step just taken; they may send training back to the checkpoint promoted last, or end it
        (LearningError)."""
        self._watch.judge(self.state.step, self._publisher.fallback)
        self._watch.check()

    @property
    def called_off(self) -> bool:
        """Whether another rank was asked to stop."""
        return self._lead.called_off

    def dismiss(self) -> None:
        """Tell the other ranks that it is over."""
        self._lead.tell(Stop())

    def unsaved(self) -> bool:
        """Whether there are steps that no checkpoint holds."""
        return self.state.step > self._saved_step

    def checkpoint_due(self) -> bool:
        """Whether there are steps to save and it is time, by steps or by seconds; not while the log is broken."""
        if not self.unsaved() or self._holding.still:
            return False
        by_steps = self.state.step - self._saved_step >= self._settings.checkpoint_every_steps
        return by_steps or time.monotonic() - self._saved_at >= self._settings.checkpoint_every_s

    def checkpoint(self) -> Manifest:
        """Write the state into the store.

        Raises:
            LearningError: another rank has other weights.
        """
        self._lead.compare(self.state.policy)
        self.state.clock_ms = self._feed.clock_ms
        alarms = self._watch.alarms
        under = self._stock.settings
        manifest = save_state(self._store, self.state, self._intent, under, self._versions, self._metrics, alarms)
        self._saved_step, self._saved_at = self.state.step, time.monotonic()
        log.info("checkpoint", checkpoint=manifest.checkpoint, step=manifest.step)
        return manifest

    def publish(self, manifest: Manifest) -> None:
        """Announce a checkpoint of the present state and put it to the gate, unless a guard holds it back."""
        if self._watch.quiet:
            decision = self._publisher.publish(manifest, self.state, self._present(manifest.catalogue_offset))
        else:
            decision = self._publisher.hold_back(manifest, manifest.held)
        self._exposition.gate(decision.promoted)
        checkpoints.prune(self._store, self._line, manifest, self._settings.keep_checkpoints, self._publisher.line)

    def close(self) -> None:
        """Let go of the broker and the port."""
        self._feed.close()
        self._journal.close()
        self._exposition.close()
        self._lead.ranks.close()

    def _go_back(self) -> bool:
        """Where a guard sent training back after the present step, do so; a checkpoint of that step has done it."""
        if self.state.step == self._manifest.step or not (checkpoint := restored_after(self._records, self.state.step)):
            return False
        self._restore(checkpoint)
        self._watch.gone_back()
        return True

    def _restore(self, checkpoint: str) -> None:
        """Go on from the weights of a checkpoint, on every rank."""
        self._lead.tell(GoBack(checkpoint))
        restore(self.state, self._store, checkpoint)

    def _enough(self) -> bool:
        return self._chosen()[1] >= fresh_quota(self._settings)

    def _chosen(self) -> tuple[dict[int, int], int]:
        return choose(self._feed.waiting, self._feed.taken, self._settings, self._breaker)

    def _present(self, catalogue_offset: int) -> Present:
        tools = self._stock.at(catalogue_offset)
        return Present(in_force(self._feed.weights, self._feed.clock_ms), self._feed.snapshot, tools)

    def _quarantine(self, record: Quarantined) -> None:
        self._journal.send(QUARANTINE, record.agent.encode(), record)
