"""A record survives JSON, holds no NaN, and its means follow the policy."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from tests.robustness.books import clean, record
from voxward.attacks.threat import ThreatModel
from voxward.core.labels import LabelSet
from voxward.metrics.policies import Scoring
from voxward.metrics.score import score_case
from voxward.robustness.record import Record, Surface, mean_dice
from voxward.robustness.visibility import Visibility


def test_json_round_trip() -> None:
    first = record(
        "apgd", "a", (0.25, None), 0.1, deployed=(0.5, 0.25), history=(0.8, 0.3), breaking_eps=0.05,
        threat=ThreatModel(0.1, "l2", "native", "window", ((-1.5, 2.0), (0.0, 1.0)), (-32768.0, 32767.0)),
        options={"steps": 20, "radii": ((0.3, 2.0), (0.4, 1.0)), "loss": None, "weights": {"1": 0.5}},
        policy="brats", deployed_clean=(1.0, None),
    )  # fmt: skip
    assert Record.from_data(json.loads(json.dumps(first.to_data(), allow_nan=False)), "here") == first


@pytest.mark.parametrize("policy", ["ignore", "brats"])
def test_a_class_that_is_missed_does_not_make_the_surfaces_fit_better(policy: str) -> None:
    truth = np.zeros((12, 12, 12), np.uint8)
    truth[1:5, 1:5, 1:5], truth[7:11, 7:11, 7:11] = 1, 2
    labels = LabelSet(("background", "a", "b"), (0, 1, 2))
    missed = np.where(truth == 2, 0, truth)

    def fit(found: np.ndarray, known: np.ndarray = truth) -> Surface:
        return Surface.of(score_case("x", known, found, (1.0, 1.0, 1.0), labels, Scoring(policy)))

    assert fit(truth) == Surface(0.0, 1.0)
    far = fit(missed).hd95_mm
    assert far is None if policy == "ignore" else far is not None and far > 10
    assert fit(missed, missed).hd95_mm == 0


def test_nan_and_infinity_become_none() -> None:
    made = record(
        "fab", "a", (math.nan, 0.5), 0.1, hd95_mm=math.inf, breaking_eps=math.inf, options={"p": [math.nan, 1.0]}
    )
    assert made.adversarial == (None, 0.5)
    assert made.hd95_mm is made.breaking_eps is None
    assert made.options == {"p": [None, 1.0]}
    json.dumps(made.to_data(), allow_nan=False)


@pytest.mark.parametrize(
    ("scores", "policy", "expected"),
    [
        ((0.2, 0.6), "ignore", 0.4),
        ((0.2, None), "ignore", 0.2),
        ((0.2, None), "one", 0.6),
        ((0.2, None), "brats", 0.6),
        ((None, None), "ignore", 1.0),
    ],
)
def test_mean_under_a_policy(scores: tuple[float | None, ...], policy: str, expected: float) -> None:
    assert mean_dice(scores, policy) == pytest.approx(expected)
    made = record("x", "a", scores, 0.1, policy=policy)
    assert made.dice() == made.dice(policy=policy) == pytest.approx(expected)


def test_deployed_dice_is_another_and_refused_where_it_is_missing() -> None:
    made = record("x", "a", (0.5, 0.5), 0.1, deployed=(0.75, 0.25), deployed_clean=(1.0, 0.5))
    assert (made.dice(), made.dice(deployed=True)) == (0.5, 0.5)
    assert (made.clean_dice(), made.clean_dice(deployed=True)) == (0.8, 0.75)
    with pytest.raises(ValueError, match="x on case 'a' of 'm' was not deployed"):
        replace(made, deployed=None).dice(deployed=True)
    assert clean("a", deployed=(0.5, 0.5)).clean_dice(deployed=True) == 0.5


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"deployed": (0.5,)}, "deployed must hold one Dice per class \\(2\\), got 1"),
        ({"deployed": (0.5, 1.5)}, "deployed must hold Dice in \\[0, 1\\] or None, got 1.5"),
        ({"distance": math.nan}, "distance must be a finite number of at least 0, got nan"),
        ({"history": (0.5, math.nan)}, "history must hold finite"),
        ({"policy": "ignor"}, "Did you mean 'ignore'"),
    ],
)
def test_bad_figures_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        record("x", "a", (0.5, 0.5), 0.1, **wrong)


def test_damaged_data_is_refused_with_every_problem() -> None:
    data = clean("a").to_data()
    del data["seed"]
    data["mode"] = "slice"
    with pytest.raises(ValueError, match=r"file\.json.*mode must be one of patch, volume.*seed is missing"):
        Record.from_data(data, "file.json")


def test_what_the_page_shows_survives_json() -> None:
    made = record(
        "x", "a", (0.5, 0.5), 0.1, visibility=Visibility(0.02, 34.0, None), surface=Surface(math.inf, 0.25),
        clean_surface=Surface(1.5, math.nan), truth_mm3=(1200.5, 0.0), channels=("CT",),
    )  # fmt: skip
    assert made.surface == Surface(None, 0.25)
    assert made.clean_surface == Surface(1.5, None)
    assert Record.from_data(json.loads(json.dumps(made.to_data(), allow_nan=False)), "here") == made


def test_records_without_it_are_read() -> None:
    """Those of folders that were written before."""
    data = record("x", "a", (0.5, 0.5), 0.1).to_data()
    added = ("visibility", "surface", "clean_surface", "truth_mm3", "channels")
    old = Record.from_data({key: value for key, value in data.items() if key not in added}, "here")
    assert (old.visibility, old.surface, old.clean_surface, old.truth_mm3, old.channels) == (None, None, None, (), ())
    assert old.hd95_mm == 2.5
