"""Two codes in one pass: the rows that a step continues, and those that go one code further."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.trainers import policy_toys as toys
from trainers.policies.base import Ahead, DecodeState
from trainers.policies.packing import Ragged

torch.set_num_threads(1)


@pytest.mark.parametrize("depth", [0, 2])
@pytest.mark.parametrize("name", toys.NAMES)
def test_rows_decoded_with_those_that_they_continue_are_as_if_decoded_after_them(name: str, depth: int) -> None:
    """Of three prompts two, none and one of their rows go further, one of them by two codes; at the start and after two codes."""
    policy, sids_BGL = toys.toy_policy(name=name), torch.from_numpy(toys.toy_sids()[:18].astype(np.int64)).view(3, 6, 5)
    with torch.no_grad():
        state, codes_BR = DecodeState(policy.encode(toys.toy_prompts(policy)), 0), None
        for level in range(depth):
            _, state = policy.advance(state, codes_BR)
            there_BR = torch.arange(4) < torch.tensor([4, 1, 3])[:, None]
            row_BR = (
                torch.zeros(3, 4, dtype=torch.int64) if level == 0 else torch.tensor([[3, 1, 0, 2], [0] * 4, [2, 2, 1, 0]])
            )
            state, codes_BR = state.select(row_BR, Ragged.of(there_BR)), sids_BGL[:, :4, level]
        rows = [[1, 3, 3], [0, 0, 0], [2, 0, 0]] if depth else [[0, 0, 0]] * 3
        code_BX = torch.tensor([[0, 1, 0], [0, 0, 0], [1, 0, 0]])
        ahead = Ahead(torch.tensor(rows), code_BX, Ragged.of(torch.arange(3) < torch.tensor([3, 0, 1])[:, None]))
        both = policy.advance_twice(state, codes_BR, ahead)
        here = policy.advance(state, codes_BR)
        further = policy.advance(here[1].select(ahead.row_BX, ahead.rows), code_BX)
        for (hidden, longer), (expected, after) in zip(both, (here, further), strict=True):
            assert longer.depth == after.depth and longer.rows.width == after.rows.width
            torch.testing.assert_close(hidden, expected, rtol=1e-5, atol=1e-5)
            for ours, theirs in zip(longer.keys_PHTC + longer.values_PHTC, after.keys_PHTC + after.values_PHTC, strict=True):
                torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
