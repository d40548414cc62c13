"""What self-distillation and its companions are worth (V2 Eq. 4 to 8): the same warm start with each and without.

Shop, clicks, metrics and intervals are those of `benchmarks.prompts`. All arms take the same number of updates, though an update with
all of them takes four passes; one arm takes twice as many, which is what an update with a second pass costs. Keywords are those of the
catalogue's own writer, as in `headrace prepare`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console

from benchmarks.common import parser
from benchmarks.prompts import Line, Values, compare, open_study, tell
from trainers.policies.settings import PolicySettings, WarmStartSettings

#: How many times as many updates, by arm; 1 where nothing stands here.
LONGER = {"twice the updates": 2}
#: Dropout and changes of the warm start's settings, by arm. The first one is compared with.
ARMS: dict[str, tuple[float, dict[str, Any]]] = {
    "cross-entropy": (0.0, {}),
    "twice the updates": (0.0, {}),
    "distillation 0.1": (0.0, {"distillation": 0.1}),
    "distillation 1": (0.0, {"distillation": 1.0}),
    "told 1": (0.0, {"told": 1.0}),
    "told 1, distillation 0.1": (0.0, {"told": 1.0, "distillation": 0.1}),
    "told 1, distillation 1": (0.0, {"told": 1.0, "distillation": 1.0}),
    "adversarial 0.6": (0.0, {"adversarial": 0.6}),
    "focal": (0.0, {"loss": "focal"}),
    "dropout 0.1": (0.1, {}),
    "dropout 0.1, R-Drop 0.5": (0.1, {"r_drop": 0.5}),
    "the paper's, all": (0.1, {"distillation": 0.1, "adversarial": 0.6, "loss": "focal", "r_drop": 0.5}),
}


def main(arguments: Sequence[str] | None = None) -> list[Line]:
    """Measure, print, write."""
    options = parser("distillation", __doc__)
    options.add_argument("--seeds", type=int, default=3, help="warm starts of each arm")
    options.add_argument(
        "--steps", type=int, default=900, help="updates of a warm start, 48 pairs each; of the demo's, some 60 s"
    )
    chosen = options.parse_args(arguments)
    study = open_study(chosen.quick)
    seeds, steps = (1, 20) if chosen.quick else (chosen.seeds, chosen.steps)
    runs: dict[str, list[Values]] = {arm: [] for arm in ARMS}
    console = Console(width=None if Console().is_terminal else 150)
    for seed in range(seeds):
        for arm, (dropout, changes) in ARMS.items():
            warm = WarmStartSettings(seconds=0, steps=steps * LONGER.get(arm, 1), batch=48, **changes)
            runs[arm].append(study.run(PolicySettings(dropout=dropout), warm, seed))
            means = {name: round(float(values.mean()), 4) for name, values in runs[arm][-1].items()}
            console.print(f"seed {seed}, {arm}: {means}", highlight=False)
    lines = compare(study, runs, "cross-entropy")
    tell("distillation", console, lines, chosen.json)
    return lines


if __name__ == "__main__":
    main()
