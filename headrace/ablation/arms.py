"""Arms: names for settings. The table is `arms.toml`; a setting typed with ``--set`` makes an arm like any other."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from schemas.errors import InvalidValue

TABLE = Path(__file__).with_name("arms.toml")
#: The arm that the switches start from, and that the others are held against, beside the frozen one.
OURS, FROZEN = "tpma", "frozen"
#: Shorthands for what lies deeper in the settings.
SHORT = {"learner": ("trainers", "learner"), "gate": ("trainers", "gate")}
#: What an arm may change: everything else would change the world, the warm start or the identifiers, which all arms share.
OWN = (
    ("trainers", "learner"),
    ("trainers", "gate"),
    ("reward", "serving"),
    ("reward", "posterior"),
    ("serving", "engine"),
    ("loop",),
)

Answers = Literal["policy", "bm25", "click_memory", "table"]


class Arm(msgspec.Struct, frozen=True):
    """``set`` changes settings by their dotted names; ``learns``: the policy is trained on what it shows; ``tiers``: whose
    relevance orders what is served, the scorer's or the world's own."""

    name: str
    says: str = ""
    answers: Answers = "policy"
    learns: bool = True
    tiers: Literal["scored", "true"] = "scored"
    set: dict[str, Any] = {}

    @property
    def trained(self) -> bool:
        """Whether a learner belongs to it."""
        return self.learns and self.answers == "policy"

    def changed(self, changes: Mapping[str, Any]) -> Arm:
        """This arm with further settings, named after them."""
        if not changes:
            return self
        name = "+".join((*((self.name,) if self.name != OURS else ()), *(f"{k}={_plain(v)}" for k, v in changes.items())))
        says = f"{self.says or self.name}, with {', '.join(f'{k} {_plain(v)}' for k, v in changes.items())}"
        return msgspec.structs.replace(self, name=name, says=says, set={**self.set, **changes})

    def rerun(self, seed: int) -> Arm:
        """The same arm, by the same name, with this seed of the learner's own draws."""
        return msgspec.structs.replace(self, set={**self.set, "learner.seed": seed})

    def sections(self) -> dict[str, Any]:
        """``set`` as nested sections, shorthands spelt out.

        Raises:
            InvalidValue: a setting that all arms share.
        """
        made: dict[str, Any] = {}
        for name, value in self.set.items():
            first, *rest = name.split(".")
            path = (*SHORT.get(first, (first,)), *rest)
            if not any(path[: len(own)] == own and len(path) > len(own) for own in OWN):
                known = ", ".join(f"{'.'.join(own)}.*" for own in OWN)
                raise InvalidValue("setting of an arm", name, f"one of {known}", "set it for the whole run: HEADRACE_...")
            section = made
            for step in path[:-1]:
                section = section.setdefault(step, {})
            section[path[-1]] = value
        return made


def table() -> dict[str, dict[str, Arm]]:
    """Groups of arms by name: ``arms``, ``yardsticks``, ``switches``."""
    read = tomllib.loads(TABLE.read_text())
    groups = {
        group: {name: msgspec.convert({"name": name, **about}, Arm) for name, about in read[group].items()}
        for group in ("arms", "yardsticks")
    }
    ours = groups["arms"][OURS]
    switched = [ours.changed({name: value}) for name, values in read["switches"].items() for value in values]
    return {**groups, "switches": {arm.name: arm for arm in switched}}


def chosen(names: Iterable[str], changes: Sequence[str] = ()) -> list[Arm]:
    """Arms by name, by the name of their group, or ``all``.

    What is not in the table is read as an arm with settings of its own, ``ARM+SETTING=VALUE+...``, without an arm the default learner.
    ``changes``, each ``SETTING=VALUE``, go over every one of them.

    Raises:
        InvalidValue: no arm of that name, or a change without its value.
    """
    groups = table()
    known = {name: arm for group in groups.values() for name, arm in group.items()}
    found: dict[str, Arm] = {}
    for name in names:
        if name in groups or name == "all":
            picked = list(known.values()) if name == "all" else list(groups[name].values())
        else:
            first, *settings = name.split("+")
            if "=" in first:
                first, settings = OURS, name.split("+")
            if first not in known:
                named = (*groups, "all", *groups["arms"], *groups["yardsticks"])
                raise InvalidValue("arm", first, f"one of {', '.join(named)}", "or SETTING=VALUE, or ARM+SETTING=VALUE")
            picked = [known[first].changed(parsed(settings))]
        found |= {arm.name: arm for arm in (one.changed(parsed(changes)) for one in picked)}
    for arm in found.values():
        arm.sections()  # refused before anything is started
    return list(found.values())


def parsed(changes: Sequence[str]) -> dict[str, Any]:
    """``SETTING=VALUE`` each; a value is JSON, or else the text itself."""
    made: dict[str, Any] = {}
    for change in changes:
        name, sign, text = change.partition("=")
        if not sign or not name or not text:
            raise InvalidValue("--set", change, "SETTING=VALUE", "for example learner.loss.entropy=0")
        try:
            made[name] = msgspec.json.decode(text)
        except msgspec.DecodeError:
            made[name] = text
    return made


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
