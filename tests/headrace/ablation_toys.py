"""A very small shop to ablate in: what a test of the harness shares with the next."""

from __future__ import annotations

from headrace.ablation.settings import NOW_MS, LoopSettings
from headrace.settings import Settings

#: Twelve steps, four of them to a publication.
LOOP = LoopSettings(requests=48, step_every=4, publish_every=4, block=6, withheld_share=0.15, probes=12)


def small_settings(seed: int = 7) -> Settings:
    """A shop of 240 items with a model to its size; it is prepared in a few seconds."""
    return Settings.model_validate(
        {
            "now_ms": NOW_MS, "seed": seed,
            "shop": {
                "seed": seed, "items": 240, "users": 40, "queries": 40, "history_impressions": 300, "live_requests": 60,
                "live_days": 2.0, "history_days": 2.0, "new_item_share": 0.1, "new_query_share": 0.2,
            },
            "reward": {
                "relevance": {"epochs": 5, "min_judgments": 50}, "posterior": {"snapshot_every_s": 10_800, "bucket_s": 21_600},
            },
            "serving": {"engine": {"seed": seed, "beam": 20}},
            "trainers": {
                "identifiers": {"iterations": 4, "opq_iterations": 2},
                "policy": {"text_vocabulary": 400, "d_model": 32, "ffn": 64, "encoder_layers": 1, "decoder_layers": 1},
                "warm_start": {"steps": 30, "seconds": 0, "batch": 32},
                "learner": {
                    "seed": seed, "prompts": 4, "group": 4, "warm_start_batch": 8, "held_out_share": 0.3, "held_out_size": 32,
                },
                "gate": {"views": 8, "min_views": 2, "beam": 10, "repeats": 100},
            },
        }
    )  # fmt: skip
