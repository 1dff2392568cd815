import pytest
import torch
from scipy import fft, interpolate
from torch import nn

from tests.attacks.toys import BOUNDS, THREAT, Recorder, case, conv_model
from voxward.attacks.coarse import FEWEST, Band, OnGrid, Spline, points, unit_ball
from voxward.attacks.criteria import judge
from voxward.attacks.objectives import at, create_objective
from voxward.attacks.registry import create
from voxward.attacks.state import AttackState, Counted
from voxward.attacks.threat import ThreatModel
from voxward.core.model import PatchModel, Spaced, VolumeModel, spacing_of
from voxward.core.progress import silent

FAMILIES = [Spline, Band]


def nested(attack, dims=2, norm="linf", size=12, **threat):
    """The attacked model as the search on the grid sees it, the state on the voxels, and the ground truth."""
    model = conv_model(dims)
    volume, target = case(model, dims, size=size)
    ball = ThreatModel(0.3, norm, bounds=BOUNDS, **threat).ball(volume)
    counted = Counted(model)
    start = counted.sweep(ball.reference)
    state = AttackState(counted, target, ball, torch.Generator().manual_seed(0), start, silent, "coarse")
    return OnGrid(counted, state, attack.field(ball, (1.0,) * dims)), state, target


def drawn(grid, norm, seed=1):
    """A random field on the rim of the unit ball."""
    inside, u = grid.field.corner, torch.zeros_like(grid.state.ball.reference)
    u[inside] = torch.randint(0, 2, u[inside].shape, generator=torch.Generator().manual_seed(seed)).double() * 2 - 1
    return u if norm == "linf" else u / torch.linalg.vector_norm(u.flatten(1), dim=1).view(-1, *(1,) * (u.ndim - 1))


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_gradient_on_the_grid_is_autograd_s(family, norm, dims):
    grid, state, target = nested(family(factor=3), dims, norm)
    loss, u = at(create_objective("dice"), 0.0), 0.7 * drawn(grid, norm)
    logits, value, gradient = grid.value_and_grad(u, target, loss)
    leaf, ball = u.clone().requires_grad_(), state.ball
    moved = ball.reference + ball.eps * grid.field(leaf)
    scores = state.model.inner.network(torch.minimum(torch.maximum(moved, ball.low), ball.high))
    (expected,) = torch.autograd.grad(loss(scores, target).sum(), leaf)
    torch.testing.assert_close(logits, scores.detach())
    torch.testing.assert_close(value, loss(scores, target).detach())
    torch.testing.assert_close(gradient, expected)
    assert not torch.where(torch.isinf(unit_ball(ball, grid.field).high), 0.0, gradient).any()
    assert gradient.abs().max() > 0


@pytest.mark.parametrize("family", FAMILIES)
def test_the_map_and_its_pull_back_are_adjoint(family):
    """<L u, g> = <u, L* g> for the linear map, where no field is scaled."""
    field = family(factor=2.5).field(nested(family())[1].ball, (1.0, 1.0))
    generator = torch.Generator().manual_seed(4)
    u = 0.1 * torch.rand(2, 1, 12, 12, generator=generator).double()
    g = torch.randn(2, 1, 12, 12, generator=generator).double()
    leaf = u.clone().requires_grad_()
    (pulled,) = torch.autograd.grad(field(leaf), leaf, g)
    first, second = field.matrices
    brute = torch.einsum("ia,jb,ncab->ncij", first, second, u[field.corner])
    torch.testing.assert_close(field(u), brute)
    torch.testing.assert_close((brute * g).sum(), (u * pulled).sum())


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("factor", [1.3, 2, 8])
def test_no_field_leaves_the_ball(factor, family, norm, dims):
    """Before anything is projected: 1e-12 of eps is the rounding of some ten float64 products per axis."""
    grid, _, _ = nested(family(factor=factor), dims, norm)
    for seed in range(10):
        field = grid.field(drawn(grid, norm, seed))
        size = field.abs().amax() if norm == "linf" else torch.linalg.vector_norm(field.flatten(1), dim=1).amax()
        assert 0.05 < float(size) <= 1 + 1e-12


@pytest.mark.parametrize(("voxels", "count"), [(12, 4), (12, 5), (7, 4), (5, 5), (1, 1)])
def test_a_spline_is_a_mean_and_scipy_s(voxels, count):
    matrix = Spline.matrix(voxels, count)
    assert float(matrix.min()) >= 0
    torch.testing.assert_close(matrix.sum(1), torch.ones(voxels, dtype=torch.float64))
    if voxels == count:
        assert torch.equal(matrix, torch.eye(voxels, dtype=torch.float64))
        return
    values = torch.randn(count, generator=torch.Generator().manual_seed(2)).double()
    padded = torch.cat([values[:1]] * 3 + [values] + [values[-1:]] * 3)  # the last point goes on beyond the end
    knots = torch.arange(len(padded) + 4).double() - 3 - 2  # the spline of node j is centred on j
    expected = interpolate.BSpline(knots, padded, 3)((torch.arange(voxels).double() + 0.5) * count / voxels - 0.5)
    torch.testing.assert_close(matrix @ values, torch.from_numpy(expected))


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize(("voxels", "count"), [(12, 4), (13, 6), (12, 11)])
def test_a_band_holds_low_frequencies_only(voxels, count, norm):
    grid, _, _ = nested(Band(factor=voxels / count), 2, norm, size=voxels)
    assert grid.field.points == (count, count)
    field = grid.field(drawn(grid, norm))
    spectrum = abs(fft.dctn(field.numpy(), axes=(2, 3), norm="ortho"))
    above = spectrum.copy()
    above[:, :, :count, :count] = 0
    assert above.max() <= 1e-12 * spectrum.max()
    assert spectrum[:, :, count - 1, :count].max() > 1e-3 * spectrum.max()


def test_a_constant_field_is_constant():
    for family in FAMILIES:
        grid, state, _ = nested(family(factor=3))
        whole = torch.ones_like(state.ball.reference)
        torch.testing.assert_close(grid.field(whole), whole)


def test_a_grid_has_equal_distances_in_mm_and_short_axes_are_coarsened_less():
    ball = THREAT.ball(torch.zeros(1, 1, 40, 40, 10, 3))
    assert Spline(factor=4).field(ball, (1.0, 2.0, 8.0, 1.0)).points == (10, 20, 10, 3)
    assert Spline(factor=8).field(ball, (1.0, 1.0, 1.0, 1.0)).points == (5, 5, FEWEST, 3)
    assert points(40, 0.5) == 40


def test_the_model_tells_the_spacing():
    model = conv_model(3)
    assert spacing_of(model, 3) == (1.0, 1.0, 1.0)
    spaced = Counted(Spaced(model, (1.0, 1.0, 5.0)))
    assert isinstance(spaced, VolumeModel)
    assert spacing_of(spaced, 3) == (1.0, 1.0, 5.0)
    assert spacing_of(PatchModel(model.network, spacing=(2.0, 3.0, 4.0)), 3) == (2.0, 3.0, 4.0)
    assert spacing_of(spaced, 2) == (1.0, 1.0)  # a spacing of other axes is none
    volume, target = case(model, 3, batch=1, size=12)
    recorder = Recorder(model)
    create("coarse-4")(Spaced(recorder, (1.0, 1.0, 4.0)), volume, target, THREAT)
    moved = torch.cat(recorder.points[1:]) - volume
    wiggles = [float(moved.diff(dim=axis).diff(dim=axis).abs().mean()) for axis in (2, 3, 4)]
    assert wiggles[2] > 5 * max(wiggles[:2])


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("name", ["coarse-2", "coarse-4", "coarse-8", "band-2", "band-4"])
def test_it_beats_noise_within_its_budget(name, dims):
    """On a model that sees means over 3 voxels along each axis, as if its input had been resampled."""
    blur = nn.AvgPool2d(3, 1, 1) if dims == 2 else nn.AvgPool3d(3, 1, 1)
    model = PatchModel(conv_model(dims).network, normalise=lambda volume: 2 * blur(volume))
    volume, target = case(model, dims, size=16)
    recorder = Recorder(model)
    result = create(name, steps=20)(recorder, volume, target, THREAT)
    ball = THREAT.ball(volume)
    noise = judge(model, model.logits(ball.sign_noise(torch.Generator().manual_seed(0))), target)
    assert result.gradients == len(recorder.points) == 20
    assert result.forwards == len(recorder.looks) + 1 <= create(name).cost(3)[1]
    assert all(bool(ball.holds(point).all()) for point in recorder.points + recorder.looks)
    assert (result.dice < result.clean_dice - 0.01).all()
    assert (result.dice < noise - 0.01).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_the_lowest_dice_of_all_evaluations_is_kept(family):
    model = conv_model(2)
    volume, target = case(model, 2, size=16)
    recorder = Recorder(model)
    result = family(steps=15)(recorder, volume, target, THREAT)
    seen = torch.stack([judge(model, model.logits(point), target) for point in recorder.points + recorder.looks])
    assert torch.equal(seen.amin(0), result.dice)


@pytest.mark.parametrize("reference", ["raw", "window"])
def test_zeros_and_limits_are_obeyed(reference):
    model = conv_model(2)
    volume, target = case(model)
    volume[:, :, :, :3] = 0.0
    threat = ThreatModel(0.3, bounds=BOUNDS, zeros=(True,), reference=reference, limits=(-1.5, 1.5))
    result = create("coarse-2")(model, volume.clamp(-1.5, 1.5), target, threat)
    assert (result.adversarial[:, :, :, :3] == 0).all()
    assert float(result.adversarial.abs().max()) <= 1.5
    assert (result.dice < result.clean_dice).all()


@pytest.mark.parametrize("factor", [1, 0.5, -2, float("nan"), float("inf")])
def test_a_factor_that_makes_no_grid_is_refused(factor):
    with pytest.raises(ValueError, match="factor must be above 1"):
        Spline(factor=factor)


def test_wrong_options_are_refused_and_names_follow_options():
    with pytest.raises(ValueError, match="steps must be at least 1"):
        Band(steps=0)
    with pytest.raises(ValueError, match="objective"):
        Band(objective="nothing")
    assert Spline(factor=3).name == "coarse-3"
    assert create("coarse-4", objective="ce") == Spline("ce", 4)
    assert create("band-8").options() == {"objective": "dice", "factor": 8, "steps": 20, "restarts": 1}
