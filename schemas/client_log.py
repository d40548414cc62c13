"""What confluent-kafka's clients have to say, as lines of structlog: one per cause with a count, not one per attempt.

`schemas.clients.librdkafka` hands `CLIENT_LOG` to every client; a client gives out its lines when it is polled.
"""

from __future__ import annotations

import re

import structlog

from schemas.quiet import Quiet

log = structlog.get_logger(__name__)

#: Lines up to this level are wanted (syslog's: 4 is a warning).
LEVEL = 4
#: What differs between two lines of one cause: the thread, the scheme and the number around a broker's address, the times
#: and counts behind.
_VARYING = re.compile(r"^\[thrd:[^\]]*\]: |[a-z_]+://(?=\S+/)|/(?:bootstrap|\d+)(?=: )| \(after \d+ms in state.*$")


class ClientLog:
    """Stands where confluent-kafka takes a ``logger``."""

    def __init__(self, quiet: Quiet | None = None) -> None:
        self._quiet = quiet or Quiet()

    def log(self, level: int, _: str, facility: str, client: str, text: str) -> None:
        """One line of a client; ``level`` is that of Python's logging, ``facility`` librdkafka's word for what it is about."""
        cause = plain_cause(text)
        if times := self._quiet.due((facility, cause)):
            log.log(level, "kafka client", facility=facility, cause=cause, times=times)


def plain_cause(text: str) -> str:
    """What a client saw, the same each time it sees it."""
    return _VARYING.sub("", text).strip()


#: One for all clients of a process: twenty that miss the same broker are one cause.
CLIENT_LOG = ClientLog()
