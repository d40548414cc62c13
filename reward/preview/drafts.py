"""Books that are only looked at: today's with other defaults, or with one campaign more."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from reward.campaigns.weighing import NAMES
from schemas.campaigns import Campaign
from schemas.errors import InvalidData, InvalidRequest
from schemas.weights import RewardWeights


def with_weights(book: RewardWeights, changes: Sequence[str]) -> RewardWeights:
    """The book with other defaults, each change as ``NAME=VALUE``.

    Raises:
        InvalidRequest: another form, an unknown name, or a value out of its bounds.
    """
    wanted: dict[str, float] = {}
    for change in changes:
        name, _, value = change.partition("=")
        if name not in NAMES:
            raise InvalidRequest("weight", name, f"one of {', '.join(NAMES)}", "use one of these names")
        try:
            wanted[name] = float(value)
        except ValueError as error:
            raise InvalidRequest("weight", change, "NAME=NUMBER", "write for example `order=8`") from error
        if not 0 <= wanted[name] <= 100:  # nan is neither
            raise InvalidRequest(f"weight {name}", wanted[name], "a number from 0 to 100", "choose one in between")
    return msgspec.structs.replace(book, **wanted)


def with_campaign(book: RewardWeights, campaign: Campaign) -> RewardWeights:
    """The book with this campaign, in place of the one of the same id."""
    others = tuple(one for one in book.campaigns if one.id != campaign.id)
    return msgspec.structs.replace(book, campaigns=(*others, campaign))


def read_campaign(file: Path) -> Campaign:
    """A campaign as JSON, as `schemas.campaigns.Campaign` has it.

    Raises:
        InvalidData: no such file, or another form.
    """
    try:
        return msgspec.json.decode(file.read_bytes(), type=Campaign)
    except OSError as error:
        raise InvalidData(str(file), None, "file", error.strerror, "a file that can be read") from error
    except msgspec.DecodeError as error:
        raise InvalidData(str(file), None, "campaign", str(error), "a campaign as JSON") from error


def changed_by(book: RewardWeights, campaign: str) -> None:
    """Nothing, if the book differs from the one before it by this campaign.

    Raises:
        InvalidRequest: it does not.
    """
    before = {one.id: one for one in book.before.campaigns} if book.before is not None else {}
    now = {one.id: one for one in book.campaigns}
    if now.get(campaign) == before.get(campaign):
        changed = sorted(name for name in now.keys() | before.keys() if now.get(name) != before.get(name))
        remedy = "only the last change has a control share: look at it with `headrace weights effect`"
        raise InvalidRequest(
            "campaign", campaign, f"what version {book.version} changed ({changed or 'the weights'})", remedy
        )
