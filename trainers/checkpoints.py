"""Checkpoints in the store: a folder ``checkpoints/<id>/`` whose manifest is written last and proves every byte.

``manifest.json`` is the `Manifest` as JSON with one more key at its end, ``sha256``, over all bytes before it. So a torn
or altered manifest is told from a good one, and the manifest's own checksums do the same for the other files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
import structlog

from schemas.checkpoints import Manifest
from schemas.errors import Corrupt, Incompatible, Unavailable
from schemas.store import Store, sha256
from trainers.mapped import mapped

if TYPE_CHECKING:
    from trainers.lines import Line

log = structlog.get_logger()

__all__ = [
    "ROOT",
    "TRAINING_FILES",
    "Manifest",
    "folder_files",
    "newest",
    "path_of",
    "policy_folder",
    "prune",
    "read",
    "verify",
    "write",
]

ROOT = "checkpoints"
MANIFEST = "manifest.json"
#: Needed to go on training, not to serve; every other file belongs to the policy.
TRAINING_FILES: Final = ("optimizer.pt", "window.msgpack.zst", "held_out.msgpack.zst", "learned.safetensors")
#: Checkpoints of a remote store that stay on this machine: those that a learner or a server may have open.
FETCHED: Final = 8
REMEDY = "restore the file, or use the checkpoint before it"


def path_of(checkpoint: str) -> str:
    """Folder of a checkpoint, relative to the store's root."""
    return f"{ROOT}/{checkpoint}"


def policy_folder(store: Store, checkpoint: str) -> Path:
    """Local folder that `trainers.policies.load_policy` opens; its ``model/`` opens with ``from_pretrained``.

    From a remote store each file of the policy is fetched whole and checked; of what was fetched before, a few stay.

    Raises:
        Unavailable, Corrupt: the checkpoint is not whole in a remote store.
    """
    folder = path_of(checkpoint)
    if store.local is None:
        for name, digest in read(store, checkpoint).files.items():
            if name not in TRAINING_FILES:
                store.local_file(f"{folder}/{name}", digest)
        store.keep_fetched(ROOT, FETCHED)
    return store.folder(folder)


def folder_files(folder: Path) -> dict[str, memoryview]:
    """Every file below a local folder by its relative path; what `write` takes."""
    return {str(f.relative_to(folder)): mapped(f) for f in sorted(folder.rglob("*")) if f.is_file()}


def write(store: Store, files: Mapping[str, bytes | memoryview], draft: Manifest) -> Manifest:
    """Write a checkpoint, its manifest last; until that is there the folder counts as nothing.

    Args:
        files: path inside the checkpoint -> content. All but `TRAINING_FILES` are the policy's and name the checkpoint.
        draft: the manifest without ``checkpoint`` and ``files``, which are filled in here.

    Returns:
        The manifest as written. Its id is ``{step:08d}-{first 8 hex digits of the checksum of the policy}``.
    """
    sums = {path: sha256(data) for path, data in sorted(files.items())}
    weights = "".join(f"{path} {digest}\n" for path, digest in sums.items() if path not in TRAINING_FILES)
    checkpoint = f"{draft.step:08d}-{sha256(weights.encode())[:8]}"
    manifest = msgspec.structs.replace(draft, checkpoint=checkpoint, files=sums)
    for path, data in sorted(files.items()):
        store.write(f"{path_of(checkpoint)}/{path}", data)
    store.write(f"{path_of(checkpoint)}/{MANIFEST}", _seal(msgspec.json.encode(manifest)))
    return manifest


def read(store: Store, checkpoint: str) -> Manifest:
    """The manifest of a checkpoint, itself checked; `verify` checks the files it names.

    Raises:
        Unavailable: there is no such checkpoint, or it was never completed.
        Corrupt: the manifest is torn or altered.
    """
    path = f"{path_of(checkpoint)}/{MANIFEST}"
    try:
        sealed = store.read(path)
    except Unavailable as error:
        remedy = "`headrace lineage` lists those of the present line"
        raise Unavailable(f"checkpoint {checkpoint}", f"{store.url} has no {MANIFEST} of it", remedy) from error
    manifest = _decode(_unseal(sealed, path), path)
    if manifest.checkpoint != checkpoint:
        raise Corrupt(path, f"names checkpoint {manifest.checkpoint}", REMEDY)
    return manifest


def verify(store: Store, checkpoint: str) -> Manifest:
    """Check the manifest and the checksum of every file it names.

    Raises:
        Corrupt: naming the file and the check that failed.
        Unavailable: no such checkpoint.
    """
    manifest = read(store, checkpoint)
    for name, digest in manifest.files.items():
        path = f"{path_of(checkpoint)}/{name}"
        try:
            store.read(path, digest)
        except Unavailable as error:
            raise Corrupt(f"{store.url}/{path}", "file is missing", REMEDY) from error
    return manifest


def newest(
    store: Store,
    refuse: Callable[[str, Corrupt | Unavailable], None],
    accept: Callable[[Manifest], bool] = lambda _: True,
) -> Manifest | None:
    """The newest checkpoint that passes every check; None when there is none.

    Args:
        refuse: told of each bad one met on the way (id, what failed), so that nothing is passed over in silence.
        accept: which manifests count, for example those of one line of training.
    """
    for checkpoint in reversed(store.names(ROOT)):
        try:
            if accept(read(store, checkpoint)):
                return verify(store, checkpoint)
        except (Corrupt, Unavailable) as error:
            refuse(checkpoint, error)
    return None


def newest_of(store: Store, line: Line, codebook_version: str) -> Manifest:
    """The newest good checkpoint of a line, with these identifiers; each bad one met on the way is named in the log.

    Raises:
        Unavailable: there is none.
        Incompatible: there is none with these identifiers.
    """
    others = list[Manifest]()

    def refuse(checkpoint: str, error: Corrupt | Unavailable) -> None:
        log.warning("checkpoint refused", checkpoint=checkpoint, error=str(error))

    def continues(manifest: Manifest) -> bool:
        if not line.has(manifest):
            return False
        if manifest.codebook_version != codebook_version:
            others.append(manifest)
        return manifest.codebook_version == codebook_version

    manifest = newest(store, refuse, continues)
    if manifest is None and others:
        raise Incompatible(
            f"identifiers of checkpoint {others[0].checkpoint}", codebook_version, others[0].codebook_version,
            "use the checkpoint's own identifiers, or warm-start on the new ones",
        )  # fmt: skip
    if manifest is None:
        raise Unavailable("a checkpoint to start from", f"none is good in {store.url}", "make a warm start first")
    return manifest


def prune(store: Store, line: Line, newest: Manifest, keep: int, promoted: Sequence[str], fallbacks: int = 3) -> list[str]:
    """Reduce old checkpoints of ``line`` to their manifests, from which a lineage is read; returns those that were, oldest first.
    Other lines keep theirs: should their warm start come back, they go on from them.

    Whole stay ``newest`` and those before it, ``keep`` in all, warm starts (of which a part is in what is served, `trainers.served`),
    the first of ``promoted`` (frozen: others are held against it) and its last ``fallbacks`` (a server may be loading one). Meant to be
    called after every checkpoint: a walk from new to old, and one over the promoted that have left the fallbacks, end at the first
    that is reduced already. What they found is reduced from old to new, so that the next walks find what a kill has left.
    """
    # A later step's was refused, or ``newest`` would not come after it; other lines' steps say nothing of this one's.
    before = (one for one in reversed(store.names(ROOT)) if _step(one) <= newest.step and one != newest.checkpoint)
    own = (one for one in before if line.has_named(one))
    kept = {newest.checkpoint, *islice(own, keep - 1), *promoted[:1], *promoted[-fallbacks:]}
    whole = dict[str, list[str]]()
    for walk in (own, reversed(promoted[:-fallbacks])):
        for checkpoint in walk:
            if checkpoint in kept or _step(checkpoint) == 0:
                continue
            files = _left_of(store, checkpoint)
            if files == []:
                break
            if files:
                whole[checkpoint] = files
    for checkpoint in sorted(whole):
        for path in whole[checkpoint]:
            store.remove(path)
    return sorted(whole)


def _step(checkpoint: str) -> int:
    """As its id says; -1: something else that lies among the checkpoints."""
    step = checkpoint.partition("-")[0]
    return int(step) if step.isdecimal() else -1


def _left_of(store: Store, checkpoint: str) -> list[str] | None:
    """Paths of the files that are there beside the manifest. None: torn, or never completed, and left as it is, for whoever looks
    into it."""
    folder = path_of(checkpoint)
    try:
        return [f"{folder}/{name}" for name in read(store, checkpoint).files if store.exists(f"{folder}/{name}")]
    except (Corrupt, Unavailable):
        return None


def _seal(body: bytes) -> bytes:
    return body[:-1] + b',"sha256":"' + sha256(body).encode() + b'"}'


def _unseal(raw: bytes, path: str) -> bytes:
    body, mark, tail = raw.rpartition(b',"sha256":"')
    if not mark or not raw.endswith(b'"}'):
        raise Corrupt(path, "manifest is torn: its closing checksum is missing", REMEDY)
    if sha256(body + b"}").encode() != tail[:-2]:
        raise Corrupt(path, "manifest's own sha256", REMEDY)
    return body + b"}"


def _decode(body: bytes, path: str) -> Manifest:
    try:
        return msgspec.json.decode(body, type=Manifest)
    except msgspec.DecodeError as error:
        raise Corrupt(path, str(error), REMEDY) from error
