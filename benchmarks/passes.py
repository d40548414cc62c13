"""A step whole, in micro-batches, in bfloat16, and its encoder under torch.compile: time and memory against the whole step in float32.

A step is the product's own (`trainers.step.advance`), of 16 prompts and 32 warm-start pairs, on one thread; its cases take turns on one state
and the same page views, and learn next to nothing, so that every step does the same work. Time is CPU seconds. Two memories are counted: what the
forward pass keeps for the backward one, at most at once, and what is resident at the peak above weights and moments. torch.compile is
compared on the small policy's encoder alone, forward and backward, its compiling left out: a step draws, looks up and counts in between.
"""

from __future__ import annotations

import ctypes
import gc
import logging
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import structlog
import torch
from torch import Tensor

from benchmarks.common import LEAST_REPEATS, Result, Row, finish, parser, row
from benchmarks.learner import Line
from benchmarks.step_memory import kept_bytes, peak_bytes, resident_bytes
from benchmarks.update import cpu_seconds
from benchmarks.wishes.shop import small_shop
from trainers.passes import prompts_of
from trainers.policies.base import Policy

WHOLE = "the whole step, float32"
#: What each case sets of the learner.
CASES: Mapping[str, Mapping[str, Any]] = {
    "micro-batches of 8": {"micro_batch": 8},
    "micro-batches of 4": {"micro_batch": 4},
    "micro-batches of 2": {"micro_batch": 2},
    "bf16": {"precision": "bf16"},
}
MODELS: Mapping[str, Mapping[str, int]] = {
    "demo's small policy": {"text_vocabulary": 4_000},
    "BART-base": {"text_vocabulary": 4_000, "d_model": 768, "ffn": 3_072, "heads": 12, "encoder_layers": 6, "decoder_layers": 6},
}  # fmt: skip
#: Whose encoder torch.compile takes: of large layers it refuses oneDNN's operator where weights learn.
COMPILED = "demo's small policy"
MIB = 2**20


class Cost(NamedTuple):
    """Of a step: CPU seconds; bytes kept for the backward pass; bytes resident at the peak above weights and moments."""

    seconds: float
    kept: float
    peak: float


def cost(line: Line, changes: Mapping[str, Any]) -> Cost:
    """Of a step under these settings; counting what it keeps costs the small policy a hundredth."""
    line.use(line.settings.model_copy(update={"learning_rate": 1e-9, **changes}))
    module, kept = line.state.policy.module, list[int]()
    module.zero_grad(set_to_none=True)
    gc.collect()
    give_back()
    before, begun = resident_bytes(), time.process_time()
    peak = peak_bytes(lambda: kept.append(kept_bytes(line.step, module)))
    return Cost(time.process_time() - begun, kept[0], max(MIB, peak - before))


def give_back() -> None:
    """Hand free memory back to the system, where the C library can: what it holds would hide a peak."""
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


def steps(line: Line, name: str) -> list[Row]:
    """The rows of a model's cases."""
    found: dict[str, list[tuple[Cost, Cost]]] = {case: [] for case in CASES}
    for repeat in range(-1, LEAST_REPEATS):  # the first warms up
        whole = cost(line, {})
        for case, changes in CASES.items():
            pair = cost(line, changes), whole
            if repeat >= 0:
                found[case].append(pair)
        print(f"{name}: repeat {repeat + 1} of {LEAST_REPEATS}, {whole.seconds:.2f} s the whole step", flush=True)
    rows = []
    for case, pairs in found.items():
        rows += [
            row(f"{name}, {case}", [(a.seconds, b.seconds) for a, b in pairs], WHOLE, "CPU s"),
            row(f"{name}, {case}, kept for backward", [(a.kept / MIB, b.kept / MIB) for a, b in pairs], WHOLE, "MiB"),
            row(f"{name}, {case}, peak memory", [(a.peak / MIB, b.peak / MIB) for a, b in pairs], WHOLE, "MiB"),
        ]
    return rows


def compiled(line: Line, name: str, calls: int) -> tuple[Row, str]:
    """The row of a model's encoder under torch.compile, and what compiling took."""
    policy = line.state.policy
    prompts = prompts_of(line.tools.builder, line.views[: line.settings.prompts])

    def passes(encode: Callable[..., Any]) -> Callable[[], None]:
        def deed() -> None:
            policy.module.zero_grad(set_to_none=True)
            state = encode(prompts)
            total(state.keys_BHSC, state.values_BHSC).backward()  # type: ignore[no-untyped-call]

        return deed

    plain, fast = passes(policy.encode), passes(compiled_of(policy))
    torch._logging.set_logs(dynamo=logging.ERROR)  # where it cuts the encoder into graphs is not the matter here
    begun = time.perf_counter()
    fast()
    took = time.perf_counter() - begun
    check_same_gradient(policy, plain, fast)
    pairs = []
    for _ in range(LEAST_REPEATS):
        pairs.append(tuple(cpu_seconds(lambda deed=deed: [deed() for _ in range(calls)]) / calls for deed in (fast, plain)))
    made = row(
        f"{name}, encoder under torch.compile", [(ours, peer) for ours, peer in pairs], "the encoder as it is", "CPU s"
    )
    return made, f"{name}: {took:.0f} s to compile its encoder."


def compiled_of(policy: Policy) -> Callable[..., Any]:
    """Its encoder under torch.compile."""
    return torch.compile(policy.encode)


def total(*groups: Sequence[Tensor]) -> Tensor:
    """A number that all of them shape."""
    return sum((tensor.square().sum() for group in groups for tensor in group), torch.zeros(()))


def check_same_gradient(policy: Policy, one: Callable[[], None], other: Callable[[], None]) -> None:
    """Raise unless both leave the same gradient, to rounding."""
    found = []
    for deed in (one, other):
        deed()
        found.append(torch.cat([p.grad.flatten() for p in policy.module.parameters() if p.grad is not None]))
    torch.testing.assert_close(*found, rtol=1e-3, atol=1e-4 * float(found[0].abs().max()))


def main(arguments: Sequence[str] | None = None) -> Result:
    """Measure, print, write."""
    options = parser("passes", __doc__)
    options.add_argument("--case", default="", help="only models whose name holds this")
    chosen = options.parse_args(arguments)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(30))
    rows, notes = list[Row](), list[str]()
    for name, policy in list(MODELS.items())[: 1 if chosen.quick else None]:
        if chosen.case not in name:
            continue
        with tempfile.TemporaryDirectory(prefix="headrace-passes-") as folder:
            line = Line(small_shop(Path(folder), warm_steps=1, policy=policy))
            rows += steps(line, name)
            if name == COMPILED and not chosen.quick:  # compiling alone takes its minute
                made, note = compiled(line, name, calls=5)
                rows.append(made)
                notes.append(note)
    return finish("passes", rows, chosen, notes)


if __name__ == "__main__":
    main()
