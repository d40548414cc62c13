"""Settings of the reward plane: relevance, posterior CTR, the score by which the server orders, and who decides."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class RelevanceSettings(BaseModel):
    """The relevance scorer: how it is trained and checked."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = Field(default="", description="folder of a sentence model (MiniLM layout); empty: the one in the wheel")
    hidden: int = Field(default=48, ge=4, le=1024, description="units of the scorer's hidden layer")
    loss: Literal["ranked", "nominal"] = Field(
        default="ranked",
        description="what training minimises: `ranked` knows that tiers are ordered, `nominal` is cross-entropy",
    )
    epochs: int = Field(default=150, ge=1, le=1000, description="passes over the judgments, at most")
    penalty: float = Field(default=3e-3, ge=0, le=10, description="squared-weight penalty of the scorer")
    random_share: float = Field(
        default=0.1,
        ge=0,
        le=10,
        description="random pairs taken as irrelevant in fitting, per judgment; judges see few",
    )
    test_share: float = Field(default=0.15, gt=0, lt=0.5, description="share of judged queries held out for the report")
    tune_share: float = Field(default=0.15, gt=0, lt=0.5, description="share of judged queries that calibrate and choose")
    min_judgments: int = Field(default=200, ge=20, description="fewer judgments than this cannot train a scorer")
    cached_queries: int = Field(
        default=50_000, ge=1, le=5_000_000, description="queries whose words and vector stay in memory"
    )
    endpoint: str = Field(
        default="", description="http address of a relevance model that is asked instead of training one; empty: train"
    )
    endpoint_batch: int = Field(default=64, ge=1, le=10_000, description="pairs in one question to the endpoint, at most")
    endpoint_timeout_s: float = Field(default=30.0, gt=0, le=3600, description="s that the endpoint may take for an answer")


class PosteriorSettings(BaseModel):
    """Position-debiased, decayed counts and the empirical-Bayes CTR made from them: a mean that few
    observations move little."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    half_life_days: float = Field(
        default=7.0, gt=0, le=3650, description="days of event time after which evidence weighs half"
    )
    kept_half_lives: int = Field(
        default=10, ge=1, le=60, description="half-lives after which a bucket is forgotten: it weighs 2 to the minus this"
    )
    max_pairs: int = Field(
        default=2_000_000,
        ge=1,
        le=1_000_000_000,
        description="(query, item) pairs kept apart; beyond it those with the least evidence merge into their items",
    )
    position_power: float = Field(
        default=0.85, ge=0, le=4, description="where the examination of position k starts from: k ** -power"
    )
    examination_positions: int = Field(
        default=100, ge=1, le=10_000, description="positions whose examination is estimated; later ones follow the power"
    )
    examination_prior: float = Field(
        default=60.0, gt=0, le=1e9, description="clicks, were all examined, that the start holds at each position"
    )
    bucket_s: int = Field(
        default=21_600, ge=1, le=2_592_000, description="s of event time that share one age; fixed for the life of a run"
    )
    snapshot_every_s: int = Field(default=21_600, ge=1, le=2_592_000, description="s of event time between two snapshots")
    sid_levels: int = Field(
        default=2,
        ge=0,
        le=8,
        description="levels of an item's identifier that make its prefix, between item and whole; 0: none",
    )
    prior_ctr: float = Field(default=0.05, gt=0, lt=1, description="CTR before any evidence")
    prior_mass: float = Field(
        default=1.0, gt=0, le=1e6, description="examined positions that prior_ctr counts for once there is evidence"
    )
    prior_strength: float = Field(
        default=10.0, gt=0, le=1e6, description="strength of a level's prior before any evidence, examined positions"
    )
    prior_strength_spread: float = Field(
        default=0.3, gt=0, le=100, description="relative spread that the fit grants 1 / (1 + prior_strength)"
    )
    strength_low: float = Field(default=0.5, gt=0, le=1e6, description="least strength a fit may give a level's prior")
    strength_high: float = Field(
        default=2_000.0, gt=0, le=1e9, description="greatest strength a fit may give a level's prior"
    )
    calibration_bins: int = Field(default=32, ge=2, le=1000, description="bins of predicted CTR, equal in log scale")
    calibration_snapshots: int = Field(
        default=28, ge=1, le=10_000, description="snapshots whose outcomes the calibrator sees"
    )
    calibration_prior: float = Field(default=500.0, gt=0, le=1e9, description="examined positions of identity in each bin")
    corrector_snapshots: int = Field(
        default=2,
        ge=1,
        le=10_000,
        description="newest snapshots whose clicks the fast corrector compares with what was said",
    )
    corrector_bound: float = Field(
        default=1.5,
        ge=1,
        le=100,
        description="factor by which the corrector moves a CTR at most, up or down; 1 turns it off",
    )


class ServingScoreSettings(BaseModel):
    """How the active weights act on what the server found: total = log-prob + weighted components."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    relevance_scale: float = Field(default=8.0, ge=0, le=1000, description="nats per unit of weight and tier")
    ctr_scale: float = Field(default=4.0, ge=0, le=1000, description="nats per unit of weight and log CTR")
    multiplier_scale: float = Field(default=4.0, ge=0, le=1000, description="nats per unit of a campaign's log multiplier")
    uptake_scale: float = Field(
        default=0.4,
        ge=0,
        le=1000,
        description="nats per unit of reward that a policy takes up of a change; the learner's 1 / entropy at most",
    )


class PreviewSettings(BaseModel):
    """What a change of the weights would do, and what it has done."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    examples: int = Field(default=10_000, ge=1, le=200_000, description="newest stored examples that a preview runs over")
    repeats: int = Field(default=400, ge=100, le=100_000, description="bootstrap repeats of an interval")
    least_effective: float = Field(
        default=200.0, ge=1, le=1e9, description="effective pages below which an estimate is said to be thin"
    )
    most_of_one: float = Field(
        default=0.05, gt=0, le=1, description="share of the weights that one page may have before that is said"
    )
    moves: int = Field(default=8, ge=1, le=1_000, description="queries and categories listed as gaining and as losing")
    least_users: int = Field(
        default=100, ge=2, le=1_000_000_000, description="users on either side below which an effect is said to be early"
    )
    split_p: float = Field(
        default=0.001, gt=0, lt=1, description="the split of users is said to be broken when chance gives it less than this"
    )
    seed: int = Field(default=0, ge=0, le=2**63 - 1, description="of the bootstrap's draws")


class DeskSettings(BaseModel):
    """How the reward is decided."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    four_eyes: bool = Field(default=False, description="what one person drafts another, an approver, lets act")
    min_relevance_share: float = Field(
        default=0.1, ge=0, lt=1, description="least share of an item's reward that full relevance must be able to decide"
    )
    segments: tuple[str, ...] = Field(default=(), description="user segments that a scope may name; empty: any")
    markets: tuple[str, ...] = Field(default=(), description="markets that a scope may name; empty: any")


class RewardSettings(BaseModel):
    """Everything of `reward`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    relevance: RelevanceSettings = Field(default=RelevanceSettings(), description="relevance tiers")
    posterior: PosteriorSettings = Field(default=PosteriorSettings(), description="posterior CTR")
    serving: ServingScoreSettings = Field(default=ServingScoreSettings(), description="order of a page")
    preview: PreviewSettings = Field(default=PreviewSettings(), description="previews and effects of changes")
    desk: DeskSettings = Field(default=DeskSettings(), description="decisions about the reward")
