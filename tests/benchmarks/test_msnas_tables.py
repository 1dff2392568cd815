"""MS-NAS's tables: what is counted, what is compared, and a tiny run of all of it."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from benchmarks.msnas_report import DICE, IOU, claim, interval, mean_of, scores, spread
from benchmarks.msnas_sizes import NETWORKS, PAPER, SEARCHED, nearest, published
from benchmarks.msnas_tables import SMALL, Study, measure

from voxward.phantoms.write import write_phantoms

U_PATH = ["down"] * 4 + ["same"] * 2 + ["up"] * 4
GENE = [{"input": n, "operation": "sep3"} for n in range(3)]
GENOTYPE = {"dimensions": 2, "layers": 10, "scales": 5, "cells": {"down": GENE, "same": GENE, "up": GENE},
            "paths": [U_PATH]}  # fmt: skip


def test_scores_are_those_of_sets_of_voxels():
    truth, found = np.zeros((2, 50), bool)
    truth[:20], found[10:25] = True, True
    both, either = (truth & found).sum(), (truth | found).sum()
    counts = [[[both, 0], [found.sum(), 0], [truth.sum(), 0]]]
    values = scores(counts)
    assert values[0, IOU, 0] == pytest.approx(100 * both / either)
    assert values[0, DICE, 0] == pytest.approx(200 * both / (found.sum() + truth.sum()))
    assert np.isnan(values[0, :, 1]).all()  # a class that is not there does not count
    assert mean_of([values], DICE) == pytest.approx(values[0, DICE, 0])


def _folds(*means):
    return [np.full((4, 2, 1), mean, float) + np.arange(4)[:, None, None] for mean in means]


def test_differences_are_of_pairs():
    low, high = interval(_folds(60, 80), _folds(50, 70), DICE)
    assert (low, high) == pytest.approx((10, 10))
    low, high = interval(_folds(60, 80), None, DICE)
    assert 60 <= low < 71.5 < high <= 83
    assert spread(_folds(60, 80), IOU) == pytest.approx(np.std([60, 80], ddof=1))


@pytest.mark.parametrize(
    ("low", "high", "ratio", "says"),
    [(0.1, 2, 0.7, "confirmed"), (0.1, 2, 1.1, "better, but not with fewer FLOPs"), (-1, 1, 0.7, "not shown"),
     (-2, -1, 0.7, "refuted")],
)  # fmt: skip
def test_a_claim_needs_an_interval_above_0_and_fewer_operations(low, high, ratio, says):
    assert claim(low, high, ratio).startswith(says)


def test_the_nearest_of_growing_values():
    values = [n * n for n in range(30)]
    for wanted in (3.9, 70, 255, 9000):
        found = nearest(lambda n: values[n], float, wanted, 2, 29)
        assert found == min(values[2:], key=lambda value: abs(value - wanted))


def test_the_published_sizes_are_those_that_the_guide_names():
    found = published([dict.fromkeys(SEARCHED, GENOTYPE)])
    assert list(found) == list(NETWORKS) == list(PAPER)
    millions = {name: round(of[0][1].parameters / 1e6, 2) for name, of in found.items()}
    assert (millions["unet-2d"], millions["nas-unet"], millions["autodeeplab"]) == (13.39, 12.53, 14.34)
    for name in SEARCHED:  # one filter more or less is no nearer
        assert millions[name] == pytest.approx(PAPER[name][0], rel=0.02)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*the time budget:UserWarning", "ignore:.*at this speed there is:UserWarning")
def test_all_of_it_at_a_tiny_size_and_again(tmp_path):
    datasets = (str(tmp_path / "first"), str(tmp_path / "second"))
    for seed, folder in enumerate(datasets):
        write_phantoms(folder, 4, seed=seed, size=24)
    size = replace(SMALL, slices=(16, 16), minutes=0.005, search=0.02)
    study = Study(tmp_path / "out", datasets, size, full=False, device="cpu", folds=2)
    text = measure(study)
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert len(results["trainings"]) == 2 * 2 * len(NETWORKS)
    for place in (0, 1):
        for network in NETWORKS:
            cases = [id for row in results["trainings"] if (row["place"], row["network"]) == (place, network)
                     for id in row["cases"]]  # fmt: skip
            assert len(cases) == len(set(cases)) == 4
    assert text.count("MS-NAS(5) - AutoDeepLab") == 2
    again = measure(study)
    assert again == text
    with pytest.raises(ValueError, match="holds results of other settings"):
        measure(replace(study, folds=4))
