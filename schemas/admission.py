"""Are we let in? Asked once before the first client is made, as clients tell of a wrong password only after minutes.

A service that is merely away is no refusal: that is waited for by whoever needs it.
"""

from __future__ import annotations

import time

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from redis.exceptions import AuthenticationError, AuthorizationError, RedisError

from schemas.clients import kafka_python, librdkafka, redis_client
from schemas.connections import Connections, without_password
from schemas.errors import Refused, Unavailable
from schemas.security import KafkaSecurity

#: Longest wait for an answer (s).
PATIENCE_S = 10.0
#: One try (s).
_TRY_S = 0.2
#: Who has let us in; asked once a process.
_admitted: set[tuple[str, KafkaSecurity]] = set()


def admit_kafka(connections: Connections) -> None:
    """Return when the brokers let us in, or do not answer at all. Without TLS and users nothing is asked.

    Raises:
        Refused: user, password or certificate are not accepted, on either side.
        InvalidSetting: a certificate or key cannot be used.
    """
    security = connections.kafka_security
    if security.protocol == "plaintext" or (connections.kafka, security) in _admitted:
        return
    try:
        probe_kafka(connections)
    except Refused:
        raise
    except Unavailable:
        return
    _admitted.add((connections.kafka, security))


def probe_kafka(connections: Connections, patience_s: float = PATIENCE_S) -> None:
    """Return when the brokers answer.

    Raises:
        Refused: user, password or certificate are not accepted, on either side.
        Unavailable: no answer in ``patience_s``; the detail says what the client saw last.
        InvalidSetting: a certificate or key cannot be used.
    """
    kafka_python(connections)  # reads the certificates, and names the setting of one that cannot be used
    seen: list[KafkaError] = []
    client = AdminClient(librdkafka(connections) | {"error_cb": seen.append, "log_level": 0})
    deadline = time.monotonic() + patience_s
    while True:
        try:
            client.list_topics(timeout=_TRY_S)
            return
        except KafkaException as error:
            last: KafkaError = error.args[0]
        client.poll(0)
        for one in (*seen, last):
            if one.code() in (KafkaError._AUTHENTICATION, KafkaError._SSL) or "SSL alert" in one.str():
                raise Refused(f"Kafka at {connections.kafka}", one.str(), _kafka_remedy(one, connections.kafka_security))
        if time.monotonic() > deadline:
            told = [one.str() for one in seen if one.code() != KafkaError._ALL_BROKERS_DOWN]
            remedy = "check HEADRACE_KAFKA, HEADRACE_KAFKA_SECURITY__PROTOCOL, and that the broker runs"
            raise Unavailable(f"Kafka at {connections.kafka}", told[-1] if told else last.str(), remedy)


def _kafka_remedy(error: KafkaError, security: KafkaSecurity) -> str:
    if error.code() == KafkaError._AUTHENTICATION:
        where = "PASSWORD_FILE" if security.password_file else "PASSWORD"
        return f"check HEADRACE_KAFKA_SECURITY__USERNAME, __{where} and __MECHANISM (now {security.mechanism})"
    return (
        f"check HEADRACE_KAFKA_SECURITY__CA_FILE (now {security.ca_file or 'the system'}), __CERTIFICATE_FILE and __PROTOCOL"
    )


def admit_redis(connections: Connections) -> None:
    """Return when Redis lets us in, or does not answer at all.

    Raises:
        Refused: user, password or certificate are not accepted, on either side.
        InvalidSetting: not a Redis URL, or a certificate or key cannot be used.
    """
    if not connections.redis:
        return
    with redis_client(connections, socket_timeout=2.0, socket_connect_timeout=2.0) as client:
        try:
            client.ping()
        except RedisError as error:
            found = redis_trouble(f"Redis at {without_password(connections.redis)}", error)
            if isinstance(found, Refused):
                raise found from error


def redis_trouble(what: str, error: Exception) -> Unavailable:
    """What redis-py raised, in our words: `Refused` when waiting does not help."""
    if isinstance(error, (AuthenticationError, AuthorizationError)):
        return Refused(what, str(error), "check HEADRACE_REDIS_SECURITY__USERNAME and __PASSWORD_FILE or __PASSWORD")
    if "CERTIFICATE_VERIFY_FAILED" in str(error) or "SSL:" in str(error):
        return Refused(
            what, str(error), "check HEADRACE_REDIS_SECURITY__CA_FILE, __CERTIFICATE_FILE, and rediss:// in HEADRACE_REDIS"
        )
    return Unavailable(what, str(error), "check that Redis is up and HEADRACE_REDIS names it (rediss:// where it has TLS)")


def database_trouble(connections: Connections, detail: str) -> Unavailable:
    """What the database's driver said, in our words: `Refused` when waiting does not help."""
    what = f"database {without_password(connections.database)}"
    if "authentication failed" in detail or "no password supplied" in detail:
        return Refused(what, detail, "check HEADRACE_DATABASE_SECURITY__USERNAME and __PASSWORD_FILE or __PASSWORD")
    if "SSL" in detail or "certificate" in detail:
        return Refused(what, detail, "check HEADRACE_DATABASE_SECURITY__CA_FILE, __CERTIFICATE_FILE and __SSLMODE")
    return Unavailable(what, detail, "check HEADRACE_DATABASE, and that it runs")
