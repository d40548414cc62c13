"""The doctor finds what is wrong and says what to do; what is right it calls right."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from headrace.doctor import Check, examine
from headrace.topics_admin import delete_topics
from schemas.connections import Connections


def by_name(checks: list[Check]) -> dict[str, Check]:
    """Each name occurs once."""
    found = {check.name: check for check in checks}
    assert len(found) == len(checks)
    return found


def test_a_bare_machine_needs_nothing_but_the_packages(tmp_path: Path) -> None:
    """No addresses: Python, packages, Java, jars and Redis are looked at, and nothing is created."""
    checks = by_name(examine(Connections(), tmp_path / "runs" / "new"))
    assert {"python", "packages", "memory", "disk", "java", "kafka", "redis"} <= set(checks)
    assert all(checks[name].ok for name in ("python", "packages", "java", "kafka", "redis"))
    assert list(tmp_path.iterdir()) == []


def test_running_services_are_found_well(fresh_topics: Connections, tmp_path: Path) -> None:
    """Broker, topics, Redis and database answer."""
    checks = by_name(examine(fresh_topics, tmp_path))
    assert all(checks[name].ok for name in ("kafka", "topics", "redis", "database"))
    assert checks["topics"].detail == "agree with the registry"


def test_a_missing_topic_is_named_with_its_remedy(fresh_topics: Connections, tmp_path: Path) -> None:
    """One deleted topic: that check fails, the broker's own does not."""
    delete_topics(fresh_topics, ["training.steps"])
    checks = by_name(examine(fresh_topics, tmp_path))
    assert checks["kafka"].ok
    assert checks["topics"] == Check("topics", False, "training.steps: missing", "run `headrace topics --create`")


def test_what_does_not_answer_is_told_without_its_password(connections: Connections, tmp_path: Path) -> None:
    """A wrong Redis and a wrong database are findings, not crashes, and no password is printed."""
    wrong = connections.model_copy(
        update={"redis": "redis://me:secret@127.0.0.1:1/0", "database": "postgresql+psycopg://me:secret@127.0.0.1:1/x"}
    )
    checks = by_name(examine(wrong, tmp_path))
    assert not checks["redis"].ok and "HEADRACE_REDIS" in checks["redis"].remedy
    assert not checks["database"].ok and "HEADRACE_DATABASE" in checks["database"].remedy
    assert "secret" not in repr(checks)


@pytest.mark.parametrize(
    ("store", "said", "remedy"),
    [
        ("s3://bucket/headrace", "Install s3fs", "uv pip install s3fs"),
        ("bucket://x", "Protocol not known", "HEADRACE_STORE"),
    ],
)
def test_a_store_that_cannot_be_opened_is_a_finding(
    store: str, said: str, remedy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The package of the store is not installed, or no package knows such a URL."""
    monkeypatch.setitem(sys.modules, "s3fs", None)
    check = by_name(examine(Connections(store=store), tmp_path))["store"]
    assert not check.ok and said in check.detail and remedy in check.remedy
