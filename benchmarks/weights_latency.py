"""From saving a change of the weights to the first gradient step, and the first search, that used it.

Everything is real: the databases (SQLite; and PostgreSQL, where Debian's package is installed), their outbox, Kafka, a learner process over a
small shop with a steady feed of examples, checkpoints and gate included, and a search server. A step counts when its result is written, so
the gradient has been taken. Times are from the moment before the change is saved. HEADRACE_DATABASE takes the place of SQLite.

    python -m benchmarks.weights_latency --quick
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx
import numpy as np
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from benchmarks.common import Result, Row, finish, parser
from benchmarks.wishes.cost import BEAM, CAMPAIGNS, added_us
from benchmarks.wishes.feed import as_new, steady_feed
from benchmarks.wishes.shop import SmallShop, small_shop
from headrace.folder import RunFolder
from headrace.stack import Stack, open_stack
from reward.campaigns.control import in_control
from reward.desk import records
from reward.desk.desk import Desk
from reward.desk.outbox import publish
from schemas.connections import Connections
from schemas.database import open_database
from schemas.decisions import Actor, Role
from schemas.errors import Unavailable
from schemas.journal import StepResult
from schemas.log import scan
from schemas.topics import STEPS
from schemas.weights import RewardWeights
from tests.postgres import INSTALLED, running

#: Examples a second; what is allowed to the first gradient step and to the first search (s).
RATE, TO_GRADIENT_S, TO_SEARCH_S = 30.0, 2.0, 1.0
#: Values that the relevance weight takes in turn.
SEVERAL = 7
#: Changes through a database in a quick run and in a full one; longest wait for one of them to act (s).
QUICK, FULL, PATIENCE_S = 5, 120, 120.0


class Change(NamedTuple):
    """A version, when its saving began (s since 1970), and the seconds until a search was ordered with it."""

    version: int
    saved_s: float
    to_search_s: float


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder that goes when all went well: what failed names logs in it."""
    folder = Path(tempfile.mkdtemp(prefix="headrace-weights-"))
    yield folder
    shutil.rmtree(folder)


def results(connections: Connections) -> list[StepResult]:
    """Of the journal so far."""
    return [entry.record for entry in scan(connections, STEPS) if isinstance(entry.record, StepResult)]


def await_steps(stack: Stack, version: int) -> None:
    """Until a step that used this version is in the journal."""
    deadline = time.monotonic() + PATIENCE_S
    while not any(r.weights_version >= version for r in results(stack.settings.connections)):
        if time.monotonic() > deadline:
            raise Unavailable("learner", f"no step with weights {version} in {PATIENCE_S:g} s", str(stack.folder.logs))
        time.sleep(0.5)


def other_relevance(book: RewardWeights) -> dict[str, float]:
    """Another weight than this version's, which came of the one before: what changes nothing is refused."""
    return {"relevance": 1.1 + book.version % SEVERAL / 10}


def changes(stack: Stack, shop: SmallShop, count: int, engine: Engine) -> list[Change]:
    """Save, publish, and search until the page is ordered with it; pauses vary, so that changes meet steps at any point."""
    pause, made = np.random.default_rng(0), list[Change]()
    treated = next(v for v in shop.examples if not in_control(v.user, stack.settings.serving.control_share))
    params = {"q": treated.query, "user": treated.user}
    with httpx.Client(base_url=stack.server, timeout=30.0, trust_env=False) as http:
        for _ in range(count):
            wish = other_relevance(Desk(engine).book())
            saved_s, begun = time.time(), time.monotonic()
            version = Desk(engine).set(wish, Actor("benchmark", Role.APPROVER), "measured").version
            publish(engine, stack.settings.connections)
            while http.get("/search", params=params).raise_for_status().json()["weights_version"] < version:
                if time.monotonic() - begun > PATIENCE_S:
                    raise Unavailable("server", f"no page with weights {version}", str(stack.folder.logs))
            made.append(Change(version, saved_s, time.monotonic() - begun))
            time.sleep(pause.uniform(0.1, 0.5))
    return made


def measured(stack: Stack, shop: SmallShop, count: int) -> dict[str, list[Change]]:
    """The changes by what their cases' names begin with: through the stack's database, then through PostgreSQL."""
    own = open_database(stack.settings.connections)
    found = {"": changes(stack, shop, count, own)}
    if INSTALLED:
        with running() as url:
            other = open_database(Connections(database=f"{url}postgres"))
            with Session(other) as session, session.begin():
                records.add_book(session, Desk(own).book())  # its versions go on from there, as the topic's have to
            found["PostgreSQL "] = changes(stack, shop, count, other)
            other.dispose()
    own.dispose()
    return found


def to_gradient_s(change: Change, steps: Sequence[StepResult]) -> float:
    """Seconds to the first result of a step with this version or, if another was quicker, a later one."""
    return min(r.created_ms for r in steps if r.weights_version >= change.version) / 1000 - change.saved_s


def percentiles(name: str, values_s: Sequence[float], allowed_s: float) -> list[Row]:
    """Rows `p50` and `p99`: what is allowed over what was measured."""
    return [
        Row(f"{name}p{p}", value, allowed_s, f"allowed {allowed_s:g} s", allowed_s / value, "s", len(values_s))
        for p, value in zip((50, 99), np.percentile(values_s, [50, 99]).tolist(), strict=True)
    ]


def main(arguments: Sequence[str] | None = None) -> Result:
    """Measure, print, write."""
    options = parser("weights_latency", __doc__).parse_args(arguments)
    with scratch() as root:
        folder = RunFolder(root)
        shop = small_shop(folder.root, warm_steps=20)
        database = os.environ.get("HEADRACE_DATABASE", "")
        with open_stack(folder, shop.settings.model_copy(update={"database": database})) as stack:
            stack.start_learner()
            with steady_feed(as_new(shop.examples), stack.settings.connections, RATE):
                stack.start_server()
                await_steps(stack, 1)
                made = measured(stack, shop, QUICK if options.quick else FULL)
                await_steps(stack, max(change.version for each in made.values() for change in each))
            steps = results(stack.settings.connections)
            where = stack.settings.database.partition(":")[0]
    rows, notes = list[Row](), list[str]()
    for name, each in made.items():
        learned_s = [to_gradient_s(change, steps) for change in each]
        rows += percentiles(name, learned_s, TO_GRADIENT_S)
        rows += percentiles(f"{name}search ", [change.to_search_s for change in each], TO_SEARCH_S)
        notes.append(f"{len(each)} changes through {name.strip() or where}; slowest {max(learned_s):.2f} s to the gradient.")
    gaps_s = np.diff([r.created_ms for r in steps]) / 1000
    notes += [
        f"{len(steps)} steps; a step took {np.median(gaps_s):.2f} s, the longest gap between two, with a checkpoint and its gate, "
        f"{gaps_s.max():.2f} s.",
        f"{CAMPAIGNS} campaigns and all absorbed entries add {added_us(shop.world):.0f} CPU microseconds to a search with a beam of {BEAM}.",
    ]
    return finish("weights_latency", rows, options, notes)


if __name__ == "__main__":
    main()
