"""What a broker's listener speaks: asked when it does not answer in the protocol of the settings, to tell why."""

from __future__ import annotations

import socket
import ssl

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

#: Longest wait for an answer of one address (s).
WAIT_S = 2.0


def speaks_plaintext(bootstrap: str) -> bool:
    """Whether it takes requests without TLS and without a user."""
    client = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0, "error_cb": lambda _: None})
    try:
        client.list_topics(timeout=WAIT_S)
    except KafkaException:
        return False
    return True


def speaks_tls(bootstrap: str) -> bool:
    """Whether one of the addresses answers a TLS greeting, whatever its certificate."""
    return any(_greets(address.strip()) for address in bootstrap.split(","))


def _greets(address: str) -> bool:
    host, _, port = address.rpartition(":")
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # nothing is said to it but the greeting
    try:
        with (
            socket.create_connection((host.strip("[]"), int(port)), timeout=WAIT_S) as plain,
            context.wrap_socket(plain, server_hostname=host.strip("[]")),
        ):
            return True
    except (OSError, ValueError):
        return False
