"""The certified mask: its Dice bound against all masks that are possible, and its radius against the exact one."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy.stats import norm

from voxward.certificates import Frame, Part, Votes, certify_mask, dice_bound, noisy, stream
from voxward.certificates.mask import radius_of


def _dice(truth: np.ndarray, mask: np.ndarray) -> float:
    total = truth.sum() + mask.sum()
    return 2 * (truth & mask).sum() / total if total else np.inf


def _votes(counts: list[list[int]], runs: int) -> Votes:
    return Votes(runs, np.array(counts, np.uint16).reshape(len(counts), -1, 1, 1))


def test_the_bound_is_the_lowest_dice_of_all_completions() -> None:
    """8 voxels: every assignment of the uncertain ones, for 300 random truths and states."""
    rng = np.random.default_rng(0)
    for _ in range(300):
        truth, state = rng.random(8) < rng.random(), rng.integers(0, 3, 8)
        inside, outside = state == 0, state == 1
        free = np.flatnonzero(state == 2)
        found = []
        for bits in product([False, True], repeat=len(free)):
            mask = inside.copy()
            mask[free] = bits
            found.append(_dice(truth, mask))
        bound = dice_bound(truth, inside, outside)
        assert (np.inf if bound is None else bound) == pytest.approx(min(found))


def test_a_class_that_nobody_can_find_has_no_dice() -> None:
    nowhere = np.zeros(8, bool)
    assert dice_bound(nowhere, nowhere, ~nowhere) is None
    assert dice_bound(nowhere, nowhere, nowhere) == 0


def test_nested_regions_fall_back_to_the_coarser_one() -> None:
    """ET in TC in WT: voxels of sure tumour, of which the kind is not sure; and voxels that nothing is sure of."""
    et, tc, wt = Part("ET", (1,)), Part("TC", (1, 2)), Part("WT", (1, 2, 3))
    #                    ET,  core, oedema, background, ET or core, any part, nothing sure
    votes = _votes([[100, 0, 0, 0, 50, 30, 50], [0, 100, 0, 0, 50, 40, 0], [0, 0, 100, 0, 0, 30, 0]], 100)
    mask = certify_mask(votes, [et, tc, wt], 0.75)
    assert mask.inside[:, :, 0, 0].tolist() == [
        [True, False, False, False, False, False, False],
        [True, True, False, False, True, False, False],
        [True, True, True, False, True, True, False],
    ]
    assert mask.decided.ravel().tolist() == [True] * 4 + [False] * 3
    assert mask.coarser.ravel().tolist() == [False] * 4 + [True, True, False]


def test_what_is_certain_of_a_part_is_certain_of_what_holds_it() -> None:
    rng = np.random.default_rng(2)
    counts = rng.multinomial(100, [0.5, 0.3, 0.2], size=500).T
    counts[:, ::3] = [[100], [0], [0]]
    mask = certify_mask(_votes(counts[:2].tolist(), 100), [Part("a", (1,)), Part("a or b", (1, 2))], 0.75)
    assert not (mask.inside[0] & ~mask.inside[1]).any()
    assert not (mask.outside[1] & ~mask.outside[0]).any()
    assert not (mask.inside & mask.outside).any()


def test_holm_certifies_at_least_what_bonferroni_does_and_sometimes_more() -> None:
    counts = [100] * 900 + list(range(80, 101))
    found = [
        certify_mask(_votes([counts], 100), [Part("a", (1,))], 0.75, correction=name).inside.sum()
        for name in ("holm", "bonferroni")
    ]
    assert found[0] > found[1] > 0


def test_voxels_that_nobody_annotated_are_not_tested() -> None:
    """They count nowhere, so that fewer tests leave the others a lower limit."""
    counts = [92] * 2 + [50] * 5000
    known = np.arange(len(counts)).reshape(-1, 1, 1) < 2
    part = [Part("a", (1,))]
    assert not certify_mask(_votes([counts], 100), part, 0.75).inside.any()
    found = certify_mask(_votes([counts], 100), part, 0.75, known=known)
    assert found.inside.ravel().tolist() == [True] * 2 + [False] * 5000
    assert not found.outside[0][~known].any()


def test_the_certified_radius_is_never_above_the_exact_one_of_a_linear_classifier() -> None:
    """Each of 27 voxels says "class" where w.x + b > 0, so that its exact radius is |w.x + b| / |w|."""
    sigma, runs, shape = 0.25, 300, (1, 3, 3, 3)
    rng, frame, certified = np.random.default_rng(5), Frame((0.0,), (2.0,), np.zeros(shape, bool)), 0
    for case in range(5):
        w, x = rng.standard_normal((27, 27)), rng.random(shape)
        offset = rng.standard_normal(27) * np.linalg.norm(w, axis=1) - w @ x.ravel()
        exact = np.abs(w @ x.ravel() + offset) / np.linalg.norm(w, axis=1) / 2  # as a share of the window, 2
        votes = Votes.none(2, shape[1:])
        for n in range(runs):
            answer = w @ noisy(x, sigma, frame, stream(case, n)).ravel() + offset > 0
            votes.add(answer.reshape(shape[1:]).astype(np.uint8))
        for tau in (0.6, 0.75, 0.9, 0.95):
            mask = certify_mask(votes, [Part("a", (1,))], tau)
            sure = (mask.inside | mask.outside).ravel()
            assert (sigma * mask.radius <= exact[sure]).all()
            assert (mask.inside.ravel() <= (w @ x.ravel() + offset > 0)).all()
            certified += int(sure.sum())
    assert certified > 200  # not vacuous


def test_the_radius_is_the_quantile_of_the_normal_distribution() -> None:
    assert radius_of(0.75) == pytest.approx(0.6744898)
    assert norm.cdf(radius_of(0.9)) == pytest.approx(0.9)
