"""The documents of the topics as files: written, compared with what the code says today, and released."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from headrace import __version__
from schemas.compatibility import Difference, all_differences, differences
from schemas.documents import ASYNCAPI, Document, documents, render
from schemas.errors import Corrupt, Incompatible, Unavailable


def today() -> dict[str, Document]:
    """Every document, made from this code."""
    return documents(__version__)


def write(folder: Path, made: Mapping[str, Document]) -> list[str]:
    """Make ``folder`` hold these documents and no others; returns the names of the files that changed."""
    folder.mkdir(parents=True, exist_ok=True)
    changed = []
    for name, document in made.items():
        path, text = folder / f"{name}.json", render(document)
        if not path.is_file() or path.read_bytes() != text:
            path.write_bytes(text)
            changed.append(path.name)
    for path in _strangers(folder, made):
        path.unlink()
        changed.append(path.name)
    return changed


def stale(folder: Path, made: Mapping[str, Document]) -> list[str]:
    """What in ``folder`` is not what this code says, a line each with its remedy.

    Raises:
        Unavailable: there is no such folder.
    """
    if not folder.is_dir():
        remedy = "run this in the repository's root, or name the folder with --docs"
        raise Unavailable("committed documents", f"{folder} is no folder", remedy)
    lines = []
    for name, document in made.items():
        path = folder / f"{name}.json"
        if not path.is_file():
            lines.append(f"{path} is missing")
        elif path.read_bytes() != render(document):
            lines.append(f"{path} is not what the code says: {_told(path, name, document)}")
    lines += [f"{path} is of no topic" for path in _strangers(folder, made)]
    return [f"{line}; run `headrace schemas write`" for line in lines]


def released(folder: Path) -> dict[str, Document]:
    """The released document of each topic.

    Raises:
        Unavailable: there is no such folder, or nothing in it.
        Corrupt: a file there is not JSON.
    """
    found = {path.stem: _read(path) for path in sorted(folder.glob("*.json"))}
    if not found:
        remedy = "run this in the repository's root, or name the folder with --released"
        raise Unavailable("released schemas", f"{folder} has none", remedy)
    return found


def release(folder: Path, made: Mapping[str, Document], force: bool = False) -> list[str]:
    """Make today's topics the released ones; returns the names of the files that changed.

    Raises:
        Incompatible: today's break the released ones, and ``force`` was not given.
    """
    topics = {name: document for name, document in made.items() if name != ASYNCAPI}
    first = not any(folder.glob("*.json"))
    breaks = [] if first else [one for one in all_differences(released(folder), topics) if one.breaking]
    if breaks and not force:
        remedy = "mend it (`headrace schemas check` says how), or release it with --force if nothing of the old is in use"
        raise Incompatible(str(breaks[0]), "a compatible schema", f"{len(breaks)} breaks", remedy)
    return write(folder, topics)


def since_release(folder: Path, made: Mapping[str, Document]) -> list[Difference]:
    """Every change of a record since its release, allowed or not."""
    return all_differences(released(folder), made)


def _strangers(folder: Path, made: Mapping[str, Document]) -> Iterator[Path]:
    return (path for path in sorted(folder.glob("*.json")) if path.stem not in made)


def _told(path: Path, name: str, document: Document) -> str:
    if name == ASYNCAPI:
        return "a topic, a record or the release changed"
    try:
        found = differences(_read(path), document)
    except (Corrupt, KeyError, ValueError):
        return "it is no document of a topic"
    return "; ".join(one.said for one in found) or "a text or a version changed"


def _read(path: Path) -> Document:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Document)
    except msgspec.DecodeError as error:
        raise Corrupt(str(path), f"JSON: {error}", "restore it from version control") from error
