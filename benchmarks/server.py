"""The search server under open-loop load from a second process, while checkpoints and weights are swapped beneath it.

Everything is real: a prepared shop whose policy has the default size, Kafka, Redis, `headrace serve` with beam 50, impressions
and pools written, pages of 10. A promotion and a new book come by turns all the while. The load generator is
`benchmarks.plane.load`: its times run from when a request was due.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx
import msgspec
import numpy as np
import torch

from benchmarks.common import Result, Row, finish, parser
from benchmarks.plane.load import Load, Seen
from benchmarks.plane.worker import ROOT
from benchmarks.wishes.shop import SmallShop, small_shop
from headrace.folder import RunFolder
from headrace.shop.sink import KafkaSink
from headrace.stack import open_stack
from schemas.checkpoints import Promotion
from schemas.codec import encode
from schemas.connections import Connections
from schemas.topics import PROMOTED, WEIGHTS
from schemas.weights import RewardWeights
from serving.parts import open_checkpoint
from trainers import checkpoints
from trainers.state import policy_files

RATE, K, ALLOWED_MS = 50.0, 10, 50.0
#: Seconds of load, and between two swaps.
QUICK_S, FULL_S, SWAP_S = 10.0, 60.0, 1.0
ITEMS, CHECKPOINTS = 2_000, 3


class Swaps(NamedTuple):
    """What was published."""

    checkpoints: list[str]
    weights: list[int]


def other_checkpoints(shop: SmallShop) -> list[Promotion]:
    """Checkpoints in the shop's store whose weights differ a little from the frozen one's."""
    made = []
    for step in range(1, CHECKPOINTS + 1):
        policy, manifest = open_checkpoint(shop.store, shop.artefacts.frozen)
        with torch.no_grad():
            for parameter in policy.module.parameters():
                parameter.mul_(1 + 1e-3 * step)
        draft = msgspec.structs.replace(manifest, checkpoint="", step=step, parent=manifest.checkpoint)
        written = checkpoints.write(shop.store, policy_files(policy), draft)
        made.append(Promotion(written.checkpoint, step, f"checkpoints/{written.checkpoint}", 0, "benchmark"))
    return made


@contextmanager
def swapping(shop: SmallShop, connections: Connections) -> Iterator[Swaps]:
    """A promotion and a book by turns, one every `SWAP_S`, until the block ends."""
    stop, done, promotions, sink = threading.Event(), Swaps([], []), other_checkpoints(shop), KafkaSink(connections)

    def swap() -> None:
        while not stop.wait(SWAP_S):
            turn = len(done.checkpoints) + len(done.weights)
            if turn % 2:
                book = RewardWeights(version=1 + turn, relevance=1 + turn % 5 / 10)
                sink.send(WEIGHTS.name, 0, b"benchmark", encode(book))
                done.weights.append(book.version)
            else:
                promotion = promotions[turn // 2 % len(promotions)]
                sink.send(PROMOTED.name, 0, promotion.checkpoint.encode(), encode(promotion))
                done.checkpoints.append(promotion.checkpoint)
            sink.flush()

    thread = threading.Thread(target=swap, name="swaps")
    thread.start()
    try:
        yield done
    finally:
        stop.set()
        thread.join()


def generate(load: Load) -> Seen:
    """Run the load in a process of its own."""
    command = (sys.executable, "-m", "benchmarks.plane.load", msgspec.json.encode(load).decode())
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True)
    return msgspec.json.decode(done.stdout, type=Seen)


def rows_of(seen: Seen) -> list[Row]:
    """The latency's percentiles against what is allowed, and the answers against what was asked."""
    count = len(seen.ms)
    made = [
        Row(
            f"p{p}, beam 50, k {K}, {RATE:g} requests/s",
            ms,
            ALLOWED_MS,
            f"allowed {ALLOWED_MS:g} ms",
            ALLOWED_MS / ms,
            "ms",
            count,
        )
        for p, ms in zip((50, 99), np.percentile(seen.ms, [50, 99]).tolist(), strict=True)
    ]
    answered = float(sum(status == httpx.codes.OK for status in seen.status))
    made.append(
        Row("answered during hot swaps", answered, float(count), "requests sent", answered / count, "requests", count)
    )
    return made


def main(arguments: Sequence[str] | None = None) -> Result:
    """Measure, print, write."""
    options = parser("server", __doc__)
    options.add_argument("--items", type=int, default=ITEMS, help="items of the shop")
    chosen = options.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="headrace-server-") as scratch:
        folder = RunFolder(Path(scratch))
        shop = small_shop(folder.root, warm_steps=20, items=chosen.items, policy={"text_vocabulary": 4_000})
        with open_stack(folder, shop.settings) as stack:
            stack.start_server()
            queries, users = [q.text for q in shop.world.queries], [f"user-{n}" for n in range(200)]
            load = Load(stack.server, RATE, QUICK_S if chosen.quick else FULL_S, K, queries, users)
            generate(msgspec.structs.replace(load, seconds=2.0))  # the first passes allocate
            with swapping(shop, stack.settings.connections) as done:
                seen = generate(load)
    met = len({*seen.checkpoint} - {""}), len({*seen.weights} - {-1})
    note = (
        f"{len(done.checkpoints)} promotions and {len(done.weights)} books in {load.seconds:g} s; the answers met {met[0]} checkpoints and "
        f"{met[1]} books. {chosen.items} items; slowest answer {max(seen.ms):.0f} ms."
    )
    return finish("server", rows_of(seen), chosen, [note])


if __name__ == "__main__":
    main()
