"""Identifiers: codes that mean something, one owner each, the same from the same seed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from reward.keyword_types import KeywordType
from reward.lexicon import Lexicon, Phrase
from schemas.catalogue import Catalogue
from schemas.errors import Corrupt, InvalidValue
from schemas.store import Store
from tests.trainers.identifier_toys import WIDTH, build, embed, shop
from trainers.identifiers.assign import Assigner, nearest_keys
from trainers.identifiers.balanced import even_capacity
from trainers.identifiers.build import Identifiers, build_identifiers
from trainers.identifiers.codebook import Codebook, fit_codebook
from trainers.identifiers.keywords import Enhancer, phrase_embeddings, phrase_matrix
from trainers.identifiers.quality import measure
from trainers.identifiers.settings import IdentifierSettings, adapted_sizes
from trainers.identifiers.sids import unpack


def test_codes_are_nearest_level_by_level() -> None:
    """Two residual levels of hand-made centroids, then halves of the rest: (5, 1) is (4, 0) + (1, 0) + rest (0, 1)."""
    level = np.array([[4, 0], [-4, 0]], dtype=np.float32)
    fine = np.array([[1, 0], [-1, 0]], dtype=np.float32)
    none = np.zeros((1, 2), dtype=np.float32)
    ends = np.array([[0], [1]], dtype=np.float32)
    book = Codebook((level, fine, none), np.eye(2, dtype=np.float32), (ends, ends))
    assert book.level_sizes == (2, 2, 1, 2, 2)
    assert book.encode(np.array([[5, 1], [-5, 0]], dtype=np.float32)).tolist() == [[0, 0, 0, 0, 1], [1, 1, 0, 0, 0]]
    assert book.decode(np.array([[0, 0, 0, 0, 1]])).tolist() == [[5, 1]]
    turned = Codebook((level, fine, none), np.array([[0, 1], [1, 0]], dtype=np.float32), (ends, ends))
    assert turned.encode(np.array([[5, 1]], dtype=np.float32)).tolist() == [[0, 0, 0, 1, 0]]  # the rotation swaps halves
    assert turned.decode(np.array([[0, 0, 0, 1, 0]])).tolist() == [[5, 1]]
    assert turned.centroids(3).tolist() == [[0, 0], [0, 1]]
    with pytest.raises(InvalidValue, match="shape"):
        book.encode(np.zeros((1, 3), dtype=np.float32))


def test_each_level_brings_the_code_nearer() -> None:
    """The squared error of the first levels' sum falls with every level of a fitted codebook."""
    points = np.random.default_rng(0).normal(size=(400, WIDTH)).astype(np.float32)
    book = fit_codebook(points, (8, 8, 8, 8, 8), IdentifierSettings(), seed=0)
    codes = book.encode_within(points, even_capacity(400, 8, 1.1))
    errors = [float((book.residual_after(points, codes, level) ** 2).sum()) for level in range(4)]
    errors.append(float(((points - book.decode(codes)) ** 2).sum()))
    assert errors == sorted(errors, reverse=True) and errors[-1] < 0.7 * errors[0]
    assert np.allclose(book.rotation_DD @ book.rotation_DD.T, np.eye(WIDTH), atol=1e-4)
    assert np.bincount(codes[:, 2], minlength=8).max() <= even_capacity(400, 8, 1.1)


def test_enhancement_by_hand() -> None:
    """Half the embedding, half the mean of its keywords, made a unit; no keyword, no change."""
    catalogue = shop()
    lexicon = Lexicon([Phrase("red", KeywordType.COLOUR, 1), Phrase("sofa", KeywordType.ENTITY, 1)])
    enhancer = Enhancer(lexicon, np.array([[0, 1, 0], [0, 0, 1]], dtype=np.float32), 0.5)
    out = enhancer.enhance(["red sofa", "plain"], np.array([[1, 0, 0], [0, 1, 0]], dtype=np.float32))
    # e' = (1/2, 1/4, 1/4), of length sqrt(6)/4
    assert np.allclose(out, [[2 / 6**0.5, 1 / 6**0.5, 1 / 6**0.5], [0, 1, 0]])
    holds_NK = phrase_matrix(lexicon, ["red", "red sofa"])
    rows = phrase_embeddings(lexicon, holds_NK, np.array([[1, 0, 0], [0, 1, 0]], dtype=np.float32))
    assert np.allclose(rows, [[0.5**0.5, 0.5**0.5, 0], [0, 1, 0]])
    with pytest.raises(InvalidValue, match="texts"):
        enhancer.enhance(list(catalogue.titles), np.zeros((1, 3), dtype=np.float32))


def test_different_texts_never_share_and_equal_texts_do() -> None:
    """Twenty copies of one embedding: other texts get other codes, the nearest ones; a repeated text shares."""
    catalogue = shop()
    book = build(catalogue).codebook
    point = embed(catalogue.titles[:1])[0]
    assigner = Assigner(book, share=True)
    sids = [assigner.assign(point, f"text {n}") for n in range(20)]
    assert len(set(sids)) == 20 and assigner.moved == 19
    assert assigner.assign(point, "text 0") == sids[0]
    assert len({sid[:3] for sid in sids}) == 1
    without = Assigner(book, share=True)
    assert without.assign(point, "") != without.assign(point, "")  # items without a text are not the same item
    alone = Assigner(book)
    assert alone.assign(point, "same") != alone.assign(point, "same")


def test_last_codes_are_tried_by_distance_then_the_rest_of_the_prefix_then_the_next_cell() -> None:
    """Every identifier below the first two codes comes, each last code before any other; the first is the nearest."""
    catalogue = shop()
    book = build(catalogue).codebook
    point = embed(catalogue.titles[:1])[0]
    codes = tuple(book.encode(point[None])[0].tolist())
    sizes = book.level_sizes
    tried = list(dict.fromkeys(unpack(key, sizes) for keys in nearest_keys(book, point, codes) for key in keys.tolist()))
    assert tried[0] == codes and len(set(tried)) == sizes[2] * sizes[3] * sizes[4]
    assert all(sid[:4] == codes[:4] for sid in tried[: sizes[4]])
    errors = [float(((point - book.decode(np.array([sid]))[0]) ** 2).sum()) for sid in tried[: sizes[4]]]
    assert errors == pytest.approx(sorted(errors))


def test_a_full_codebook_says_so() -> None:
    """No identifier is left: an error, never a second owner."""
    one = np.zeros((1, 2), dtype=np.float32)
    end = np.zeros((1, 1), dtype=np.float32)
    assigner = Assigner(Codebook((one, one, one), np.eye(2, dtype=np.float32), (end, end)))
    assigner.assign(np.ones(2, dtype=np.float32), "a")
    with pytest.raises(InvalidValue, match="larger level sizes"):
        assigner.assign(np.ones(2, dtype=np.float32), "b")


def test_quality_by_hand() -> None:
    """Four items, two of them on one identifier: ICR 2/4; first codes 2 of 4, pairs 2 of 8, prefixes 3 of 16."""
    sids = np.array([[0, 0, 0, 0, 0], [0, 0, 0, 0, 0], [0, 0, 1, 0, 0], [3, 1, 1, 1, 0]])
    quality = measure(sids, (4, 2, 2, 2, 1))
    assert (quality.cur_l1, quality.cur_l1l2, quality.cur_total, quality.icr) == (0.5, 0.25, 3 / 16, 0.5)
    assert quality.level_use == (0.5, 1, 1, 1, 1) and quality.largest_cell == 2 and quality.distinct == 3
    with pytest.raises(InvalidValue, match="identifiers"):
        measure(sids[:0], (4, 2, 2, 2, 1))


def test_items_with_different_titles_own_their_identifiers() -> None:
    """ICR 1 on distinct titles, all of them in the trie, and near items share prefixes more than far ones."""
    catalogue = shop()
    identifiers = build(catalogue)
    assert identifiers.quality.icr == 1 and identifiers.quality.distinct == 200
    assert identifiers.trie.contains(identifiers.sids_NL).all()
    nouns = np.array([title.split()[2] for title in catalogue.titles])
    first = identifiers.sids_NL[:, 0]
    same = first[:, None] == first[None, :]
    alike = nouns[:, None] == nouns[None, :]
    np.fill_diagonal(same, False)
    assert same[alike].mean() > 5 * same[~alike].mean()


def test_a_query_gets_the_code_of_what_it_means() -> None:
    """A query that is an item's title has the item's nearest code, and its first code is one of its noun's."""
    catalogue = shop()
    identifiers = build(catalogue)
    sids = identifiers.query_sids(catalogue.titles[:50], embed(catalogue.titles[:50]))
    assert (sids[:, :2] == identifiers.sids_NL[:50, :2]).all()
    chairs = {sid[0] for sid, title in zip(identifiers.sids_NL.tolist(), catalogue.titles, strict=True) if "chair" in title}
    assert identifiers.query_sids(["chair"], embed(["chair"]))[0, 0] in chairs


def test_later_items_do_not_shape_the_codebook_but_get_identifiers() -> None:
    """The codebook is that of the known items alone; the known items' codes do not change by the late ones."""
    with_late, without = build(shop(late=40)), build(_first(shop(), 160))
    assert with_late.codebook.version == without.codebook.version
    assert np.array_equal(with_late.sids_NL[:160], without.sids_NL)
    assert with_late.quality.icr == 1 and len(with_late.sids_NL) == 200
    with pytest.raises(InvalidValue, match="known_ms"):
        build_identifiers(shop(5, late=5), embed(shop(5).titles), [], np.zeros((0, WIDTH), np.float32))


def _first(catalogue: Catalogue, n: int) -> Catalogue:
    return Catalogue(
        catalogue.items[:n], catalogue.titles[:n], catalogue.categories[:n], catalogue.brands[:n],
        catalogue.prices_N[:n], catalogue.available_from_N[:n], catalogue.attributes[:n],
    )  # fmt: skip


def test_a_new_item_touches_no_other() -> None:
    """Assigned from a title alone, into a free place near its kind."""
    catalogue = shop()
    identifiers = build(catalogue)
    assigner = identifiers.assigner(catalogue)
    taken = {tuple(sid) for sid in identifiers.sids_NL.tolist()}
    title = "kelda red chair v999"
    sid = identifiers.assign_new(assigner, title, embed([title])[0])
    assert sid not in taken
    assert identifiers.assign_new(assigner, catalogue.titles[4], embed(catalogue.titles[4:5])[0]) is not None


def test_saved_identifiers_are_the_same_and_a_changed_file_is_refused(tmp_path: Path) -> None:
    """The version names the content."""
    identifiers = build(shop())
    store = Store(str(tmp_path))
    version = identifiers.save(store)
    loaded = Identifiers.load(store, version)
    assert loaded.version == version and np.array_equal(loaded.sids_NL, identifiers.sids_NL)
    assert loaded.quality == identifiers.quality
    query = ["red chair"]
    assert np.array_equal(loaded.query_sids(query, embed(query)), identifiers.query_sids(query, embed(query)))
    store.write(f"identifiers/{version}/codebook.npz", build(shop(), seed=2).codebook.to_bytes())
    with pytest.raises(Corrupt, match="content is version"):
        Identifiers.load(store, version)


SCRIPT = """
import numpy as np
from trainers.identifiers.codebook import fit_codebook
from trainers.identifiers.settings import IdentifierSettings
points = np.random.default_rng(0).normal(size=(6000, 48)).astype(np.float32)
points[3000:3200] = points[0]  # the capacity has to choose among equals
book = fit_codebook(points, (64, 16, 16, 32, 32), IdentifierSettings(), seed=5)
import hashlib
for codes in (book.encode_within(points, 400), book.encode(points)):
    print(book.version, hashlib.sha256(codes.tobytes()).hexdigest())
"""


def test_same_seed_same_codes_whatever_the_number_of_threads() -> None:
    """Separate processes with one and with two threads agree to the bit; another seed does not."""
    runs = set()
    for threads in ("1", "2"):
        environment = os.environ | {"OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads}
        runs.add(subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, check=True).stdout)
    assert len(runs) == 1
    assert build(shop(), seed=1).version == build(shop(), seed=1).version != build(shop(), seed=2).version


def test_sizes_follow_the_catalogue() -> None:
    """The documented table; and settings outside their bounds are refused when they are made."""
    assert adapted_sizes(2_000) == (32, 16, 16, 16, 16)
    assert adapted_sizes(54_667) == (256, 64, 32, 128, 128)
    assert adapted_sizes(10_000_000) == (4096, 1024, 512, 256, 256)
    assert adapted_sizes(3) == (4, 4, 4, 4, 4)
    assert build(shop(12)).quality.icr == 1  # fewer points than an ordinary codebook has codes
    with pytest.raises(ValidationError, match="level_sizes"):
        IdentifierSettings(level_sizes=(1, 2, 3))
    with pytest.raises(InvalidValue, match="embeddings"):
        build_identifiers(shop(), embed(["a"]), [], np.zeros((0, WIDTH), np.float32))
