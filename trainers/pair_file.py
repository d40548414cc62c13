"""The warm start's pairs as a file in the store, so that the learner can mix them into its updates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import zstandard

from schemas.errors import Corrupt
from schemas.store import Store
from trainers.pairs import Pair, PairSampler


class _Source(msgspec.Struct, frozen=True):
    share: float
    pairs: list[Pair]


def path_of(warm_start: str) -> str:
    """One file for each warm start: a line of training goes on with the pairs that it began with."""
    return f"warm_start/pairs-{warm_start}.msgpack.zst"


def save_pairs(store: Store, warm_start: str, sources: Mapping[str, Sequence[Pair]], shares: Mapping[str, float]) -> str:
    """Write the sources of pairs of this checkpoint with their shares; returns the sha256."""
    plain = {name: _Source(shares[name], list(pairs)) for name, pairs in sorted(sources.items())}
    return store.write(path_of(warm_start), zstandard.ZstdCompressor().compress(msgspec.msgpack.encode(plain)))


def load_sampler(store: Store, warm_start: str, seed: int) -> PairSampler:
    """A sampler over the stored pairs of this checkpoint.

    Raises:
        Unavailable: none were saved.
        Corrupt: the file does not have this form.
        InvalidValue: it holds no pair.
    """
    path = path_of(warm_start)
    data = store.read(path)
    try:
        plain = msgspec.msgpack.decode(zstandard.ZstdDecompressor().decompress(data), type=dict[str, _Source])
    except (msgspec.DecodeError, zstandard.ZstdError) as error:
        raise Corrupt(f"{store.url}/{path}", str(error), "run the warm start again") from error
    sources = {name: source.pairs for name, source in plain.items()}
    return PairSampler(sources, {name: source.share for name, source in plain.items()}, seed)
