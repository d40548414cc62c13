"""What a relevance scorer is: our network, a cross-encoder or a language model behind an endpoint, or yours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from reward.relevance_features import Features
from reward.relevance_network import Network
from schemas.catalogue import Catalogue

Ints = NDArray[np.int64]
Logits = NDArray[Any]

#: Pairs that our network scores at a time: bounds memory, not the result.
CHUNK = 1_024


class PairScorer(Protocol):
    """Logits of the four tiers for any pairs of one catalogue. Calibration, judgments and the report are not its business.

    The same pair gets the same logits (up to rounding) whenever it is asked, whatever else is asked with it: rebuilt topics
    and replayed steps stand on that.
    """

    def logits(self, queries: Sequence[str], which_P: Ints, rows_P: Ints) -> Logits:
        """logit_PT of the pairs (queries[which_P[p]], catalogue row rows_P[p]): finite, softmax of them the tiers' chances.

        Queries are distinct and normalised (`reward.text.normalise`). P may be 0.

        Raises:
            Unavailable: it cannot be asked now.
        """

    def over(self, catalogue: Catalogue, features: Features) -> PairScorer:
        """The same scorer over what its catalogue has become, whose features these are."""


class NetworkScorer:
    """The features of a pair, and a small network over them."""

    def __init__(self, features: Features, network: Network) -> None:
        self._features, self.network = features, network

    def logits(self, queries: Sequence[str], which_P: Ints, rows_P: Ints) -> Logits:
        """See `PairScorer.logits`."""
        logit_PT = np.empty((len(rows_P), self.network.bias_T.shape[0]), np.float32)
        for start in range(0, len(rows_P), CHUNK):
            part = slice(start, start + CHUNK)
            asked_U, which_C = np.unique(which_P[part], return_inverse=True)
            x_CF = self._features.of([queries[u] for u in asked_U], which_C, rows_P[part])
            logit_PT[part] = self.network.logits(x_CF)
        return logit_PT

    def over(self, catalogue: Catalogue, features: Features) -> NetworkScorer:
        """See `PairScorer.over`."""
        return NetworkScorer(features, self.network)
