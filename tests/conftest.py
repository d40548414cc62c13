"""Fixtures that many tests share: an embedded Kafka and Redis for the whole session.

Property tests draw the same examples in every run, so that a failure comes from the change and not from the draw;
`make test ARGS="--hypothesis-profile=search"` draws new ones. `HEADRACE_TEST_KAFKA` and `HEADRACE_TEST_REDIS` point the tests
at services that hold nothing of worth: topics are deleted and the Redis is emptied, again and again. `HEADRACE_SERVICES=containers`
starts them with testcontainers. All other variables of ours are dropped, so that a shell's addresses are never touched.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from sqlalchemy import create_engine

from headrace.services import start_services
from headrace.services.lock import hold
from headrace.supervisor import Supervisor
from schemas.connections import Connections
from schemas.errors import Unavailable
from schemas.topics import TOPICS
from streams.runtime.log import LogReader
from tests.environment import KAFKA, REDIS, drop_settings
from tests.postgres import INSTALLED, running

WHERE_INSTALLED = pytest.mark.skipif(not INSTALLED, reason="needs postgres on the PATH (Debian's package postgresql)")

# How long an example takes is the machine's matter: neither a deadline nor a slow start fails a property.
settings.register_profile("same", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
settings.register_profile("search", settings.get_profile("same"), derandomize=False)
settings.load_profile("same")


def pytest_configure(config: pytest.Config) -> None:
    """A shell's settings are not for tests. kafka-python reads its message definitions by a call that Python 3.11 calls
    deprecated (and 3.13 took back)."""
    drop_settings(os.environ)
    config.addinivalue_line("filterwarnings", "ignore:(read_text|open_text) is deprecated:DeprecationWarning")


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Two processes, each with services of its own; one where the services are yours, as topics belong to one session."""
    return 0 if os.environ.get(KAFKA) or os.environ.get(REDIS) else 2


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with long tests first: one that begins when the other process has done all the rest makes everybody wait. Of
    these, the files without services before the others: a broker's first start waits for the disk, and an installation of
    a minute ago is still being written."""
    length, served = dict[Path, float](), set[Path]()
    for item in items:
        allowed = item.get_closest_marker("timeout")
        here = allowed.args[0] if allowed else float(item.get_closest_marker("slow") is not None)
        length[item.path] = max(here, length.get(item.path, 0.0))
        if item.get_closest_marker("services") or "services" in getattr(item, "fixturenames", ()):
            served.add(item.path)
    items.sort(key=lambda item: (not length[item.path], item.path in served, -length[item.path]))


@pytest.fixture(scope="session")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connections]:
    """Addresses of a Kafka and a Redis that live as long as the session. Most tests want `connections`."""
    given = Connections(kafka=os.environ.get(KAFKA, ""), redis=os.environ.get(REDIS, ""))
    if os.environ.get("HEADRACE_SERVICES") == "containers":
        with _containers() as addresses:
            yield addresses
        return
    run = tmp_path_factory.mktemp("services")
    with hold(run), Supervisor(run) as supervisor:
        addresses = start_services(run, given, supervisor)
        supervisor.watch()
        yield addresses


@pytest.fixture(scope="session")
def kafka(services: Connections) -> str:
    """Bootstrap address of the session's broker. Its topics are everybody's: use `fresh_topics` or unique names."""
    return services.kafka


@pytest.fixture(scope="session")
def _redis_of_session(services: Connections) -> str:
    return services.redis


@pytest.fixture
def redis_url(_redis_of_session: str) -> str:
    """URL of the session's Redis, emptied before each test."""
    from redis import Redis

    with Redis.from_url(_redis_of_session) as client:
        client.flushall()
    return _redis_of_session


@pytest.fixture
def connections(kafka: str, redis_url: str, tmp_path: Path) -> Connections:
    """Session services, emptied Redis, and a store and a SQLite database of this test alone; two partitions."""
    return Connections(
        kafka=kafka, redis=redis_url, database=f"sqlite:///{tmp_path / 'headrace.db'}", store=str(tmp_path / "store")
    )


@pytest.fixture(scope="session")
def _postgres() -> Iterator[str]:
    """URL of a PostgreSQL of this session, without a database's name."""
    with running() as url:
        yield url


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=WHERE_INSTALLED)])
def database(request: pytest.FixtureRequest, tmp_path: Path, unique: Callable[[str], str]) -> Connections:
    """A database of this test alone, once in SQLite and once in PostgreSQL."""
    if request.param == "sqlite":
        return Connections(database=f"sqlite:///{tmp_path / 'headrace.db'}")
    server, name = request.getfixturevalue("_postgres"), unique("test").replace("-", "_")
    engine = create_engine(f"{server}postgres", isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    engine.dispose()
    return Connections(database=f"{server}{name}")


@pytest.fixture
def fresh_topics(connections: Connections) -> Connections:
    """`connections` whose broker has every topic of the registry, empty and led: deleted and made anew before the test.

    Topic names are constants that workers use, so they cannot be prefixed; deleting fifteen topics takes well below a
    second. A consumer or worker of an earlier test must be closed by then. Group ids and transactional ids outlive the
    topics: take unique ones (`unique`).
    """
    from headrace.topics_admin import create_topics, delete_topics, describe

    if there := list(describe(connections)):
        delete_topics(connections, there)
    create_topics(connections, TOPICS)
    reader = LogReader(connections, 30)  # a partition made anew refuses its first requests until it has a leader
    places = [(t.name, p) for t in TOPICS for p in range(t.partitions or connections.partitions)]
    found = {place: reader.bounds(*place) for place in places}
    assert set(found.values()) == {(0, 0)}, found
    return connections


@pytest.fixture
def unique() -> Callable[[str], str]:
    """Makes a name that no other test has: ``unique("group")`` -> ``group-3f2a...``."""
    return lambda name: f"{name}-{uuid.uuid4().hex[:12]}"


@contextmanager
def _containers() -> Iterator[Connections]:
    try:
        from testcontainers.kafka import KafkaContainer
        from testcontainers.redis import RedisContainer
    except ImportError as error:
        remedy = "pip install 'testcontainers[kafka,redis]', or unset HEADRACE_SERVICES"
        raise Unavailable("testcontainers", "HEADRACE_SERVICES=containers asks for it", remedy) from error
    with KafkaContainer("apache/kafka:4.3.1") as kafka, RedisContainer("redis:7") as redis:
        address = f"redis://{redis.get_container_host_ip()}:{redis.get_exposed_port(6379)}/0"
        yield Connections(kafka=kafka.get_bootstrap_server(), redis=address)
