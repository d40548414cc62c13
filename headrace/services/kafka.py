"""One Apache Kafka broker as a child process: KRaft, one node, broker and controller in one JVM."""

from __future__ import annotations

import base64
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

from headrace.services.child import Child
from headrace.services.java import java, kafka_jars
from headrace.services.ports import answers, free_port
from schemas.connections import Connections
from schemas.errors import ServiceFailed

#: A record may be so large (bytes); workers quarantine what is over their own, lower bound, so it has to get through here.
MAX_MESSAGE = 8 * 1024 * 1024
_JVM = ("-Xmx384m", "-Xms64m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:+ExitOnOutOfMemoryError")

_LOGGING = """\
status=error
appender.console.type=Console
appender.console.name=out
appender.console.layout.type=PatternLayout
appender.console.layout.pattern=%d{ISO8601} %-5p %c{1}: %m%n
rootLogger.level=warn
rootLogger.appenderRef.out.ref=out
logger.server.name=kafka.server.KafkaRaftServer
logger.server.level=info
"""


def kafka_child(
    folder: Path, logs: Path, settings: Mapping[str, str] | None = None, formatting: Sequence[str] = ()
) -> tuple[Child, str]:
    """A broker that keeps its data in ``folder``, and its bootstrap address. ``settings`` go over the ones below;
    ``formatting`` are further options of the storage tool, which makes the first users.

    The ports stay the same as long as the child lives on, also over restarts, so that clients find it again.

    Raises:
        Unavailable: Kafka's jars cannot be fetched.
        ServiceFailed: the data folder cannot be formatted.
    """
    jars = kafka_jars()
    port = free_port()
    properties = _properties(folder, port, free_port((port,))) | dict(settings or {})
    folder.mkdir(parents=True, exist_ok=True)
    logs.mkdir(parents=True, exist_ok=True)
    config, log4j = folder / "server.properties", folder / "log4j2.properties"
    config.write_text("".join(f"{key}={value}\n" for key, value in properties.items()))
    log4j.write_text(_LOGGING)
    command = (java(), *_JVM, f"-Dlog4j2.configurationFile={log4j}", "-cp", f"{jars}/*")
    _format(command, config, folder / "data", logs / "kafka.log", formatting)
    child = Child(
        name="kafka",
        argv=(*command, "kafka.Kafka", str(config)),
        cwd=folder,
        ready=lambda: serves(port),
        grace_s=20.0,
        before=lambda: (folder / "data" / ".lock").unlink(missing_ok=True),
    )
    return child, f"127.0.0.1:{port}"


def serves(port: int) -> bool:
    """Whether the broker at that local port answers a request for its cluster's metadata with itself in it."""
    if not answers(port):
        return False
    from kafka import KafkaAdminClient
    from kafka.errors import KafkaError

    from schemas.kafka_clients import open_client

    try:
        connections = Connections(kafka=f"127.0.0.1:{port}")
        admin = open_client(KafkaAdminClient, connections, bootstrap_timeout_ms=1000, request_timeout_ms=2000)
    except KafkaError:
        return False
    try:
        return any(broker["port"] == port for broker in admin.describe_cluster()["brokers"])
    except KafkaError:
        return False
    finally:
        admin.close()


def _format(command: tuple[str, ...], config: Path, data: Path, log: Path, options: Sequence[str]) -> None:
    if (data / "meta.properties").exists():
        return
    cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    tool = (*command, "kafka.tools.StorageTool", "format", "--ignore-formatted", "-t", f"H{cluster[1:]}", "-c", str(config))
    tool += tuple(options)
    with log.open("ab") as output:
        done = subprocess.run(tool, stdout=output, stderr=subprocess.STDOUT, timeout=120, check=False)
    if done.returncode != 0:
        raise ServiceFailed("kafka", f"formatting {data} ended with {done.returncode}", str(log))


def _properties(folder: Path, port: int, controller: int) -> dict[str, str]:
    return {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@127.0.0.1:{controller}",
        "controller.listener.names": "CONTROLLER",
        "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
        "log.dirs": str(folder / "data"),
        "message.max.bytes": str(MAX_MESSAGE),
        "replica.fetch.max.bytes": str(MAX_MESSAGE),
        "auto.create.topics.enable": "false",
        "default.replication.factor": "1",
        "offsets.topic.num.partitions": "1",
        "offsets.topic.replication.factor": "1",
        "transaction.state.log.num.partitions": "1",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        # A broker that was killed may register again only when its old session is over: 9 s by default.
        "broker.session.timeout.ms": "3000",
        "broker.heartbeat.interval.ms": "500",
        "group.initial.rebalance.delay.ms": "0",
        "group.min.session.timeout.ms": "1000",
        # A worker that was killed leaves a transaction open; readers wait for it no longer than this.
        "transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000",
        "num.network.threads": "2",
        "num.io.threads": "2",
        "background.threads": "2",
        "num.recovery.threads.per.data.dir": "2",
        "log.cleaner.dedupe.buffer.size": str(16 * 1024 * 1024),
        "log.index.size.max.bytes": str(1024 * 1024),
    }
