"""The control share: some users keep the book before the last change, so that its effect can be seen."""

from __future__ import annotations

import hashlib


def in_control(user: str, share: float) -> bool:
    """Whether a user belongs to the control share (0 to 1): by a hash of the id, always the same users."""
    digest = hashlib.blake2b(user.encode(), digest_size=8, person=b"control").digest()
    return int.from_bytes(digest, "little") < share * 2**64
