"""A PostgreSQL for tests and benchmarks, from Debian's package where it is installed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from headrace.services.ports import free_port

INSTALLED = shutil.which("postgres") is not None


@contextmanager
def running() -> Iterator[str]:
    """URL of a server of its own, without a database's name, until the block ends."""
    folder, port = Path(tempfile.mkdtemp(prefix="headrace-postgres-")), free_port()
    try:
        with serve(folder, port, "secret", "host all all 127.0.0.1/32 scram-sha-256"):
            yield f"postgresql+psycopg://shop:secret@127.0.0.1:{port}/"
    finally:
        shutil.rmtree(folder)


@contextmanager
def serve(folder: Path, port: int, password: str, hba: str, settings: Mapping[str, object] | None = None) -> Iterator[None]:
    """A server in ``folder``, whose superuser is ``shop``; ``hba``: who may come how. It refuses to run as root: then it
    runs as ``postgres``, who must be able to enter the folder.
    """
    binaries = Path(str(shutil.which("postgres"))).resolve().parent
    user = "postgres" if os.geteuid() == 0 else None
    (folder / "password").write_text(password)
    (folder / "hba").write_text(f"{hba}\n")
    if user is not None:
        for path in (folder, *folder.iterdir()):
            shutil.chown(path, user)
    data, log = folder / "data", folder / "log"
    make = (binaries / "initdb", "-D", data, "-U", "shop", f"--pwfile={folder / 'password'}", "-A", "scram-sha-256", "-N")
    subprocess.run(make, check=True, capture_output=True, user=user, cwd=folder)
    found = {
        "listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": folder, "hba_file": folder / "hba",
        "fsync": "off", **(settings or {}),
    }  # fmt: skip
    options = [word for name, value in found.items() for word in ("-c", f"{name}={value}")]
    with log.open("wb") as output:
        server = subprocess.Popen(
            (binaries / "postgres", "-D", data, *options), stdout=output, stderr=output, user=user, cwd=folder
        )
    try:
        deadline = time.monotonic() + 60
        while b"ready to accept connections" not in log.read_bytes():
            assert server.poll() is None and time.monotonic() < deadline, log.read_text()[-3_000:]
            time.sleep(0.05)
        yield
    finally:
        server.send_signal(signal.SIGINT)  # at once, whoever is connected
        server.wait(60)
