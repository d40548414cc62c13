"""How good a relevance scorer is on judged queries that it never saw, beside two simple ones."""

from __future__ import annotations

import math

import msgspec


class Borders(msgspec.Struct, frozen=True):
    """The three borders between tiers that agree best with the judgments not held out."""

    bm25: tuple[float, ...]
    cosine: tuple[float, ...]


class RelevanceReport(msgspec.Struct, frozen=True, omit_defaults=True):
    """Held-out agreement with judgments. Kappa is quadratic: 1 agreement, 0 chance. Prints as one sentence."""

    trained: bool  #: False: too few judgments, tiers go by cosine alone and nothing below is measured
    judgments: int
    queries: int
    test_judgments: int
    kappa: float
    accuracy: float
    log_loss: float  #: nats a judgment
    calibration_error: float  #: expected |confidence - accuracy| over ten bins
    kappa_bm25: float  #: best thresholds on BM25
    kappa_cosine: float  #: best thresholds on the embeddings' cosine
    confusion: tuple[tuple[int, ...], ...]  #: [true tier][predicted tier]
    textless: bool = False  #: True: not trained, and the titles tell items apart by their ids alone: every tier is 0
    gain_bm25: tuple[float, float] = (0.0, 0.0)  #: 95 % interval of kappa - kappa_bm25, paired, queries resampled
    gain_cosine: tuple[float, float] = (0.0, 0.0)  #: the same of kappa - kappa_cosine
    tier_calibration_error: float = 0.0  #: as calibration_error, of each tier's own probability; mean of the four
    reliability: tuple[tuple[float, float, int], ...] = ()  #: (mean confidence, accuracy, judgments) of each bin

    @property
    def doubt(self) -> str:
        """Why the tiers are to be taken as a guess; empty when the scorer beats both simple ones and chance.

        By chance kappa strays from 0 by about 1 / sqrt(n) on n held-out judgments; twice that is asked.
        """
        if not self.trained:
            return f"{str(self)[:1].upper()}{str(self)[1:]}."
        if self.kappa <= max(2 / math.sqrt(self.test_judgments), self.kappa_bm25, self.kappa_cosine):
            return f"A weak relevance scorer: {self}. Take its tiers as a guess."
        return ""

    def __str__(self) -> str:
        if self.textless:
            return f"no relevance: {self.judgments} judgments, and titles that say nothing but an id; every tier is 0"
        if not self.trained:
            return f"relevance by cosine alone: {self.judgments} judgments are too few to train a scorer"
        return (
            f"relevance kappa {self.kappa:.3f}, accuracy {self.accuracy:.1%} on {self.test_judgments} held-out judgments "
            f"(BM25 {self.kappa_bm25:.3f}, cosine {self.kappa_cosine:.3f})"
        )
