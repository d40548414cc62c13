"""Settings of the policy: its prompt, its size, and its warm start."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from schemas.errors import InvalidSetting


class PromptSettings(BaseModel):
    """What enters a prompt. The query comes first and keeps its room; history gets what is left."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    query_tokens: int = Field(
        default=200,
        ge=4,
        le=1_024,
        description="text pieces kept of the query; the default holds whatever the server lets through",
    )
    recent_queries: int = Field(default=2, ge=0, le=16, description="recent queries in the prompt, newest first")
    recent_query_tokens: int = Field(default=8, ge=1, le=64, description="text pieces kept of each recent query")
    recent_items: int = Field(default=3, ge=0, le=32, description="recent clicked items in the prompt, as identifiers")
    long_history: bool = Field(
        default=False, description="clicked, ordered and related items as three vectors, the sums of their centroids"
    )
    lexical_items: int = Field(
        default=0, ge=0, le=32, description="items that share most words with the query (BM25), as identifiers"
    )
    dense_query: bool = Field(default=True, description="the query's sentence embedding as a vector")
    cache: int = Field(default=20_000, ge=0, description="queries whose pieces, identifier and embedding are kept in memory")

    def longest(self, levels: int) -> int:
        """Most tokens a prompt can have, for identifiers of that many levels."""
        history = self.recent_queries * (self.recent_query_tokens + 1) + (self.recent_items + self.lexical_items) * levels
        slots = 4 if self.long_history else 1
        return slots + levels + self.query_tokens + bool(self.lexical_items) + history + 1


class PolicySettings(BaseModel):
    """Backbone and size of a policy made from scratch. ``dropout`` acts in supervised training only."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    backbone: Literal["bart", "gpt2", "qwen3"] = Field(
        default="bart", description="`bart` reads and writes with layers of their own; `gpt2`, `qwen3` are decoder-only"
    )
    pretrained: str = Field(
        default="",
        description="folder of a pretrained model, as from_pretrained reads it; backbone, sizes and text pieces are then its own",
    )
    text_vocabulary: int = Field(default=4_000, ge=300, le=200_000, description="text pieces of the tokenizer, at most")
    d_model: int = Field(default=128, ge=8, le=8_192, description="hidden width, a multiple of heads")
    encoder_layers: int = Field(default=2, ge=1, le=128, description="layers that read the prompt; `bart` alone has them")
    decoder_layers: int = Field(
        default=2, ge=1, le=128, description="layers that write identifiers; all layers of a decoder-only model"
    )
    ffn: int = Field(default=256, ge=8, le=65_536, description="width of the feed-forward part")
    heads: int = Field(default=4, ge=1, le=128, description="attention heads")
    kv_heads: int = Field(
        default=0,
        ge=0,
        le=128,
        description="heads of keys and values, a divisor of heads; 0: as many; `qwen3` alone has fewer",
    )
    dropout: float = Field(default=0.0, ge=0, lt=1, description="share of activations dropped in supervised training")
    init_std: float = Field(default=0.02, gt=0, le=1, description="standard deviation of fresh embeddings and weights")
    threads: int = Field(
        default=1, ge=1, le=256, description="threads torch computes with; results repeat for the same number"
    )
    prompt: PromptSettings = PromptSettings()

    @model_validator(mode="after")
    def _heads_divide(self) -> PolicySettings:
        if self.d_model % self.heads:
            raise InvalidSetting("d_model", self.d_model, f"a multiple of heads ({self.heads})", "change one of them")
        if self.backbone == "qwen3" and self.d_model // self.heads % 2:
            raise InvalidSetting(
                "d_model / heads", self.d_model // self.heads, "even: positions turn pairs", "change one of them"
            )
        if self.kv_heads and (self.heads % self.kv_heads or (self.backbone != "qwen3" and self.kv_heads != self.heads)):
            bound = f"a divisor of heads ({self.heads})" if self.backbone == "qwen3" else f"0 with {self.backbone}"
            raise InvalidSetting("kv_heads", self.kv_heads, bound, "change it, or set 0")
        return self


class WarmStartSettings(BaseModel):
    """Supervised training before the stream. It ends at whichever of ``seconds`` and ``steps`` comes first."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seconds: float = Field(default=60.0, ge=0, description="wall seconds, 0 for no limit (then the result repeats exactly)")
    steps: int = Field(default=0, ge=0, description="updates, 0 for no limit")
    batch: int = Field(default=64, ge=1, le=8_192, description="pairs in an update")
    learning_rate: float = Field(default=2e-3, gt=0, le=1, description="peak rate of AdamW")
    warm_up: float = Field(default=0.05, ge=0, le=1, description="share of the budget in which the rate rises to its peak")
    weight_decay: float = Field(default=0.01, ge=0, le=1, description="AdamW's decay, per unit of rate")
    clip: float = Field(default=1.0, gt=0, description="largest norm of the gradient")
    label_smoothing: float = Field(default=0.0, ge=0, lt=1, description="share of the target spread over the vocabulary")
    loss: Literal["cross_entropy", "focal"] = Field(
        default="cross_entropy", description="focal: Eq. 8 with alpha 2, gamma 3; what the model is sure of counts less"
    )
    distillation: float = Field(
        default=0.0,
        ge=0,
        le=100,
        description="a_KL of Eq. 8, from the prompt with keywords to that without; 0: none, paper 0.1",
    )
    distillation_tau: float = Field(default=1.0, gt=0, le=100, description="temperature of teacher and student")
    told: float = Field(
        default=0.0,
        ge=0,
        le=100,
        description="weight of the cross-entropy under the prompt with keywords, beside Eq. 8; 0: none",
    )
    r_drop: float = Field(
        default=0.0, ge=0, le=100, description="a_R of Eq. 8, for two passes with other dropout; 0: none, paper 0.5"
    )
    adversarial: float = Field(
        default=0.0, ge=0, le=100, description="epsilon of Eq. 7, the norm by which embeddings are moved; 0: none, paper 0.6"
    )
    report_every: int = Field(default=20, ge=1, description="updates between calls of the progress function")

    @property
    def teaches(self) -> bool:
        """Whether prompts with keywords take part."""
        return self.distillation > 0 or self.told > 0

    @model_validator(mode="after")
    def _bounded(self) -> WarmStartSettings:
        if self.seconds == 0 and self.steps == 0:
            raise InvalidSetting("seconds and steps", (0, 0), "not both 0", "give the warm start an end")
        if self.loss == "focal" and self.label_smoothing:
            bound = "0 with the focal loss, which goes by the target's own probability"
            raise InvalidSetting(
                "setting trainers.warm_start.label_smoothing", self.label_smoothing, bound, "set one of the two back"
            )
        return self
