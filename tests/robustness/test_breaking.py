"""The smallest broken file, of systems whose deployed pipeline sees less, or more, of a change than the array does."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from voxward.attacks.fab import MinimumNormResult
from voxward.attacks.threat import ThreatModel
from voxward.robustness.trials.breaking import MOST, smallest_broken_file

UNIT = 100.0


VOLUME = torch.full((1, 1, 2, 3), 50.0)


class Files:
    """A file breaks the case if its greatest change reaches `needed`, in intensities."""

    def __init__(self, needed: float) -> None:
        self.needed, self.sizes = needed, []

    def judge(self, volume):
        size = float((volume - VOLUME).abs().max())
        self.sizes.append(size)
        return (0.1 if size >= self.needed else 0.8), size / UNIT


def _threat(steps=()) -> ThreatModel:
    return ThreatModel(0.0, bounds=((0.0, UNIT),), steps=steps)


def _least(change: float, distance: float | None = None) -> MinimumNormResult:
    adversarial = VOLUME + change * torch.linspace(-1, 1, VOLUME.numel()).view(VOLUME.shape)
    size = change / UNIT if distance is None else distance
    figures = torch.tensor([size]), torch.tensor([0.1]), torch.tensor([0.4])
    return MinimumNormResult("fab-dice", _threat(), adversarial, *figures, gradients=1, forwards=1, seconds=0.0)


def _found(needed: float, change: float, steps=()):
    files = Files(needed)
    found = smallest_broken_file(files.judge, _threat(steps).ball(VOLUME), _least(change))
    assert found.files == len(files.sizes) <= MOST
    return files, found


@pytest.mark.parametrize("needed", [6.0, 9.0, 9.99, 10.0, 10.4, 12.5, 19.0])
def test_the_smallest_size_whose_file_breaks_the_case_is_found(needed):
    """The array breaks the case at 10; files do at another size, which is met from above within the last steps."""
    _, found = _found(needed, 10.0)
    assert needed <= found.distance * UNIT <= 1.08 * needed
    assert found.distance * UNIT == pytest.approx(float((found.volume - VOLUME).abs().max()))


def test_a_file_of_whole_numbers_breaks_at_a_whole_number():
    for needed, change in ((3.0, 3.0), (3.0, 2.0), (2.0, 3.0), (6.0, 9.0)):
        _, found = _found(needed, change, steps=(1.0,))
        assert found.distance == pytest.approx(needed / UNIT)
        assert torch.equal(found.volume, found.volume.round())


def test_no_size_is_reported_where_no_file_breaks_the_case():
    files, found = _found(20.5, 10.0)
    assert found.distance is None
    assert max(files.sizes) > 19
    assert _least(10.0).adversarial.equal(found.volume)


def test_a_file_that_is_broken_without_an_attack_has_the_size_0():
    files, found = _found(0.0, 0.0)
    assert found.distance == 0
    assert files.sizes == [0.0]


def test_nothing_is_written_where_the_array_was_not_broken_or_no_pipeline_is_deployed():
    files, ball = Files(1.0), _threat().ball(VOLUME)
    assert smallest_broken_file(files.judge, ball, _least(9.0, math.inf)).distance is None
    assert smallest_broken_file(None, ball, _least(9.0)).distance == pytest.approx(0.09)
    assert files.sizes == []


@pytest.mark.parametrize("kind", [np.float32, np.int16])
def test_records_hold_a_size_whose_file_is_broken(tmp_path, kind):
    """Frozen statistics: the array's own normalisation is not the file's, so the array breaks at another size."""
    from tests.robustness.build import a_bench, records_of
    from tests.robustness.lesion import lesion_case, lesion_predictor
    from voxward.attacks.budget import Budget
    from voxward.robustness.protocol import Protocol, Threat
    from voxward.systems.run import RunSystem

    protocol = Protocol(
        "test", attacks=("fab-dice",), threat=Threat((1 / 255, 1.0), statistics="frozen"), controls=(),
        budget=Budget(fab_steps=5),
    )  # fmt: skip
    bench = a_bench({"m": RunSystem(lesion_predictor())}, [lesion_case(tmp_path, kind)], protocol)
    small, large = (record for record in records_of(bench) if record.attack == "fab-dice")
    assert small.breaking_file
    assert small.breaking_eps == large.breaking_eps == pytest.approx(large.written)
    assert large.clean_dice(deployed=True) > 0.9
    assert large.dice(deployed=True) < large.clean_dice(deployed=True) / 2
    assert small.forwards > 0 == large.forwards
