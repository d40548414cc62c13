"""The measure that methods of making identifiers are compared by, and the methods themselves."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import InvalidValue
from tests.trainers.identifier_toys import build, embed, shop
from trainers.identifiers.baselines import residual_kmeans
from trainers.identifiers.neighbourhood import neighbourhood
from trainers.identifiers.recall import prefix_recall
from trainers.identifiers.rqvae import RqVae, RqVaeSettings, rq_vae
from trainers.identifiers.settings import IdentifierSettings


def shared(a: list[int], b: list[int]) -> int:
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=True)))


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(1, 30), st.integers(1, 40))
def test_recall_is_the_mean_over_all_orders_of_equals(seed: int, items: int, budget: int) -> None:
    """Against an oracle that ranks item by item: one that shares more codes comes first; of those that share as many as the
    wanted one, each place is equally likely."""
    random = np.random.default_rng(seed)
    sizes = (2, 2, 2)
    item_sids, query = random.integers(0, 2, (items, 3)), random.integers(0, 2, (1, 3))
    wanted = random.choice(items, random.integers(1, items + 1), replace=False)
    depth = [shared(sid, query[0].tolist()) for sid in item_sids.tolist()]
    expected = []
    for row in wanted:
        before, equal = sum(d > depth[row] for d in depth), depth.count(depth[row])
        expected.append(np.mean([place < budget for place in range(before, before + equal)]))
    (found,) = prefix_recall(query, [wanted], item_sids, sizes, budget)
    assert found == pytest.approx(np.mean(expected))


def test_recall_by_hand_and_what_it_refuses() -> None:
    """Two items share both codes with the query, two the first, one none: a budget of 3 finds both, half of each, none."""
    sids = np.array([[1, 1], [1, 1], [1, 0], [1, 2], [0, 1]])
    query = np.array([[1, 1]])
    assert [float(prefix_recall(query, [np.array([row])], sids, (2, 3), 3)[0]) for row in range(5)] == [1, 1, 0.5, 0.5, 0]
    with pytest.raises(InvalidValue, match="wanted"):
        prefix_recall(query, [np.array([], dtype=np.int64)], sids, (2, 3), 3)


def test_residual_kmeans_is_nearest_at_each_level() -> None:
    """With as many codes as points the first level alone leaves nothing; with few, more levels leave less."""
    points = embed(shop(60).titles)
    queries = embed(["red chair", "green rug"])
    whole = residual_kmeans(points, queries, (62, 2), IdentifierSettings(), seed=0)
    assert whole.error < 0.05 and len(np.unique(whole.item_codes_NL[:, 0])) > 50
    errors = [residual_kmeans(points, queries, (4,) * levels, IdentifierSettings(), seed=0).error for levels in (1, 2, 3)]
    assert errors == sorted(errors, reverse=True) and errors[-1] < errors[0]
    assert whole.query_codes_ML.shape == (2, 2)


def test_rq_vae_learns_to_rebuild_and_repeats() -> None:
    """Training lowers the error well below that of a codebook on its first encodings; the same seed gives the same codes."""
    points, queries = embed(shop(200).titles), embed(["red chair", "white lamp"])
    how = RqVaeSettings(hidden=(32,), latent=8, steps=1, batch=32)
    sizes = (8, 8, 8)
    untrained = rq_vae(points, queries, sizes, IdentifierSettings(), 1, how)
    longer = how.model_copy(update={"steps": 150})
    trained = rq_vae(points, queries, sizes, IdentifierSettings(), 1, longer)
    assert trained.error < 0.5 * untrained.error
    assert trained.item_codes_NL.shape == (200, 3) and trained.query_codes_ML.shape == (2, 3)
    again = rq_vae(points, queries, sizes, IdentifierSettings(), 1, longer)
    assert np.array_equal(again.item_codes_NL, trained.item_codes_NL)


def test_the_quantisers_gradient_goes_straight_through() -> None:
    """The encoder's gradient of the rebuilding term is that of the decoder at the quantised point, moved as it is."""
    torch.manual_seed(0)
    model = RqVae(6, (4, 4), RqVaeSettings(hidden=(5,), latent=3))
    with torch.no_grad():
        for entries in model.codebooks:
            entries.normal_()
    emb_BD = torch.randn(7, 6)
    latent_BH = model.encoder(emb_BD).detach().requires_grad_()
    _, total_BH, _ = model.quantise(latent_BH)
    at_BH = total_BH.detach().requires_grad_()
    ((model.decoder(at_BH) - emb_BD) ** 2).sum(dim=1).mean().backward()
    through_BH = latent_BH + (total_BH - latent_BH).detach()
    ((model.decoder(through_BH) - emb_BD) ** 2).sum(dim=1).mean().backward()
    assert at_BH.grad is not None and latent_BH.grad is not None
    assert torch.allclose(at_BH.grad, latent_BH.grad, atol=1e-6)


def test_the_neighbourhood_is_a_tree_of_the_nearest_cells() -> None:
    """Counts add up where every cell is drawn; the query's own path is marked; cells come nearest first; titles are the
    cell's own."""
    catalogue = shop()
    made = build(catalogue)
    query = made.enhancer.enhance(["red chair"], embed(["red chair"]))[0]
    own = tuple(made.codebook.encode(query[None])[0].tolist())
    root = neighbourhood(made.codebook, query, made.sids_NL, catalogue.titles, breadth=1000, shown=2)
    assert root.items == 200 == sum(cell.items for cell in root.cells)
    (mine,) = [cell for cell in root.cells if cell.own]
    assert mine.codes == own[:1]
    distance = [float(((query - made.codebook.residual[0][cell.codes[0]]) ** 2).sum()) for cell in root.cells if cell.items]
    assert distance == sorted(distance)
    opened = next(cell for cell in root.cells if cell.items)
    assert sum(cell.items for cell in opened.cells) == opened.items
    for cell in root.cells:
        held = {t for t, sid in zip(catalogue.titles, made.sids_NL.tolist(), strict=True) if sid[0] == cell.codes[0]}
        assert len(held) == cell.items and set(cell.titles) <= held and len(cell.titles) == min(2, cell.items)
    few = neighbourhood(made.codebook, query, made.sids_NL, catalogue.titles, breadth=2)
    assert len(few.cells) in (2, 3) and any(cell.own for cell in few.cells)
