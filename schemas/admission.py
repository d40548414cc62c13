"""Are we let in? Asked once before the first client is made, as clients tell of a wrong password only after minutes.

A service that is merely away is no refusal: that is waited for by whoever needs it.
"""

from __future__ import annotations

import time

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from redis.exceptions import AuthenticationError, AuthorizationError, RedisError

from schemas.client_log import plain_cause
from schemas.clients import kafka_python, librdkafka, redis_client
from schemas.connections import Connections, without_password
from schemas.errors import Refused, Unavailable
from schemas.listeners import speaks_plaintext, speaks_tls
from schemas.security import KafkaSecurity

#: Longest wait for an answer (s).
PATIENCE_S = 10.0
#: One try (s).
_TRY_S = 0.2
#: A listener with TLS makes a client without it wait and say nothing; after so long we look for ourselves (s).
_SILENCE_S = 1.0
#: What a client says of a listener that speaks another protocol; a broker that is just ending gives the same picture.
_MISMATCH = ("SSL handshake failed", "security.protocol")
#: What it says of an address where nothing listens, or that is none.
_NOBODY = ("Connect to", "Failed to resolve")
#: Who has let us in; asked once a process.
_admitted: set[tuple[str, KafkaSecurity]] = set()


def admit_kafka(connections: Connections) -> None:
    """Return when the brokers let us in, or do not answer at all.

    Raises:
        Refused: user, password or certificate are not accepted, on either side, or the listener speaks another protocol.
        InvalidSetting: a certificate or key cannot be used.
    """
    if (connections.kafka, connections.kafka_security) in _admitted:
        return
    try:
        _ask(connections, PATIENCE_S, until_reached=False)
    except Refused:
        raise
    except Unavailable:
        return


def probe_kafka(connections: Connections, patience_s: float = PATIENCE_S) -> dict[str, int]:
    """Topic -> how many partitions it has, as soon as the brokers answer.

    Raises:
        Refused: user, password or certificate are not accepted, on either side, or the listener speaks another protocol.
        Unavailable: no answer in ``patience_s``; the detail says what the client saw last.
        InvalidSetting: a certificate or key cannot be used.
    """
    return _ask(connections, patience_s, until_reached=True)


def _ask(connections: Connections, patience_s: float, *, until_reached: bool) -> dict[str, int]:
    """`probe_kafka`; not ``until_reached``: an address where nobody listens is not asked again."""
    kafka_python(connections)  # reads the certificates, and names the setting of one that cannot be used
    seen: list[KafkaError] = []
    client = AdminClient(librdkafka(connections) | {"error_cb": seen.append, "log_level": 0})
    began, asked = time.monotonic(), False
    while True:
        try:
            there = client.list_topics(timeout=_TRY_S).topics
            _admitted.add((connections.kafka, connections.kafka_security))
            return {name: len(topic.partitions) for name, topic in there.items()}
        except KafkaException as error:
            last: KafkaError = error.args[0]
        client.poll(0)
        told = [one for one in seen if one.code() != KafkaError._ALL_BROKERS_DOWN]
        _raise_if_refused((*told, last), connections)
        causes = [plain_cause(one.str()) for one in told] or [last.str()]
        mismatch, now = _naming(causes, _MISMATCH), time.monotonic()
        if not asked and (mismatch or (not told and now > began + _SILENCE_S)):
            asked = True
            _raise_if_another_protocol(connections, mismatch or causes[-1])
        nobody = len(told) < len(seen) and all(_naming([cause], _NOBODY) for cause in causes)
        if now > began + patience_s or (nobody and not until_reached):
            remedy = "check HEADRACE_KAFKA, HEADRACE_KAFKA_SECURITY__PROTOCOL, and that the broker runs"
            tried = f"tried over {connections.kafka_security.protocol}, seen: {mismatch or causes[-1]}"
            raise Unavailable(f"Kafka at {connections.kafka}", tried, remedy)


def _naming(causes: list[str], words: tuple[str, ...]) -> str:
    """The last cause that has one of the words in it; empty: none."""
    return next((cause for cause in reversed(causes) if any(word in cause for word in words)), "")


def _raise_if_refused(errors: tuple[KafkaError, ...], connections: Connections) -> None:
    for one in errors:
        if one.code() in (KafkaError._AUTHENTICATION, KafkaError._SSL) or "SSL alert" in one.str():
            remedy = _kafka_remedy(one, connections.kafka_security)
            raise Refused(f"Kafka at {connections.kafka}", plain_cause(one.str()), remedy)


def _raise_if_another_protocol(connections: Connections, cause: str) -> None:
    """Only where the listener proves it: a broker that is ending breaks connections off as well, and is waited for."""
    security, address = connections.kafka_security, connections.kafka
    if security.tls and speaks_plaintext(address):
        found, fits = "plaintext", "plaintext"
    elif not security.tls and speaks_tls(address):
        found, fits = "TLS", "sasl_ssl" if security.sasl else "ssl or sasl_ssl"
    else:
        return
    detail = f"tried over {security.protocol}, seen: {cause}; the listener speaks {found}"
    remedy = f"set HEADRACE_KAFKA_SECURITY__PROTOCOL to {fits}, or name another listener in HEADRACE_KAFKA"
    raise Refused(f"Kafka at {address}", detail, remedy)


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
    if "database is locked" in detail:
        return Unavailable(what, detail, "somebody else has been writing for seconds: try again")
    return Unavailable(what, detail, "check HEADRACE_DATABASE, and that it runs")
