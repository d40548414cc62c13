"""From `Connections` to the options of every client in use. Nothing else in the project knows how a client is told
of users and certificates; a client that is built elsewhere takes its options from here.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine, create_engine, make_url
from sqlalchemy.exc import ArgumentError

from schemas.client_log import CLIENT_LOG, LEVEL
from schemas.connections import Connections, without_password
from schemas.errors import InvalidSetting
from schemas.security import DatabaseSecurity, KafkaSecurity, RedisSecurity, Security

if TYPE_CHECKING:
    import faust
    import redis
    import redis.asyncio


def librdkafka(connections: Connections) -> dict[str, Any]:
    """Where and who, for confluent-kafka's Producer, Consumer and AdminClient; and where their own lines go."""
    security = connections.kafka_security
    options: dict[str, Any] = {
        "bootstrap.servers": connections.kafka,
        "security.protocol": security.protocol,
        "logger": CLIENT_LOG,
        "log_level": LEVEL,
    }
    if security.sasl:
        options |= {
            "sasl.mechanism": security.mechanism,
            "sasl.username": security.username,
            "sasl.password": security.secret(),
        }
    if security.tls:
        named = {
            "ssl.ca.location": security.ca_file,
            "ssl.certificate.location": security.certificate_file,
            "ssl.key.location": security.key_file or security.certificate_file,
            "ssl.key.password": security.key_password.get_secret_value(),
        }
        options |= {name: value for name, value in named.items() if value}
        options["ssl.endpoint.identification.algorithm"] = "https" if security.check_hostname else "none"
    return options


def kafka_python(connections: Connections) -> dict[str, Any]:
    """Where and who, for kafka-python's clients.

    Raises:
        InvalidSetting: a certificate or key cannot be used.
    """
    security = connections.kafka_security
    options: dict[str, Any] = {
        "bootstrap_servers": [address.strip() for address in connections.kafka.split(",")],
        "security_protocol": security.protocol.upper(),
    }
    if security.sasl:
        options |= {
            "sasl_mechanism": security.mechanism,
            "sasl_plain_username": security.username,
            "sasl_plain_password": security.secret(),
        }
    if security.tls:
        options["ssl_context"] = tls_context(security)
    return options


def faust_broker(connections: Connections) -> dict[str, Any]:
    """Where and who, for a Faust app; its aiokafka clients take it over.

    Raises:
        InvalidSetting: a certificate or key cannot be used.
    """
    broker = ";".join(f"kafka://{address.strip()}" for address in connections.kafka.split(","))
    return {"broker": broker, "broker_credentials": _faust_credentials(connections.kafka_security)}


def _faust_credentials(security: KafkaSecurity) -> faust.Credentials | None:
    import faust

    context = tls_context(security) if security.tls else None
    if security.sasl:
        return faust.SASLCredentials(
            username=security.username, password=security.secret(), mechanism=security.mechanism, ssl_context=context
        )
    return faust.SSLCredentials(context) if context is not None else None


def redis_client(connections: Connections, **options: Any) -> redis.Redis[Any]:
    """A synchronous Redis client; it connects at its first command. ``options`` are those of redis-py.

    Raises:
        InvalidSetting: not a Redis URL, or a certificate or key cannot be used.
    """
    import redis

    try:
        return redis.Redis.from_url(connections.redis, **_redis(connections), **options)
    except ValueError as error:
        raise _no_redis_url(connections) from error


def redis_async(connections: Connections, **options: Any) -> redis.asyncio.Redis[Any]:
    """As `redis_client`, asynchronous."""
    import redis.asyncio

    try:
        return redis.asyncio.Redis.from_url(connections.redis, **_redis(connections), **options)
    except ValueError as error:
        raise _no_redis_url(connections) from error


def _redis(connections: Connections) -> dict[str, Any]:
    security = connections.redis_security
    named = {"username": security.username, "password": security.secret()}
    if not connections.redis.startswith("rediss://"):
        return {name: value for name, value in named.items() if value}
    tls_context(security)  # redis-py would tell of a file that cannot be used at the first command, as a lost connection
    named |= {
        "ssl_ca_certs": security.ca_file,
        "ssl_certfile": security.certificate_file,
        "ssl_keyfile": security.key_file or security.certificate_file,
        "ssl_password": security.key_password.get_secret_value(),
    }
    options: dict[str, Any] = {name: value for name, value in named.items() if value}
    return options | {"ssl_check_hostname": security.check_hostname}


def _no_redis_url(connections: Connections) -> InvalidSetting:
    bound = "redis://HOST:PORT/DB, rediss://HOST:PORT/DB or unix:///PATH"
    return InvalidSetting("HEADRACE_REDIS", without_password(connections.redis), bound, "correct it")


def database_engine(connections: Connections, **options: Any) -> Engine:
    """An engine that connects at its first use. ``options`` are those of SQLAlchemy's ``create_engine``.

    Raises:
        InvalidSetting: not a SQLAlchemy URL of a known database.
    """
    security = connections.database_security
    try:
        url = make_url(connections.database)
        if security.username:
            url = url.set(username=security.username)
        if security.has_password:
            url = url.set(password=security.secret())
        return create_engine(url, connect_args=_libpq(security), **options)
    except (ArgumentError, ModuleNotFoundError) as error:
        bound, shown = "sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME", without_password(connections.database)
        raise InvalidSetting("HEADRACE_DATABASE", shown, bound, f"correct it ({type(error).__name__})") from error


def _libpq(security: DatabaseSecurity) -> dict[str, str]:
    named = {
        "sslmode": security.sslmode or ("verify-full" if security.ca_file else ""),
        "sslrootcert": security.ca_file,
        "sslcert": security.certificate_file,
        "sslkey": security.key_file or security.certificate_file,
        "sslpassword": security.key_password.get_secret_value(),
    }
    return {name: value for name, value in named.items() if value}


def tls_context(security: KafkaSecurity | RedisSecurity) -> ssl.SSLContext:
    """TLS as a client: the authorities to trust, our certificate, and whether names are checked.

    Raises:
        InvalidSetting: a file is not PEM, or the key does not open.
    """
    context = _trusting(security)
    context.check_hostname = security.check_hostname
    if security.certificate_file:
        # Without a password Python would ask for one on the terminal.
        key, password = security.key_file or None, security.key_password.get_secret_value()
        try:
            context.load_cert_chain(security.certificate_file, key, password)
        except (ssl.SSLError, OSError) as error:
            bound = "a PEM certificate, with its key in key_file and the key's password in key_password"
            remedy = f"correct these settings ({_reason(error)})"
            raise security.invalid("certificate_file", security.certificate_file, bound, remedy) from error
    return context


def _trusting(security: Security) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=security.ca_file or None)
    except (ssl.SSLError, OSError) as error:
        remedy = f"name another file ({_reason(error)})"
        raise security.invalid("ca_file", security.ca_file, "a PEM file of certificates", remedy) from error


def _reason(error: OSError) -> str:
    return getattr(error, "reason", None) or error.strerror or type(error).__name__
