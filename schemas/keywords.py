"""The keywords of a query with the reasoning that led to them: teacher input for self-distillation."""

from __future__ import annotations

import msgspec


class KeywordChain(msgspec.Struct, frozen=True, tag_field="type", tag="keywords"):
    """Written under ``version``, the writer's; another version's chain is as good as missing."""

    version: str
    query: str  #: normalised
    keywords: tuple[str, ...]  #: best first
    chain: str  #: the reasoning as text
    written_ms: int  #: wall time
    types: tuple[str, ...] = ()  #: of each keyword: entity, brand and so on (`reward.keyword_types`)
    v: int = 1
