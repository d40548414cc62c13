"""Looks at the running loop from outside, through its topics: for the live table, and to know when everything is taken."""

from __future__ import annotations

import threading
import time

from kafka import KafkaConsumer, TopicPartition

from headrace.settings import Settings
from headrace.shop.driver import Driver, Progress
from headrace.stack import Stack
from headrace.story import LiveTable
from schemas import log
from schemas.codec import decode
from schemas.connections import Connections
from schemas.errors import Unavailable
from schemas.journal import GateDecision, StepIntent, StepResult
from schemas.kafka_clients import open_client
from schemas.topics import EXAMPLES, STEPS
from streams.lag import lags

#: Seconds between two looks.
EVERY_S = 1.5


class Watch:
    """A thread that fills the live table."""

    def __init__(self, stack: Stack, driver: Driver) -> None:
        self._stack, self._driver = stack, driver
        self._round: Progress | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, table: LiveTable) -> None:
        """Look every `EVERY_S` from now on."""
        self._thread = threading.Thread(target=self._run, args=(table,), name="watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def on_round(self, progress: Progress) -> None:
        """Told by the driver.

        Raises:
            ServiceFailed: a process ended again and again: nobody would learn from what follows.
        """
        self._round = progress
        if failed := self._stack.supervisor.failures():
            raise failed[0]

    def _run(self, table: LiveTable) -> None:
        journal = JournalTail(self._stack.settings.connections)
        try:
            while not self._stop.wait(EVERY_S):
                journal.read()
                table.update(self._rows(journal))
        finally:
            journal.close()

    def _rows(self, journal: JournalTail) -> dict[str, str]:
        supervisor, now = self._stack.supervisor, self._round
        rows = {"searches": f"{now.searches} ({now.share:.0%})" if now else "0"}
        try:
            rows["lag"] = f"{stream_lag(self._stack.settings)} records"
        except Unavailable:  # a broker that has ended is started again; the next look tells what is then
            rows["lag"] = "unknown, the broker does not answer"
        if journal.result is not None:
            metrics = journal.result.metrics
            rows["steps"] = f"{journal.result.step} (weights version {journal.result.weights_version})"
            rows["reward"] = f"{metrics.get('reward', float('nan')):.3f}"
        rows["promoted"] = journal.promoted or "the warm start"
        if restarts := sum(supervisor.restarts.values()):
            rows["restarts"] = str(restarts)
        rows["memory"] = f"{supervisor.memory().total / 2**30:.2f} GiB"
        return rows


class JournalTail:
    """Follows training.steps; keeps the newest result and the checkpoint that the gate let through last."""

    def __init__(self, connections: Connections) -> None:
        self.result: StepResult | None = None
        self.promoted = ""
        self._consumer = open_client(KafkaConsumer, connections, isolation_level="read_committed", enable_auto_commit=False)
        self._consumer.assign([TopicPartition(STEPS.name, 0)])
        self._consumer.seek_to_beginning()

    def read(self) -> None:
        """Take in what has come."""
        for records in self._consumer.poll(timeout_ms=100).values():
            for raw in records:
                record = decode(STEPS.kind, raw.value)
                if isinstance(record, StepResult):
                    self.result = record
                elif isinstance(record, GateDecision) and record.promoted:
                    self.promoted = record.checkpoint

    def close(self) -> None:
        """Let go of the broker."""
        self._consumer.close()


def stream_lag(settings: Settings) -> int:
    """Records that the stream workers have not taken yet."""
    return sum(row.lag for row in lags(settings.connections))


def learner_lag(settings: Settings) -> int:
    """Examples that no step of the learner has taken yet."""
    intents = [e.record for e in log.scan(settings.connections, STEPS) if isinstance(e.record, StepIntent)]
    start = dict(intents[-1].offsets) if intents else None
    return sum(1 for _ in log.scan_raw(settings.connections, EXAMPLES, start))


def wait_until_taken(settings: Settings, patience_s: float, quiet_s: float = 2.0) -> int:
    """Wait until workers and learner have taken everything; what is left after ``patience_s`` (0: all taken).

    The chain has several links, and a record between two of them is in nobody's lag: so it has to be quiet for a while.
    """
    deadline, quiet_since = time.monotonic() + patience_s, time.monotonic()
    while time.monotonic() < deadline:
        left = stream_lag(settings) + learner_lag(settings)
        if left:
            quiet_since = time.monotonic()
        elif time.monotonic() - quiet_since >= quiet_s:
            return 0
        time.sleep(0.4)
    return stream_lag(settings) + learner_lag(settings)
