"""A console that listens."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import uvicorn
from fastapi import FastAPI


@contextmanager
def listening(app: FastAPI, lifespan: Literal["on", "off"] = "on") -> Iterator[str]:
    """The URL of the application, which listens on a port of its own in a thread; ``lifespan`` off: it does not look for
    decisions left unpublished.
    """
    web = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning", lifespan=lifespan))
    thread = threading.Thread(target=web.run)
    thread.start()
    try:
        while not web.started:
            assert thread.is_alive(), "the console did not start"
            time.sleep(0.01)
        yield "http://{}:{}".format(*web.servers[0].sockets[0].getsockname())
    finally:
        web.should_exit = True
        thread.join(timeout=15)
        app.state.engine.dispose()
