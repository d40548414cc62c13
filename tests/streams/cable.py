"""A network between a broker and its clients that can be cut: a port that forwards to another."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress


class Cable:
    """Forwards ``port`` of this machine to ``target``. While it is cut nothing passes, and nobody is told: connections stay open
    as they do when a switch dies. Mended, they are reset. ``pause_s``: after each 64 KiB, so that it is a slow one."""

    pause_s = 0.0

    def __init__(self, port: int, target: int) -> None:
        self._target, self._open = target, threading.Event()
        self._open.set()
        self._ends: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._server = socket.create_server(("127.0.0.1", port))
        self._run(self._accept)

    def cut(self) -> None:
        """From now on nothing passes."""
        self._open.clear()

    def mend(self) -> None:
        """Reset what hangs, and let pass what comes."""
        for end in list(self._ends):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self._open.set()

    def close(self) -> None:
        """Take it away."""
        self._server.shutdown(socket.SHUT_RDWR)
        self.mend()
        for thread in self._threads:
            thread.join(10)
        self._server.close()

    def _run(self, what: Callable[..., None], *args: socket.socket) -> threading.Thread:
        thread = threading.Thread(target=what, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()
        return thread

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._server.accept()
                self._run(self._join, near)

    def _join(self, near: socket.socket) -> None:
        self._open.wait()
        with near, suppress(OSError), socket.create_connection(("127.0.0.1", self._target)) as far:
            self._ends |= {near, far}
            for pump in (self._run(self._pump, near, far), self._run(self._pump, far, near)):
                pump.join()
            self._ends -= {near, far}

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                self._open.wait()
                sink.sendall(data)
                time.sleep(self.pause_s)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
