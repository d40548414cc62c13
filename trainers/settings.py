"""Settings of the learner and of the gate before serving. One field, one meaning; papers' values are named."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from schemas.errors import InvalidSetting
from trainers.identifiers.settings import IdentifierSettings
from trainers.policies.settings import PolicySettings, WarmStartSettings

Learner = Literal["tpma", "grpo", "dpo", "sft"]
PositionWeighting = Literal["paper", "after_norm"]
Gate = Literal["paper", "strict_prefix"]
Interaction = Literal["observed", "expected"]
Sampling = Literal["independent", "without_replacement"]
#: Examples held in memory before the learner's reading pauses.
QUEUE = 8192


class LossSettings(BaseModel):
    """What is minimised."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    learner: Learner = Field(
        "tpma", description="tpma (Eq. 19), grpo (Eq. 12), dpo (list-wise, V1 Eq. 11), or sft on the targets alone"
    )
    position_weighting: PositionWeighting = Field(
        "paper", description="paper: Eq. 15, where the z-score cancels w; after_norm: times w_l / mean(w)"
    )
    gate: Gate = Field("paper", description="paper: Eq. 16, matches per position; strict_prefix: while the prefix holds")
    gate_item_advantage: bool = Field(False, description="true: Eq. 19, the gate also multiplies the item advantage")
    w_item: float = Field(1.0, ge=0, le=100, description="weight of the item advantage (Eq. 17)")
    w_position: float = Field(1.0, ge=0, le=100, description="weight of the position advantage; 1 is Eq. 17")
    delta: float = Field(1e-6, gt=0, le=1, description="added to a group's standard deviation (Eq. 11, 15)")
    clip: float = Field(
        0.2,
        gt=0,
        lt=1,
        description="half width of GRPO's clipped ratio (Eq. 12), which is 1 here; for callers of `grpo_loss` with old_logp_BGL",
    )
    entropy: float = Field(
        2.0, ge=0, le=100, description="reward units per nat: rollouts are worth R - entropy * log pi; 0 is the paper"
    )
    kl: float = Field(
        0.0, ge=0, le=100, description="reward units per nat: rollouts lose kl * log(pi / pi of the warm start); 0 is off"
    )
    dpo_beta: float = Field(0.1, gt=0, le=100, description="nats of preference per nat gained on the warm start (dpo)")
    beta_sft: float = Field(0.1, ge=0, le=100, description="weight of the supervised term on the first target")
    sft: Literal["cross_entropy", "focal"] = Field(
        "cross_entropy", description="the supervised term; focal: what the model is sure of counts less (V2 Eq. 8)"
    )

    @property
    def needs_reference(self) -> bool:
        """Whether the rollouts are scored by the warm start too."""
        return self.learner == "dpo" or (self.kl > 0 and self.learner != "sft")


class BreakerSettings(BaseModel):
    """What the learner does when a window of its log is broken (docs/trainers.md)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    on_broken: Literal["hold", "skip_window"] = Field(
        "hold", description="hold: no step until a window is healthy again; skip_window: go on without the broken one"
    )
    unjudged: Literal["learn", "wait"] = Field(
        "learn", description="examples of a window without a verdict; wait: nothing broken is learned, up to a window later"
    )


class GuardSettings(BaseModel):
    """Bounds of the learner's health; beyond one, checkpoints are kept but not published (`trainers.guards`)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    on_alarm: Literal["hold", "roll_back"] = Field(
        "hold",
        description="hold: steps go on, nothing is published; roll_back: they go on from the checkpoint promoted last",
    )
    steps: int = Field(20, ge=2, le=10_000, description="last steps that are looked at")
    most_certain: float = Field(
        0.9, gt=0, le=1, description="entropy_collapse: exp(-nats of all levels), at most; 1 is one identifier a prompt"
    )
    reward_jump: float = Field(
        6.0, gt=0, le=1e6, description="reward_jump: move of the mean reward within the last steps, in standard deviations"
    )
    max_lag: int = Field(100_000, ge=1, description="lag: examples that wait for the learner")
    max_left_out: int = Field(
        50, ge=1, le=1_000_000, description="not_finite: steps in a row without an update, beyond which the learner stops"
    )


#: What the preset ``paper`` sets where nothing else is said: V2's loss and reward, and nothing of ours beside them.
PAPER: Mapping[str, Any] = {
    "interaction": "observed",
    "warm_start_weight": 0.0,
    "served_share": 1.0,
    "loss": {"gate_item_advantage": True, "entropy": 0.0, "kl": 0.0},
}


class LearnerSettings(BaseModel):
    """The continuous learner."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    preset: Literal["headrace", "paper"] = Field(
        "headrace", description="defaults of the fields below; paper: those of OneSearch-V2"
    )
    loss: LossSettings = Field(LossSettings(), description="the objective")
    temperature: float = Field(
        1.0, gt=0, le=100, description="logits are divided by it; the tempered policy is sampled and is what is trained"
    )
    interaction: Interaction = Field(
        "expected",
        description="R_co of a rollout; observed: clicked in this view or not; expected: chance of a click if examined",
    )
    group: int = Field(16, ge=2, le=1024, description="rollouts per prompt, G")
    sampling: Sampling = Field(
        "independent",
        description="of a group's rollouts; without_replacement: G different ones, each counted by its chance to be drawn",
    )
    rollout_temperature: float = Field(
        1.0,
        gt=0,
        le=100,
        description="rollouts are drawn at this times the temperature; each then counts by its chance under the policy over that",
    )
    prompts: int = Field(16, ge=1, le=4096, description="page views per step, B")
    micro_batch: int = Field(
        0, ge=0, le=4096, description="prompts of a forward and backward pass, whose gradients add up; 0: all of the step's"
    )
    fresh_share: float = Field(
        0.25, gt=0, le=1, description="share of a step's prompts that are new views; the rest: window"
    )
    window_size: int = Field(4096, ge=1, le=10_000_000, description="recent views kept for revisiting with fresh rollouts")
    catalogue_every_s: float = Field(
        10.0, ge=0, le=86_400, description="least seconds between two looks at new, moved and removed items"
    )
    max_backlog: int = Field(
        256,
        ge=1,
        le=1_000_000,  # what a journal may tell of; `TrainerSettings` wants less
        description=f"fresh views waiting beyond which the surplus goes to the window; at most {QUEUE}, as no more wait in memory",
    )
    wait_s: float = Field(1.0, ge=0, le=3600, description="seconds to wait for fresh views before a step on what there is")
    idle_steps: int = Field(8, ge=0, le=1_000_000, description="steps in a row without a fresh view before waiting for one")
    served_share: float = Field(
        0.75,
        gt=0,
        le=1,
        description="share of the learned in each served weight, the rest is the warm start's; 1: as learned",
    )
    absorb_half_life: float = Field(
        200.0, gt=0, le=1e6, description="steps in which half of a change of the weights sinks into the policy"
    )
    learning_rate: float = Field(6e-4, gt=0, le=1, description="of AdamW")
    weight_decay: float = Field(0.0, ge=0, le=1, description="of AdamW")
    max_grad_norm: float = Field(1.0, gt=0, le=1e6, description="the gradient is scaled down to this norm")
    warm_start_weight: float = Field(1.0, ge=0, le=100, description="weight of the warm-start batch in every update")
    warm_start_batch: int = Field(32, ge=1, le=4096, description="warm-start pairs mixed into every update")
    learn_from_ms: int = Field(
        0, ge=0, description="event time, ms; views before it are read over: the warm start has learned from them"
    )
    held_out_share: float = Field(0.05, ge=0, lt=1, description="share of views never trained on, by hash of request_id")
    held_out_size: int = Field(512, ge=2, le=100_000, description="held-out views kept for the gate, the newest ones")
    whereabouts_every_steps: int = Field(
        10,
        ge=0,
        le=10_000_000,
        description="steps between two looks at the policy's distance from its warm start and its share of "
        "identifiers among unconstrained decodes, each some 0.3 of a step's time; 0: never",
    )
    checkpoint_every_steps: int = Field(200, ge=1, le=10_000_000, description="steps between checkpoints, at most")
    checkpoint_every_s: float = Field(15.0, gt=0, le=86_400, description="wall seconds between checkpoints, at most")
    keep_checkpoints: int = Field(
        50,
        ge=2,
        description="newest checkpoints kept whole, beside the first and the last ones promoted; of others the manifest",
    )
    seed: int = Field(0, ge=0, le=2**63 - 1, description="of every draw, together with the step number")
    threads: int = Field(1, ge=1, le=256, description="torch threads; resuming bit-identically needs the same number")
    breaker: BreakerSettings = Field(BreakerSettings(), description="when the log is broken")
    guards: GuardSettings = Field(GuardSettings(), description="when the learner itself is not well")
    precision: Literal["fp32", "bf16"] = Field(
        "fp32",
        description="of the products in rollouts and passes; bf16: by autocast; weights, optimiser, losses stay float32",
    )
    sharded: bool = Field(
        False,
        description="several ranks divide weights and moments among them (FSDP2); from the next start on, same weights",
    )
    ranks_timeout_s: float = Field(
        600.0, gt=0, le=86_400, description="longest that a rank waits for another; longer than the gate takes"
    )
    metrics_port: int = Field(0, ge=0, le=65_535, description="Prometheus port, 0 for none")
    metrics_host: str = Field(
        "127.0.0.1", min_length=1, description="address that port listens on; 0.0.0.0 for every interface"
    )

    @model_validator(mode="before")
    @classmethod
    def _under_preset(cls, given: Any) -> Any:
        if not isinstance(given, Mapping) or given.get("preset") != "paper":
            return given
        loss = given.get("loss", {})
        return {**PAPER, **given, "loss": {**PAPER["loss"], **loss} if isinstance(loss, Mapping) else loss}

    @model_validator(mode="after")
    def _one_chance_each(self) -> Self:
        if self.sampling == "without_replacement" and self.rollout_temperature != 1:
            raise InvalidSetting(
                "setting trainers.learner.rollout_temperature", self.rollout_temperature,
                "1 where sampling is without_replacement, whose rollouts count by their own chances", "set one of the two back",
            )  # fmt: skip
        return self


class GateSettings(BaseModel):
    """The gate between a candidate and the search server."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    views: int = Field(96, ge=2, le=100_000, description="newest held-out views that are compared")
    min_views: int = Field(24, ge=2, le=100_000, description="fewer held-out views than this: the served one stays")
    k: int = Field(10, ge=1, le=1000, description="items of a list that count")
    beam: int = Field(32, ge=1, le=512, description="identifiers found per view, of which the first k of the page count")
    margin: float = Field(0.02, ge=0, le=1, description="share of the served mean that the interval's low end may lose")
    repeats: int = Field(1000, ge=100, le=1_000_000, description="bootstrap repeats")
    batch: int = Field(32, ge=1, le=4096, description="views per beam search")


class TrainerSettings(BaseModel):
    """Everything of this room."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    identifiers: IdentifierSettings = Field(IdentifierSettings(), description="how identifiers are made")
    policy: PolicySettings = Field(PolicySettings(), description="size and prompt of a policy made from scratch")
    warm_start: WarmStartSettings = Field(WarmStartSettings(), description="supervised training before the stream")
    learner: LearnerSettings = Field(LearnerSettings(), description="the continuous learner")
    gate: GateSettings = Field(GateSettings(), description="the gate between a candidate and the search server")

    @model_validator(mode="after")
    def _the_backlog_can_be_reached(self) -> Self:
        if self.learner.max_backlog > QUEUE:
            raise InvalidSetting(
                "setting trainers.learner.max_backlog", self.learner.max_backlog,
                f"at most {QUEUE}: reading pauses while so many examples wait, so more would never act", "lower it",
            )  # fmt: skip
        return self

    @model_validator(mode="after")
    def _two_passes_differ(self) -> Self:
        if self.warm_start.r_drop and not self.policy.dropout:
            bound = "0 where trainers.policy.dropout is 0: both passes would be one"
            raise InvalidSetting("setting trainers.warm_start.r_drop", self.warm_start.r_drop, bound, "set one of the two")
        return self

    @model_validator(mode="after")
    def _the_gate_can_open(self) -> Self:
        if self.learner.held_out_share == 0:
            raise InvalidSetting(
                "setting trainers.learner.held_out_share",
                0.0,
                "above 0: the gate promotes nothing without such views",
                "raise it",
            )
        most = min(self.gate.views, self.learner.held_out_size)
        if self.gate.min_views > most:
            raise InvalidSetting(
                "setting trainers.gate.min_views", self.gate.min_views,
                f"at most {most}, the lesser of gate.views and learner.held_out_size: no more are ever compared, so nothing would be "
                "promoted", "lower it, or raise these",
            )  # fmt: skip
        return self
