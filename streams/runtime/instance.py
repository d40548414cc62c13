"""One process at a time under an instance name.

The group hands a name's partitions to whoever joins under it last: that is what makes a restart take over at once, after
kill -9 too, and it would make two living workers throw each other out for ever. On one machine the second is refused, by a
lock that the kernel drops with its holder. Of a member elsewhere nobody can tell whether it lives, so both sides say it:
we that we take over from it, and it, once it is fenced, that somebody has (`streams.runtime.writer`).
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import structlog
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from schemas.clients import librdkafka
from schemas.connections import Connections
from schemas.errors import Conflict

logger = structlog.get_logger(__name__)

REMEDY = "give each worker of a kind an --instance of its own, or none"
#: Longest wait for the group's members (s).
ASK_S = 5.0


@contextmanager
def hold_instance(connections: Connections, group: str, instance: str | None) -> Iterator[None]:
    """Hold the name while the context lasts; without one there is nothing to hold.

    Raises:
        Conflict: a living process of this machine has it; the message names it.
    """
    if instance is None:
        yield
        return
    what = hashlib.sha256(f"{connections.kafka}\n{group}\n{instance}".encode()).hexdigest()[:16]
    # "a+": opening must not empty what the present holder wrote into it.
    with open(Path(tempfile.gettempdir()) / f"headrace-{os.getuid()}-{what}.lock", "a+", opener=_own) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = f"process {file.read().strip() or 'that has just started'} on this machine"
            raise Conflict(f"instance {instance} of {group}", holder, REMEDY) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def _own(path: str, flags: int) -> int:
    """The folder is everybody's: no link of somebody else's is followed."""
    return os.open(path, flags | os.O_NOFOLLOW, 0o600)


def tell_of_others(connections: Connections, group: str, instance: str | None) -> None:
    """A line when the group has a member of this name on another machine: ours takes its partitions."""
    if instance is None:
        return
    admin = AdminClient(librdkafka(connections))
    try:
        members = admin.describe_consumer_groups([group], request_timeout=ASK_S)[group].result().members
    except KafkaException as error:
        logger.warning("the group does not tell its members", group=group, error=str(error))
        return
    hosts = {str(member.host).lstrip("/") for member in members if member.group_instance_id == instance}
    own = {address.address for addresses in psutil.net_if_addrs().values() for address in addresses}
    for host in sorted(hosts - own):
        logger.warning(
            "takes over from a member of this name", group=group, instance=instance, host=host,
            remedy=f"nothing, if that process is gone; if it lives, it is fenced and ends: {REMEDY}",
        )  # fmt: skip
