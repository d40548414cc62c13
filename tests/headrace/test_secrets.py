"""A run on services with users and TLS: it works, refusals are told apart, and no secret is found in what it leaves behind."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from headrace.doctor import Check, examine
from headrace.folder import RunFolder
from headrace.process import Process
from headrace.services.child import Child
from headrace.services.ports import answers, free_port
from headrace.services.redis import redis_executable
from headrace.settings import load_settings
from headrace.stack import open_stack
from reward.desk.desk import Desk
from schemas.admission import admit_redis
from schemas.clients import redis_client
from schemas.connections import Connections
from schemas.database import open_database
from schemas.decisions import Actor, Role
from schemas.errors import InvalidSetting, Refused
from schemas.security import DatabaseSecurity, RedisSecurity
from serving.history import History
from serving.settings import ServingSettings
from tests.certificates import Authority
from tests.postgres import INSTALLED, serve
from tests.secure_broker import PASSWORD, WRONG, secure_broker, started

pytestmark = pytest.mark.services

REDIS_SECRET = "redis-s3cr3t"


@contextmanager
def redis_server(folder: Path, *options: str) -> Iterator[None]:
    """A Redis whose one user is ``shop``; ``options`` say where it listens."""
    folder.mkdir()
    users = ("--user", "default", "off", "--user", "shop", "on", f">{REDIS_SECRET}", "~*", "&*", "+@all")
    argv = (redis_executable(), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder), *options, *users)
    port = int(options[1])
    with started(Process(Child("redis", argv, cwd=folder, ready=lambda: answers(port)), folder, os.environ)):
        yield


def headrace(*arguments: str, env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """The command line as a process."""
    command = (sys.executable, "-m", "headrace.cli", *arguments)
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **env}, timeout=120, check=False)


def check(connections: Connections, name: str, folder: Path) -> Check:
    """What the doctor says of one service."""
    (found,) = [check for check in examine(connections, folder) if check.name == name]
    return found


@pytest.mark.slow
def test_a_run_with_secrets_in_its_settings_leaves_none_behind(tmp_path: Path) -> None:
    """Kafka's password in the settings file, Redis' in its URL: children work, and nothing they or we write holds them."""
    port = free_port()
    with secure_broker(tmp_path / "broker") as broker, redis_server(tmp_path / "redis", "--port", str(port)):
        security = broker.user.kafka_security.model_dump() | {"password": PASSWORD, "password_file": ""}
        given = {
            "kafka": broker.user.kafka,
            "kafka_security": security,
            "redis": f"redis://shop:{REDIS_SECRET}@127.0.0.1:{port}/0",
        }
        (tmp_path / "given.json").write_text(json.dumps(given | {"console": {"port": 0, "access": "open"}}))
        folder, settings = RunFolder(tmp_path / "run"), load_settings(tmp_path / "given.json")
        with open_stack(folder, settings) as stack:
            stack.start_console()  # its password came by the environment
            with urllib.request.urlopen(f"{stack.console}/api/training", timeout=30) as answer:
                assert json.load(answer) == {"steps": [], "gate": [], "hold": None}
        kept = folder.settings_file
        assert stat.S_IMODE(kept.stat().st_mode) == 0o600
        with pytest.raises(InvalidSetting, match=r"kafka_security\.password .*HEADRACE_KAFKA_SECURITY__PASSWORD_FILE"):
            load_settings(kept)
        env = settings.secret_environment() | {"HEADRACE_SETTINGS": str(kept)}
        said = [headrace(*words, env=env) for words in (
            ("doctor", "--json", str(folder.root / "doctor.json")), ("status",), ("--help",),
        )]  # fmt: skip
        wrong = headrace("status", env=env | {"HEADRACE_KAFKA_SECURITY__PASSWORD": WRONG})
    checks = {entry["name"]: entry for entry in json.loads((folder.root / "doctor.json").read_text())}
    assert all(checks[name]["ok"] for name in ("kafka", "topics", "redis")), checks
    assert [done.returncode for done in said[1:]] == [0, 0]
    assert wrong.returncode == 1 and wrong.stderr.startswith("Refused: Kafka at")
    assert "HEADRACE_KAFKA_SECURITY__USERNAME" in wrong.stderr
    written = {str(path): path.read_bytes() for path in folder.root.rglob("*") if path.is_file()}
    assert len(written) >= 4 and str(folder.logs / "console.log") in written
    printed = {f"output {n}": (done.stdout + done.stderr).encode() for n, done in enumerate([*said, wrong])}
    for secret in (PASSWORD, REDIS_SECRET, WRONG):
        assert [where for where, raw in {**written, **printed}.items() if secret.encode() in raw] == []


def test_a_user_of_redis_is_let_in_and_a_wrong_password_is_told(tmp_path: Path) -> None:
    """By the settings and by the URL; a refusal names the settings, and is not taken for a Redis that is away."""
    port = free_port()
    with redis_server(tmp_path / "redis", "--port", str(port)):
        (tmp_path / "password").write_text(REDIS_SECRET)
        url = f"redis://127.0.0.1:{port}/0"
        security = RedisSecurity(username="shop", password_file=str(tmp_path / "password"))
        for good in (
            Connections(redis=url, redis_security=security),
            Connections(redis=url.replace("//", f"//shop:{REDIS_SECRET}@")),
        ):
            admit_redis(good)
            with redis_client(good) as client:
                assert client.execute_command("ACL", "WHOAMI") == b"shop"
        for bad in (Connections(redis=url), Connections(redis=url.replace("//", f"//shop:{WRONG}@"))):
            with pytest.raises(Refused, match="HEADRACE_REDIS_SECURITY__USERNAME") as caught:
                admit_redis(bad)
            found = check(bad, "redis", tmp_path)
            assert not found.ok and "HEADRACE_REDIS_SECURITY" in found.remedy
            assert WRONG not in str(caught.value) + repr(found)
    admit_redis(good)  # away is no refusal


def redis_with_tls() -> bool:
    """Whether the Redis at hand is built with it."""
    done = subprocess.run(
        (redis_executable(), "--tls-port", "0", "--port", "x"), capture_output=True, text=True, check=False
    )
    return ">>> 'port" in done.stdout + done.stderr


@pytest.mark.asyncio
async def test_redis_with_tls(tmp_path: Path) -> None:
    """Server and client certificate, both clients; an authority that is not trusted is named."""
    if not redis_with_tls():
        pytest.skip("needs a redis-server with TLS on the PATH (Debian's package redis-server has it, wheels do not)")
    port, authority, stranger = free_port(), Authority(tmp_path, "authority"), Authority(tmp_path, "stranger")
    keys, ours = authority.issue("redis"), authority.issue("us")
    files = ("--tls-cert-file", keys.certificate, "--tls-key-file", keys.key, "--tls-ca-cert-file", authority.file)
    with redis_server(tmp_path / "redis", "--tls-port", str(port), "--port", "0", *files):
        (tmp_path / "password").write_text(REDIS_SECRET)
        good = Connections(
            redis=f"rediss://127.0.0.1:{port}/0",
            redis_security=RedisSecurity(
                username="shop", password_file=str(tmp_path / "password"), ca_file=authority.file,
                certificate_file=ours.certificate, key_file=ours.key,
            ),
        )  # fmt: skip
        assert check(good, "redis", tmp_path).ok
        history = History(good, ServingSettings())
        await history.asked("u", "lamp", 1_000)
        assert (await history.recent("u", 2_000)).queries == ("lamp",)
        await history.close()
        wrong = good.redis_security.model_copy(update={"ca_file": stranger.file})
        found = check(good.model_copy(update={"redis_security": wrong}), "redis", tmp_path)
        assert not found.ok and "CERTIFICATE_VERIFY_FAILED" in found.detail and "CA_FILE" in found.remedy
        plain = check(Connections(redis=good.redis.replace("rediss", "redis")), "redis", tmp_path)
        assert not plain.ok and "rediss://" in plain.remedy


@pytest.mark.skipif(not INSTALLED, reason="needs postgres on the PATH (Debian's package postgresql)")
def test_postgresql_with_tls_and_a_user(tmp_path: Path) -> None:
    """Weights are kept over TLS; a wrong password and an authority that is not trusted are told apart."""
    secret = "database-s3cr3t"
    folder, port = Path(tempfile.mkdtemp(prefix="headrace-postgres-")), free_port()  # tmp_path is closed to other users
    try:
        authority, stranger = Authority(folder, "authority"), Authority(tmp_path, "stranger")
        keys = authority.issue("database")
        tls = {"ssl": "on", "ssl_cert_file": keys.certificate, "ssl_key_file": keys.key}
        with serve(folder, port, secret, "hostssl all all 127.0.0.1/32 scram-sha-256", tls):
            url = f"postgresql+psycopg://shop@127.0.0.1:{port}/postgres"
            security = DatabaseSecurity(password_file=str(folder / "password"), ca_file=authority.file)
            good = Connections(database=url, database_security=security)
            engine = open_database(good)
            assert Desk(engine).set({"click": 2.0}, Actor("me", Role.EDITOR), "because").version == 2
            with engine.connect() as connection:
                tls = connection.exec_driver_sql("select ssl from pg_stat_ssl where pid = pg_backend_pid()").scalar()
            engine.dispose()
            assert tls is True and check(good, "database", tmp_path).ok
            wrong = Connections(
                database=url.replace("shop@", f"shop:{WRONG}@"), database_security={"ca_file": authority.file}
            )
            untrusted = good.model_copy(update={"database_security": security.model_copy(update={"ca_file": stranger.file})})
            for bad, setting in ((wrong, "USERNAME"), (untrusted, "CA_FILE")):
                with pytest.raises(Refused, match=f"HEADRACE_DATABASE_SECURITY__{setting}") as caught:
                    open_database(bad)
                found = check(bad, "database", tmp_path)
                assert not found.ok and setting in found.remedy
                assert WRONG not in str(caught.value) + repr(found) and secret not in str(caught.value) + repr(found)
    finally:
        shutil.rmtree(folder)
