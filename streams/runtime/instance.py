"""One process at a time under an instance name.

The group hands a name's partitions to whoever joins under it last: that is what makes a restart take over at once, after
kill -9 too, and it would make two living workers throw each other out for ever. On one machine the second is refused, by a
lock that the kernel drops with its holder (`schemas.single`). Of a member elsewhere nobody can tell whether it lives, so both
sides say it: we that we take over from it, and it, once it is fenced, that somebody has (`streams.runtime.writer`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import structlog
from confluent_kafka.admin import AdminClient, MemberDescription

from schemas.asking import ask
from schemas.clients import librdkafka
from schemas.connections import Connections
from schemas.errors import Unavailable
from schemas.single import single

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
    with single(connections.kafka, f"{group}\n{instance}", f"instance {instance} of {group}", REMEDY):
        yield


def tell_of_others(connections: Connections, group: str, instance: str | None) -> None:
    """A line when the group has a member of this name on another machine: ours takes its partitions."""
    if instance is None:
        return

    def question(seconds: float) -> list[MemberDescription]:
        admin = AdminClient(librdkafka(connections))
        return list(admin.describe_consumer_groups([group], request_timeout=seconds)[group].result().members)

    try:
        members = ask(connections, ASK_S, question)
    except Unavailable as error:
        logger.warning("the group does not tell its members", group=group, error=str(error))
        return
    hosts = {str(member.host).lstrip("/") for member in members if member.group_instance_id == instance}
    own = {address.address for addresses in psutil.net_if_addrs().values() for address in addresses}
    for host in sorted(hosts - own):
        logger.warning(
            "takes over from a member of this name", group=group, instance=instance, host=host,
            remedy=f"nothing, if that process is gone; if it lives, it is fenced and ends: {REMEDY}",
        )  # fmt: skip
