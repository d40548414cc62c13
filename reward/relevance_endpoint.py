"""A relevance model behind an HTTP endpoint: a cross-encoder, a language model, anything that answers a batch of pairs.

`POST url` with ``{"pairs": [{"query", "item": {"id", "title", "category", "brand", "attributes"}}, ...]}`` is answered by
``{"version": "...", "p": [[p0, p1, p2, p3], ...]}``: the probability of each tier, a row a pair, in order. An empty batch
asks for the version alone.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Final

import httpx
import msgspec
import numpy as np
from numpy.typing import NDArray

from reward.judgments import TIERS
from reward.relevance_features import Features
from reward.settings import RelevanceSettings
from schemas.catalogue import Catalogue
from schemas.errors import Incompatible, InvalidSetting, Unavailable

#: Answers kept: the same pair is not asked twice by a process.
CACHED_PAIRS: Final = 200_000
#: A probability below this is taken as this; a model that only names a tier says 0 of the others.
LEAST: Final = 1e-4
#: How far the probabilities of a pair may be from summing to 1.
SLACK: Final = 1e-3

Ints = NDArray[np.int64]


class Endpoint(msgspec.Struct, frozen=True, tag="endpoint"):
    """Where the model is asked. ``version`` is what it called itself when its tiers were calibrated."""

    url: str
    version: str
    batch: int
    timeout_s: float


class _Answer(msgspec.Struct):
    version: str
    p: list[list[float]]


class EndpointScorer:
    """`reward.relevance_scorer.PairScorer` over an endpoint.

    Raises:
        Unavailable: it does not answer in time, with an error, or not as documented: no fault of whoever searches.
        Incompatible: another model answers than the one that was calibrated.
    """

    def __init__(self, endpoint: Endpoint, catalogue: Catalogue) -> None:
        self.endpoint, self._catalogue = endpoint, catalogue
        self._client = httpx.Client(timeout=endpoint.timeout_s)
        self._known: OrderedDict[tuple[str, int], NDArray[np.float64]] = OrderedDict()

    @classmethod
    def connect(cls, settings: RelevanceSettings, catalogue: Catalogue) -> EndpointScorer:
        """The scorer of the model that answers now.

        Raises:
            InvalidSetting: the address holds a password, which would be kept in the artefact for all to read.
        """
        if "@" in settings.endpoint:
            remedy = "put a proxy that knows the password before the model"
            raise InvalidSetting("reward.relevance.endpoint", "(not shown)", "an address without user and password", remedy)
        asked = Endpoint(settings.endpoint, "", settings.endpoint_batch, settings.endpoint_timeout_s)
        answer = cls(asked, catalogue)._post([])
        if not answer.version:
            raise _malformed(settings.endpoint, "version", "", "a text that is not empty")
        return cls(msgspec.structs.replace(asked, version=answer.version), catalogue)

    def over(self, catalogue: Catalogue, features: Features) -> EndpointScorer:
        """See `reward.relevance_scorer.PairScorer.over`; the items' texts are sent as they are now."""
        return EndpointScorer(self.endpoint, catalogue)

    def logits(self, queries: Sequence[str], which_P: Ints, rows_P: Ints) -> NDArray[np.float64]:
        """See `PairScorer.logits`: logarithms of the probabilities."""
        pairs = [(queries[u], row) for u, row in zip(which_P.tolist(), rows_P.tolist(), strict=True)]
        found = {pair: self._known[pair] for pair in pairs if pair in self._known}
        fresh = list(dict.fromkeys(pair for pair in pairs if pair not in found))
        for start in range(0, len(fresh), self.endpoint.batch):
            batch = fresh[start : start + self.endpoint.batch]
            found.update(zip(batch, self._ask(batch), strict=True))
        self._known.update((pair, found[pair]) for pair in fresh)
        while len(self._known) > CACHED_PAIRS:
            self._known.popitem(last=False)
        return np.array([found[pair] for pair in pairs]).reshape(len(pairs), TIERS)

    def _ask(self, pairs: Sequence[tuple[str, int]]) -> NDArray[np.float64]:
        answer, url = self._post([{"query": query, "item": self._item(row)} for query, row in pairs]), self.endpoint.url
        if answer.version != self.endpoint.version:
            remedy = "start that model again, or calibrate this one with `headrace relevance train`"
            raise Incompatible(f"model behind {url}", self.endpoint.version, answer.version, remedy)
        if len(answer.p) != len(pairs):
            raise _malformed(url, "rows of p", len(answer.p), f"{len(pairs)}, one a pair")
        for n, row in enumerate(answer.p):
            # Written so that NaN, which is neither above nor below anything, does not pass.
            if not (len(row) == TIERS and all(p >= 0 for p in row) and abs(sum(row) - 1) <= SLACK):
                raise _malformed(url, f"p[{n}]", row, f"{TIERS} probabilities that sum to 1")
        logit_PT: NDArray[np.float64] = np.log(np.maximum(np.array(answer.p), LEAST))
        return logit_PT

    def _item(self, row: int) -> dict[str, Any]:
        c = self._catalogue
        fields = {"id": c.items[row], "title": c.titles[row], "category": c.categories[row], "brand": c.brands[row]}
        return {**fields, "attributes": c.attributes[row]}

    def _post(self, pairs: list[dict[str, Any]]) -> _Answer:
        url = self.endpoint.url
        try:
            response = self._client.post(url, json={"pairs": pairs})
        except httpx.TimeoutException as error:
            detail = f"no answer to {len(pairs)} pairs within {self.endpoint.timeout_s:g} s"
            remedy = "raise reward.relevance.endpoint_timeout_s or lower reward.relevance.endpoint_batch"
            raise Unavailable(f"relevance endpoint {url}", detail, remedy) from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise Unavailable(f"relevance endpoint {url}", str(error), "start the model, or correct the address") from error
        if response.status_code != httpx.codes.OK:
            detail = f"HTTP {response.status_code}: {response.text[:200]}"
            raise Unavailable(f"relevance endpoint {url}", detail, "read the model's own log")
        try:
            return msgspec.json.decode(response.content, type=_Answer)
        except msgspec.DecodeError as error:
            raise _malformed(url, "body", response.text[:60], f"the documented JSON ({error})") from error


def _malformed(url: str, field: str, value: object, bound: str) -> Unavailable:
    detail = f"{field} of its answer is {str(value)[:200]!r}, must be {bound}"
    return Unavailable(f"relevance endpoint {url}", detail, "docs/reward.md has the form")
