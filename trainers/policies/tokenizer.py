"""The vocabulary: text pieces (byte-level BPE trained on the shop's own text), then one token range per level.

Identifier tokens are written ``<a_12>``: the level's letter and the code. A level's tokens are consecutive, so that its
logits are one slice of the embedding matrix. Bytes are the alphabet, so that no text is ever unknown.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from schemas.errors import Corrupt, Incompatible, InvalidValue, Unavailable

ROLES = ("bos", "pad", "eos", "sep", "dense")
#: The tokens of the roles; a pretrained model brings some of its own.
SPECIAL = {role: f"<{role}>" for role in ROLES}
LETTERS = "abcdefghijklmnop"
#: Characters of a text that are looked at for each piece that may be kept of it: bounds the work.
LONGEST = 64


def sizes_in(vocabulary: Mapping[str, int]) -> tuple[int, ...]:
    """The level sizes of the identifier tokens in a vocabulary; empty where it has none."""
    found = []
    for letter in LETTERS:
        size = 0
        while f"<{letter}_{size}>" in vocabulary:
            size += 1
        if not size:
            break
        found.append(size)
    return tuple(found)


class PromptTokenizer:
    """Text and identifiers to token ids. ``level_start[l] + code`` is the token of a code at level l."""

    def __init__(self, backend: Tokenizer, level_sizes: Sequence[int], names: Mapping[str, str] = SPECIAL) -> None:
        """``names``: the token of each of `ROLES`."""
        self.backend, self.names = backend, dict(names)
        self.level_sizes = tuple(int(size) for size in level_sizes)
        self.bos, self.pad, self.eos, self.sep, self.dense = (self._id(self.names[role]) for role in ROLES)
        self.level_start = tuple(self._id(f"<{LETTERS[level]}_0>") for level in range(len(self.level_sizes)))
        for level, size in enumerate(self.level_sizes):
            last = self._id(f"<{LETTERS[level]}_{size - 1}>")
            if last != self.level_start[level] + size - 1:
                raise Corrupt("tokenizer.json", f"tokens of level {level} are not consecutive", "train the tokenizer again")

    @classmethod
    def train(cls, texts: Iterable[str], level_sizes: Sequence[int], vocabulary: int) -> PromptTokenizer:
        """Learn at most ``vocabulary`` text pieces; same texts in the same order, same tokenizer.

        Raises:
            InvalidValue: no level, or more levels than letters.
        """
        _check_levels(level_sizes)
        backend = Tokenizer(models.BPE())
        backend.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        backend.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=vocabulary,
            special_tokens=list(SPECIAL.values()),
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            min_frequency=2,
            show_progress=False,
        )
        backend.train_from_iterator(texts, trainer)
        _add_levels(backend, level_sizes)
        return cls(backend, level_sizes)

    @classmethod
    def extend(cls, backend: Tokenizer, names: Mapping[str, str], level_sizes: Sequence[int]) -> PromptTokenizer:
        """A pretrained model's tokenizer with identifier tokens behind its own, and those of `ROLES` that it lacks.

        ``names``: the tokens that it has for roles.

        Raises:
            InvalidValue: no level, or more levels than letters.
            Incompatible: a query could spell one of its special tokens.
        """
        _check_levels(level_sizes)
        loud = [t.content for t in backend.get_added_tokens_decoder().values() if _plain(t.content) == t.content]
        if loud:
            raise Incompatible("special tokens of the tokenizer", "each with a <", loud[:3], "use another pretrained model")
        backend.no_truncation()
        backend.no_padding()
        lacking = {role: SPECIAL[role] for role in ROLES if role not in names}
        backend.add_special_tokens(list(lacking.values()))
        _add_levels(backend, level_sizes)
        return cls(backend, level_sizes, {**names, **lacking})

    def __len__(self) -> int:
        return int(self.backend.get_vocab_size())

    def same_as(self, other: PromptTokenizer) -> bool:
        """Whether the other one writes every text and identifier as this one does."""
        return self is other or (self.level_sizes, self.names, self._written) == (
            other.level_sizes, other.names, other._written,
        )  # fmt: skip

    def text(self, text: str, limit: int) -> list[int]:
        """The first ``limit`` pieces. Text that spells a special or identifier token is read as plain text."""
        return self.shortened(text, limit)[0]

    def shortened(self, text: str, limit: int) -> tuple[list[int], bool]:
        """(what `text` of this limit gives, whether that leaves out the end of it)."""
        pieces = self._pieces(text[: LONGEST * limit])
        return pieces[:limit], len(pieces) > limit or len(text) > LONGEST * limit

    def sid(self, codes: Sequence[int]) -> list[int]:
        """One token per level."""
        return [start + int(code) for start, code in zip(self.level_start, codes, strict=True)]

    @cached_property
    def _written(self) -> str:
        return str(self.backend.to_str())

    def ids(self) -> dict[str, int]:
        """As a model's config.json names them."""
        return {"bos_token_id": self.bos, "pad_token_id": self.pad, "eos_token_id": self.eos}

    def save(self, folder: Path) -> None:
        """Write the two files that transformers' AutoTokenizer opens."""
        folder.mkdir(parents=True, exist_ok=True)
        self.backend.save(str(folder / "tokenizer.json"))
        names = {f"{role}_token": token for role, token in self.names.items() if role != "dense"}
        config = {"tokenizer_class": "PreTrainedTokenizerFast", "level_sizes": list(self.level_sizes), **names}
        (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1))

    @classmethod
    def load(cls, folder: Path) -> PromptTokenizer:
        """Read what `save` wrote.

        Raises:
            Unavailable: the files are not there.
            Corrupt: level sizes are missing or do not fit the vocabulary.
        """
        config = folder / "tokenizer_config.json"
        if not config.exists():
            raise Unavailable(str(config), "no such file", "use a folder that a policy was saved into")
        data = json.loads(config.read_text())
        sizes = data.get("level_sizes")
        if not sizes:
            raise Corrupt(str(config), "level_sizes is missing", "use a folder that a policy was saved into")
        names = {role: data.get(f"{role}_token", token) for role, token in SPECIAL.items()}
        return cls(Tokenizer.from_file(str(folder / "tokenizer.json")), sizes, names)

    def _pieces(self, text: str) -> list[int]:
        return list(self.backend.encode(_plain(text), add_special_tokens=False).ids)

    def _id(self, token: str) -> int:
        found = self.backend.token_to_id(token)
        if found is None:
            raise Corrupt("tokenizer.json", f"no token {token}", "train the tokenizer again")
        return int(found)


def _check_levels(level_sizes: Sequence[int]) -> None:
    if not 1 <= len(level_sizes) <= len(LETTERS):
        raise InvalidValue("number of levels", len(level_sizes), f"1 to {len(LETTERS)}", "use shorter identifiers")


def _add_levels(backend: Tokenizer, level_sizes: Sequence[int]) -> None:
    for letter, size in zip(LETTERS, level_sizes, strict=False):
        # normalized=False: matched before NFKC, which would turn full-width brackets into these
        backend.add_tokens([AddedToken(f"<{letter}_{code}>", normalized=False) for code in range(size)])


def _plain(text: str) -> str:
    # The backend splits added tokens out of the raw text: without the angle bracket, a query "<a_3>" cannot forge one.
    return text.replace("<", " ")
