"""The services a run stands on: started as child processes, or somebody else's by their address."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from headrace.services.database import sqlite_url
from headrace.services.kafka import kafka_child
from headrace.services.redis import redis_child
from schemas.connections import Connections
from schemas.errors import InvalidSetting
from schemas.security import KafkaSecurity, RedisSecurity

if TYPE_CHECKING:
    from headrace.supervisor import Supervisor

__all__ = ["start_services"]


def start_services(
    run: Path,
    given: Connections,
    supervisor: Supervisor,
    services: Literal["embedded", "containers", "external"] = "embedded",
) -> Connections:
    """Start what has no address in ``given``, under ``supervisor``; returns all addresses, each of them answering.

    Kafka keeps its data in ``<run>/kafka``, Redis in ``<run>/redis``, the database is ``<run>/headrace.db`` and the store
    ``<run>/store``. Nothing is started for an address that is given.

    Raises:
        InvalidSetting: an address is missing, and ``services`` is not "embedded" or its security is set.
        ServiceFailed: a service does not become ready; the error names its log.
        Unavailable: Kafka's jars cannot be fetched.
    """
    if services != "embedded":
        for name in ("kafka", "redis"):
            if not getattr(given, name):
                variable = f"HEADRACE_{name.upper()}"
                raise InvalidSetting(variable, "", f"an address when HEADRACE_SERVICES={services}", f"set {variable}")
    for name, secured in (
        ("kafka", given.kafka_security != KafkaSecurity()),
        ("redis", given.redis_security != RedisSecurity()),
    ):
        if secured and not getattr(given, name):
            variable, bound = f"HEADRACE_{name.upper()}", "an address, as the embedded one has neither TLS nor users"
            raise InvalidSetting(variable, "", bound, f"set {variable}, or unset {variable}_SECURITY__*")
    kafka, redis, children = given.kafka, given.redis, []
    if not kafka:
        child, kafka = kafka_child(run / "kafka", run / "logs")
        children.append(child)
    if not redis:
        child, redis = redis_child(run / "redis")
        children.append(child)
    supervisor.start(*children)
    return given.model_copy(
        update={
            "kafka": kafka,
            "redis": redis,
            "database": given.database or sqlite_url(run),
            "store": given.store or str(run / "store"),
        }
    )
