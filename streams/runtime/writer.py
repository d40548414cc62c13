"""One transaction at a time under one transactional id.

Waits out a broker that is away, until it is told to stop. A producer that was fenced, or whose transaction the broker gave up, ends the process:
the only truth is the log, and the next start reads it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from threading import Event

import structlog
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from schemas.clients import librdkafka
from schemas.connections import Connections
from schemas.errors import Conflict, Unavailable
from streams.runtime.core import Output

log = structlog.get_logger(__name__)

#: What the client says of a topic that the broker has looked for and does not have, or not with that partition. It looks for
#: half a minute; the transaction is then aborted, and the next try is told at once.
_MISSING = (KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION)
#: Time for one try of a call to the transaction coordinator (s).
TRY_S = 10.0
#: Of one that is made again until it succeeds (s); a process that stops may have to wait for it.
AGAIN_S = 2.0
#: How long nothing may become less of what is on its way before a process that stops gives it up (s).
STALL_S = 2.0


class TransactionWriter:
    """A transactional producer. Not for two threads at once.

    Every method raises Unavailable soon after ``stopping`` is set, if the broker then takes nothing more; what it was at is
    decided by whoever opens the id next. While the broker takes records a stop goes on, however many they are.
    """

    def __init__(
        self, connections: Connections, transactional_id: str, transaction_timeout_s: float, stopping: Event | None = None
    ) -> None:
        self._id, self._stopping = transactional_id, stopping or Event()
        self._left, self._since = 0, float("inf")  # of the waits since a stop was asked for: least in flight, and since when
        timeout_ms = int(transaction_timeout_s * 1_000)
        self._producer = Producer(
            {
                **librdkafka(connections),
                "transactional.id": transactional_id,
                "transaction.timeout.ms": timeout_ms,
                "message.timeout.ms": timeout_ms,
                "linger.ms": 5,
                # Less to send and to keep costs less than packing it.
                "compression.type": "lz4",
                "message.max.bytes": 1_048_576,
                "queue.buffering.max.messages": 1_000_000,
                "reconnect.backoff.max.ms": 1_000,
                # Nothing below what is fatal: a line that is handed out behind a fatal error, in the same call, hides it.
                "log_level": 2,
            }
        )

    def open(self, timeout_s: float) -> None:
        """Fence whoever used this id before, and abort what it left open.

        Raises:
            Unavailable: the coordinator does not answer in ``timeout_s``.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                self._producer.init_transactions(AGAIN_S)
                return
            except KafkaException as error:
                self._go_on()
                if not _retriable(error) or time.monotonic() > deadline:
                    raise Unavailable(f"transactions of {self._id}", str(error), "check the broker") from error
                time.sleep(0.1)

    def write(
        self, outputs: Sequence[Output], first: Sequence[Output], last: Callable[[int], Output], partition: int
    ) -> int:
        """One transaction: ``outputs``, ``first``, then ``last(offset)``, where ``offset`` is that of ``first[0]``
        (-1 when ``first`` is empty). ``partition`` is that of outputs that name none. Returns that offset.

        Raises:
            Conflict: another producer has taken this id, or the broker has given the transaction up.
            Unavailable: the broker has no such topic or partition.
        """
        while True:
            try:
                offset = self._fill(outputs, first, last, partition)
                self._retry(self._producer.commit_transaction)
                return offset
            except KafkaException as error:
                self._give_up(error)

    def prepare(
        self, outputs: Sequence[Output], first: Sequence[Output], last: Callable[[int], Output], partition: int
    ) -> None:
        """`write` without its end, so that transactions of several ids are ready before any of them counts: `commit` or
        `abandon` is next.

        Raises:
            Conflict, Unavailable: as `write`.
        """
        while True:
            try:
                self._fill(outputs, first, last, partition)
                self._await_delivery()
                return
            except KafkaException as error:
                self._give_up(error)

    def commit(self) -> None:
        """Make what was prepared count.

        Raises:
            Conflict: another producer has taken this id, or the broker has given the transaction up: nothing of it counts.
        """
        try:
            self._retry(self._producer.commit_transaction)
        except KafkaException as error:
            raise self._lost(error) from error

    def abandon(self) -> None:
        """Take back what was prepared. Where that fails, the id has another owner, or the broker does it in time."""
        try:
            self._producer.abort_transaction(TRY_S)
        except KafkaException as error:
            log.warning("transaction not aborted", id=self._id, error=str(error))

    def _fill(
        self, outputs: Sequence[Output], first: Sequence[Output], last: Callable[[int], Output], partition: int
    ) -> int:
        self._since = float("inf")
        self._producer.begin_transaction()
        for output in outputs:
            self._send(output, partition)
        offset = self._send_first(first, partition)
        self._send(last(offset), partition)
        return offset

    def _give_up(self, error: KafkaException) -> None:
        """Abort, to try again; or find that the id is lost."""
        if not error.args[0].txn_requires_abort():
            raise self._lost(error) from error
        if self._stopping.is_set():
            raise self._stopped() from error
        log.warning("transaction aborted, sent again", id=self._id, error=str(error))
        self._abort()

    def _lost(self, error: KafkaException) -> Conflict:
        if error.args[0].code() == KafkaError._FATAL:
            error = self._cause(error)
        fenced = error.args[0].code() in (KafkaError._FENCED, KafkaError.INVALID_PRODUCER_EPOCH, KafkaError.PRODUCER_FENCED)
        holder = "another process, which has taken this partition over" if fenced else "the broker, which gave it up"
        remedy = "this one ends and may start again; if that goes on, two workers run under one --instance"
        return Conflict(f"transactional id {self._id}", f"{holder} ({error.args[0].str()})", remedy)

    def _cause(self, error: KafkaException) -> KafkaException:
        """What was fatal: `produce` says only that something was, a call to the coordinator says what."""
        try:
            self._producer.abort_transaction(TRY_S)
        except KafkaException as told:
            return told
        return error

    def _abort(self) -> None:
        try:
            self._retry(self._producer.abort_transaction)
        except KafkaException as error:
            raise self._lost(error) from error

    def _send(
        self,
        output: Output,
        partition: int,
        on_delivery: Callable[[KafkaError | None, Message], None] | None = None,
    ) -> None:
        if output.partition is not None:
            partition = output.partition
        while True:
            try:
                self._producer.produce(output.topic, output.value, output.key, partition, on_delivery)
                return
            except BufferError:
                self._go_on()
                self._producer.poll(0.1)
            except KafkaException as error:
                if error.args[0].code() not in _MISSING:
                    raise
                self.abandon()
                place, remedy = f"topic {output.topic}, partition {partition}", "create it: `headrace topics --create`"
                raise Unavailable(place, error.args[0].str(), remedy) from error

    def _send_first(self, outputs: Sequence[Output], partition: int) -> int:
        if not outputs:
            return -1
        offsets: list[int] = []
        failed: list[KafkaError] = []

        def delivered(error: KafkaError | None, message: Message) -> None:
            if error is None:
                offsets.append(int(message.offset()))
            else:
                failed.append(error)

        for output in outputs:
            self._send(output, partition, delivered)
        self._await_delivery(lambda: not failed)
        if failed:
            raise KafkaException(KafkaError(failed[0].code(), failed[0].str(), False, False, True))
        return min(offsets)

    def _await_delivery(self, go_on: Callable[[], bool] = lambda: True) -> None:
        """Serve callbacks until nothing is in flight. By `poll`: the client raises a fatal error (another owner) from the call
        that serves it, and `flush` would run further callbacks with that exception pending, which Python answers with a
        SystemError."""
        while len(self._producer) and go_on():
            self._go_on()
            self._producer.poll(0.1)

    def _retry(self, call: Callable[[float], None]) -> None:
        """Calling commit or abort again after a timeout resumes it: the outcome is never guessed."""
        told = False
        while True:
            try:
                call(AGAIN_S)
                return
            except KafkaException as error:
                if not _retriable(error):
                    raise
                self._go_on()
                if not told:
                    log.warning("broker does not answer, trying on", id=self._id, error=str(error))
                    told = True
                time.sleep(0.2)

    def _go_on(self) -> None:
        """Asked where the broker is waited for. Once a stop was asked for it is given `STALL_S` without progress, counted from
        the first wait: what came before was our own work."""
        if not self._stopping.is_set():
            return
        left, now = len(self._producer), time.monotonic()
        if self._since > now or left < self._left:
            self._left, self._since = left, now
        elif now - self._since > STALL_S:
            raise self._stopped()

    def _stopped(self) -> Unavailable:
        return Unavailable(
            f"transactions of {self._id}",
            "the broker took nothing more before the stop",
            "the next start goes on from the log; a longer streams.runtime.stop_timeout_s waits longer for the broker",
        )


def _retriable(error: KafkaException) -> bool:
    inner: KafkaError = error.args[0]
    return bool(inner.retriable()) and not inner.fatal() and not inner.txn_requires_abort()
