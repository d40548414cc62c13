"""What a rollback undid, by name."""

from __future__ import annotations

from typing import Final

import msgspec

from reward.desk import diffs
from reward.desk.steps import acts
from schemas.campaigns import Campaign
from schemas.decisions import Change
from schemas.weights import RewardWeights

#: The field under which the audit has the version that was gone back to.
AS_OF: Final = "as of version"


class Undone(msgspec.Struct, frozen=True):
    """The whole is as it was in the version ``back_to``, in place of ``instead_of``."""

    back_to: int
    instead_of: int
    taken_out: tuple[str, ...]  #: campaigns
    brought_back: tuple[str, ...]
    changed: tuple[str, ...]  #: campaigns that say again what they said then
    weights: tuple[Change, ...]  #: of the standing defaults

    def __str__(self) -> str:
        named = (("taken out", self.taken_out), ("brought back", self.brought_back), ("as they were", self.changed))
        told = [f"{how}: {', '.join(ids)}" for how, ids in named if ids]
        told += [f"defaults: {', '.join(map(str, self.weights))}"] if self.weights else []
        return f"back to version {self.back_to} from {self.instead_of}; {'; '.join(told)}"

    @property
    def changes(self) -> tuple[Change, ...]:
        """As lines of the audit."""
        named = (("taken out", self.taken_out), ("brought back", self.brought_back), ("as they were", self.changed))
        told = (Change(how, None, ", ".join(ids)) for how, ids in named if ids)
        return (Change(AS_OF, str(self.instead_of), str(self.back_to)), *told, *self.weights)


def undone(old: RewardWeights, new: RewardWeights, back_to: int) -> Undone:
    """From the book before a rollback and the one that it made. A campaign that had ended by itself is not taken out."""
    before, after = _campaigns(old, new.created_ms), _campaigns(new, new.created_ms)
    return Undone(
        back_to=back_to,
        instead_of=old.version,
        taken_out=tuple(sorted(before.keys() - after.keys())),
        brought_back=tuple(sorted(after.keys() - before.keys())),
        changed=tuple(name for name in sorted(before.keys() & after.keys()) if not diffs.same(before[name], after[name])),
        weights=diffs.between_defaults(old, new),
    )


def _campaigns(book: RewardWeights, now_ms: int) -> dict[str, Campaign]:
    return {campaign.id: campaign for campaign in book.campaigns if acts(campaign, now_ms)}
