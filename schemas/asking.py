"""A question to the brokers that keeps its time, whatever happens to them meanwhile.

Each try takes a client of its own, which remembers nothing of who leads or coordinates what: after an election, what a client
remembers is wrong, and while a coordinator reads its log it refuses to answer.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from traceback import clear_frames
from typing import Final, TypeVar

from confluent_kafka import KafkaException

from schemas.connections import Connections
from schemas.errors import Unavailable

T = TypeVar("T")

#: The first try (s); each further one has twice as long, up to the last.
_FIRST_S: Final = 2.0
_LONGEST_S: Final = 16.0
#: Between two tries (s): an election takes about as long.
_PAUSE_S: Final = 0.2


def ask(connections: Connections, patience_s: float, question: Callable[[float], T]) -> T:
    """What ``question(seconds)`` says, which has to make its client anew and to end within those seconds.

    Raises:
        Unavailable: `KafkaException` at each try within ``patience_s``.
    """
    deadline, allowed = time.monotonic() + patience_s, _FIRST_S
    while True:
        seconds = max(0.1, min(allowed, deadline - time.monotonic()))
        try:
            return question(seconds)
        except KafkaException as error:
            # A refused answer refers to the question's frame, and that to the client and the answer: left to the collector, which may
            # run in the client's own thread, the client would be ended there, and with it the process.
            clear_frames(error.__traceback__)
            if time.monotonic() + _PAUSE_S > deadline:
                remedy = "check HEADRACE_KAFKA, and that the broker runs; `headrace doctor` says more"
                raise Unavailable(f"Kafka at {connections.kafka}", str(error), remedy) from error
        time.sleep(_PAUSE_S)
        allowed = min(2 * allowed, _LONGEST_S)
