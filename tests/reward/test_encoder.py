"""Sentence vectors: the reference's numbers, the same bits in any company, and no torch in the process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from reward.encoder import BATCH, SentenceEncoder, wheel_model
from schemas.errors import Unavailable


def test_same_vectors_as_the_model_in_torch(encoder: SentenceEncoder) -> None:
    """Mean over the real word pieces of transformers' last states, unit length."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    texts = ["red shoes", "a kettle for the kitchen, cordless", "x"]
    tokenizer = AutoTokenizer.from_pretrained(str(wheel_model()))
    model = AutoModel.from_pretrained(str(wheel_model())).eval()
    inputs = tokenizer(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        states_BSD = model(**inputs).last_hidden_state
    mask_BS1 = inputs["attention_mask"][:, :, None]
    mean_BD = (states_BSD * mask_BS1).sum(1) / mask_BS1.sum(1)
    expected = torch.nn.functional.normalize(mean_BD, dim=1).numpy()
    assert np.abs(encoder.encode(texts) - expected).max() < 1e-5


def test_a_row_has_the_same_bits_alone_and_in_company(encoder: SentenceEncoder) -> None:
    texts = [f"query number {n} {'long ' * (n % 7)}" for n in range(BATCH)]
    together = encoder.encode(texts)
    alone = SentenceEncoder()
    for n in (0, 6, 63):
        assert np.array_equal(alone.encode([texts[n]])[0], together[n])
    many = encoder.encode([*texts, "one more"])
    assert np.allclose(many[:BATCH], together, atol=1e-5)


def test_unit_rows_of_any_text(encoder: SentenceEncoder) -> None:
    emb_ND = encoder.encode(["", "!!!", "word " * 500, "红鞋"])
    assert emb_ND.shape == (4, encoder.dim) and np.allclose(np.linalg.norm(emb_ND, axis=1), 1, atol=1e-5)
    assert encoder.encode([]).shape == (0, encoder.dim)


def test_nothing_of_torch_is_loaded() -> None:
    """A worker that embeds and scores imports neither torch, transformers nor scikit-learn."""
    code = (
        "import sys, reward.relevance, streams.rewarding.agent; from reward.encoder import SentenceEncoder; "
        "SentenceEncoder().encode(['a']); sys.exit(bool({'torch', 'transformers', 'sklearn'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_incomplete_model_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"model\.safetensors is missing"):
        SentenceEncoder(tmp_path)
