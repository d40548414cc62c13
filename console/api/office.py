"""What every endpoint of the API works on: the desk, the tokens, and the way of a decision into its topic."""

from __future__ import annotations

import threading
from typing import Literal

import structlog
from sqlalchemy import Engine

from reward.desk.desk import Desk
from reward.desk.outbox import compare, publish
from reward.desk.outside import Facts, no_catalogue
from reward.desk.tokens import Tokens
from reward.settings import DeskSettings
from schemas.connections import Connections
from schemas.decisions import Actor
from schemas.errors import HeadraceError
from streams.integrity.aside import SentAgain
from streams.integrity.releasing import release

log = structlog.get_logger()

#: Every so many looks for leftovers, topic and database are compared as well.
COMPARE_EVERY = 12


class Office:
    """One per application; ``access`` as `console.settings.ConsoleSettings.access`."""

    def __init__(
        self,
        engine: Engine,
        connections: Connections,
        access: Literal["tokens", "open"],
        settings: DeskSettings | None = None,
        facts: Facts = no_catalogue,
    ) -> None:
        self.desk, self.tokens, self.access = Desk(engine, settings, facts), Tokens(engine), access
        self._engine, self.connections = engine, connections

    def publish(self) -> str:
        """Send what is saved; empty, or why it has to wait. Saved it is in any case."""
        try:
            publish(self._engine, self.connections)
        except HeadraceError as error:
            return f"saved, not yet published: {error}"
        return ""

    def release(self, window: int, actor: Actor, why: str, new_normal: bool) -> SentAgain:
        """Let a broken window of the log pass; see `streams.integrity.releasing.release`."""
        return release(self._engine, self.connections, [window], actor, why, new_normal)

    def sweep(self, stop: threading.Event, every_s: float) -> None:
        """Until ``stop``: send what others left in the outbox, and see that the topic ends with the newest version."""
        looks, told = 0, ""
        while True:
            said = ""
            try:
                publish(self._engine, self.connections)
                if looks % COMPARE_EVERY == 0:
                    compare(self._engine, self.connections)
                looks += 1
            except HeadraceError as error:
                said = str(error)
            if said and said != told:
                log.warning("decisions wait to be published", reason=said)
            told = said
            if stop.wait(every_s):
                return


def sweeping(office: Office, every_s: float) -> tuple[threading.Thread, threading.Event]:
    """`Office.sweep` in a thread that has begun."""
    stop = threading.Event()
    thread = threading.Thread(target=office.sweep, args=(stop, every_s), name="outbox", daemon=True)
    thread.start()
    return thread, stop
