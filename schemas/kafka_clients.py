"""kafka-python's clients, opened so that nothing of one stays behind when it fails or is closed early.

The library (3.0.12) forgets three things: a client that cannot be made, because no broker answers in time, leaves its
thread and its sockets running, one more with each attempt; one that is closed while it connects, or while it still has
something to send, leaves that socket open.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from kafka.net.compat import KafkaNetClient
from kafka.net.inet import KafkaNetSocket

from schemas.clients import kafka_python
from schemas.connections import Connections

Client = TypeVar("Client")


class _Direct(KafkaNetSocket):  # type: ignore[misc]
    """A connection without a proxy, closed when it does not come about; kafka-python chooses it by the scheme."""

    SCHEMES = ("direct",)

    async def sock_connect(self, net: Any, sock: Any, sockaddr: Any, timeout_at: float | None = None) -> Any:
        try:
            return await super().sock_connect(net, sock, sockaddr, timeout_at=timeout_at)
        except BaseException:  # a cancelled task is ended by GeneratorExit
            sock.close()
            raise


class _Network(KafkaNetClient):  # type: ignore[misc]
    """The sockets are closed when it is, also one that has something left to send: nobody sends it any more."""

    def close(self, node_id: int | None = None) -> None:
        transports = [made.transport for made in list(self._manager._conns.values()) if made.transport]
        super().close(node_id)
        if node_id is None:
            for transport in transports:
                if transport._sock is not None:
                    transport._sock.close()


def open_client(kind: Callable[..., Client], connections: Connections, **options: Any) -> Client:
    """A KafkaConsumer, KafkaProducer or KafkaAdminClient with those ``options`` of its own.

    Raises:
        KafkaError: no broker answers in time.
        InvalidSetting: a certificate or key cannot be used.
    """
    made: list[_Network] = []

    def network(**config: Any) -> _Network:
        made.append(_Network(**config))
        return made[-1]

    try:
        return kind(kafka_client=network, proxy_url="direct://", **kafka_python(connections), **options)
    except BaseException:
        for client in made:
            client.close()
        raise
