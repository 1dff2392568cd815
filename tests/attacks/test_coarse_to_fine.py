import pytest
import torch

from tests.attacks.toys import THREAT, Recorder, case, conv_model
from voxward.attacks.coarse import Spline
from voxward.attacks.coarse_to_fine import CoarseToFine
from voxward.attacks.criteria import judge
from voxward.attacks.registry import create
from voxward.attacks.threat import ThreatModel
from voxward.attacks.transfer import Transfer

WIDE = ((-99.0, 99.0),)


def problem(dims=2, size=16):
    model = conv_model(dims)
    return model, *case(model, dims, size=size)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_first_part_is_smooth_and_the_second_begins_where_it_was_best(norm):
    model, volume, target = problem()
    # Nothing is clipped at the ends of such a range.
    recorder, threat = Recorder(model), ThreatModel(0.12 if norm == "linf" else 1.6, norm, "native", bounds=WIDE)
    result = CoarseToFine(steps=20)(recorder, volume, target, threat)
    ball = threat.ball(volume)
    grid = Spline(factor=4).field(ball, (1.0, 1.0))

    def smooth(point):
        """Whether the perturbation is a field: it is the field of the grid's values that fit it best."""
        wanted = (point - volume) / ball.eps
        fit = wanted
        for axis, matrix in enumerate(grid.matrices, 2):
            fit = torch.tensordot(torch.linalg.pinv(matrix.double()), fit, ([1], [axis])).movedim(0, axis)
        whole = torch.zeros_like(wanted)
        whole[grid.corner] = fit
        return float((grid(whole) - wanted).abs().max()) < 1e-9

    assert [smooth(point) for point in recorder.points] == [True] * 11 + [False] * 9
    first = torch.stack([judge(model, model.logits(point), target) for point in recorder.points[:10]])
    for n in range(len(volume)):  # the second part begins at the lowest Dice of the first one
        assert torch.equal(recorder.points[10][n], recorder.points[int(first[:, n].argmin())][n])
    assert result.gradients == 20
    assert result.forwards <= CoarseToFine().cost(3)[1]
    assert (result.dice < first.amin(0)).all()


def test_transfer_asks_about_both_parts():
    surrogate, volume, target = problem()
    recorder = Recorder(conv_model(2))
    attack = Transfer(CoarseToFine(steps=20), surrogate)
    result = attack(recorder, volume, target, THREAT)
    plain = CoarseToFine(steps=20)(surrogate, volume, target, THREAT)
    noted, best = recorder.looks[0], recorder.looks[1]
    assert len(recorder.looks) == 3  # and the final judgement
    assert torch.equal(best, plain.adversarial)
    coarse = judge(surrogate, surrogate.logits(noted), target)
    assert (plain.dice < coarse).all()
    assert (coarse < plain.clean_dice).all()
    assert result.forwards <= attack.cost(3)[1] == 5
    assert (result.distance <= THREAT.eps + 1e-6).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 1}, "steps must be at least 2"),
        ({"share": 0.0}, "share must be above 0 and below 1"),
        ({"share": 1.0}, "share must be above 0 and below 1"),
        ({"factor": 1.0}, "factor must be above 1"),
        ({"objective": "nothing"}, "objective"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        create("coarse-to-fine", **options)
