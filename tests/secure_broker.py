"""A real broker with TLS and users: a SASL_SSL listener with the SCRAM user ``shop``, and one that asks for certificates."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from headrace.process import Process
from headrace.services.kafka import kafka_child, serves
from headrace.services.ports import free_port
from schemas.connections import Connections
from schemas.security import KafkaSecurity
from tests.certificates import Authority

PASSWORD, WRONG = "correct-horse+battery:staple", "tr0ub4dor&3"


@dataclasses.dataclass
class Broker:
    """Where the listeners are, and who is trusted."""

    user: Connections
    certificate: Connections
    authority: Authority
    stranger: Authority


@contextmanager
def started(process: Process) -> Iterator[None]:
    """The process is ready inside the context, and ended after it."""
    process.start()
    try:
        deadline = time.monotonic() + 120
        while not process.check():
            assert time.monotonic() < deadline, process.log.read_text()[-3_000:]
            time.sleep(0.1)
        yield
    finally:
        process.stop()


@contextmanager
def secure_broker(run: Path) -> Iterator[Broker]:
    """It keeps everything in ``run``, and is up until the context ends."""
    run.mkdir(exist_ok=True)
    authority, stranger = Authority(run, "authority"), Authority(run, "stranger")
    keys, ours = authority.issue("broker"), authority.issue("us", password=PASSWORD)
    inner = free_port()
    user = free_port((inner,))
    certificate = free_port((inner, user))
    controller = free_port((inner, user, certificate))
    public = f"PLAINTEXT://127.0.0.1:{inner},SASL_SSL://127.0.0.1:{user},SSL://127.0.0.1:{certificate}"
    settings = {
        "listeners": f"{public},CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": public,
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL,SSL:SSL,CONTROLLER:PLAINTEXT",
        "controller.quorum.voters": f"1@127.0.0.1:{controller}",
        "inter.broker.listener.name": "PLAINTEXT",
        "sasl.enabled.mechanisms": "SCRAM-SHA-512",
        "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config": (
            "org.apache.kafka.common.security.scram.ScramLoginModule required;"
        ),
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": keys.chain,
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": authority.file,
        "listener.name.ssl.ssl.client.auth": "required",
    }
    scram = ("--add-scram", f"SCRAM-SHA-512=[name=shop,password={PASSWORD}]")
    child, _ = kafka_child(run / "kafka", run / "logs", settings, scram)
    with started(Process(dataclasses.replace(child, ready=lambda: serves(inner)), run, {})):
        (run / "password").write_text(f"{PASSWORD}\n")
        sasl = KafkaSecurity(
            protocol="sasl_ssl", username="shop", password_file=str(run / "password"), ca_file=authority.file
        )
        tls = KafkaSecurity(
            protocol="ssl", ca_file=authority.file, certificate_file=ours.certificate, key_file=ours.key,
            key_password=PASSWORD,
        )  # fmt: skip
        store = str(run / "store")
        yield Broker(
            Connections(kafka=f"127.0.0.1:{user}", kafka_security=sasl, store=store),
            Connections(kafka=f"127.0.0.1:{certificate}", kafka_security=tls, store=store),
            authority,
            stranger,
        )
