"""An attack that learnt nothing from the gradient says so; one on an honest model says nothing."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import Tensor, nn

from voxward.attacks.masking import reached, usable
from voxward.attacks.registry import ATTACKS, OWN_BUDGET, create
from voxward.attacks.threat import ThreatModel
from voxward.attacks.transfer import Transfer
from voxward.core.model import PatchModel

THREAT = ThreatModel(eps=16 / 255, bounds=((0.0, 1.0),))
GRADIENT = [
    "fgsm-ce",
    "ifgsm-dice",
    "pgd-ce",
    "apgd-ce",
    "apgd-dice",
    "apgd-margin",
    "segpgd",
    "cospgd",
    "fab-dice",
    "fab-t",
    "coarse-2",
    "band-2",
    "strong",
]


def scene(cases: int = 1) -> tuple[Tensor, Tensor]:
    """A ball a little brighter than 0.5 in a background a little darker."""
    axis = torch.arange(10.0) - 4.5
    inside = (axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2 < 12).expand(cases, 10, 10, 10)
    noise = torch.rand(inside.shape, generator=torch.Generator().manual_seed(0)) - 0.5
    return (0.48 + 0.04 * inside + 0.01 * noise)[:, None], inside.long()


class Smooth(nn.Module):
    """Logits (-z, z) of the mean brightness around each voxel, in which a subclass spoils z."""

    scale = 50.0

    def forward(self, volume: Tensor) -> Tensor:
        z = self.spoil(self.scale * (nn.functional.avg_pool3d(volume[:, :1], 3, 1, 1, count_include_pad=False) - 0.5))
        return torch.cat([-z, z], 1)

    def spoil(self, z: Tensor) -> Tensor:
        return z


class Rounded(Smooth):
    def spoil(self, z: Tensor) -> Tensor:
        return z.round()


class Argmax(Smooth):
    def spoil(self, z: Tensor) -> Tensor:
        return (z > 0).to(z) - 0.5


class Detached(Smooth):
    def spoil(self, z: Tensor) -> Tensor:
        return z.detach() + 0 * z


class HalfDetached(Smooth):
    def spoil(self, z: Tensor) -> Tensor:
        return torch.cat([z[:, :, :5].detach(), z[:, :, 5:]], 2)


class SecondCaseDetached(Smooth):
    def spoil(self, z: Tensor) -> Tensor:
        return torch.cat([z[:1], z[1:].detach()])


class Seldom(Smooth):
    """The gradient arrives at every fifth call only."""

    calls = 0

    def spoil(self, z: Tensor) -> Tensor:
        self.calls += 1
        return z if self.calls % 5 == 0 else z.detach() + 0 * z


class _Replaced(torch.autograd.Function):
    @staticmethod
    def forward(ctx, z: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return z.clone()

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        return torch.full_like(grad, ctx.factor), None


class NaNGradient(Smooth):
    def spoil(self, z: Tensor) -> Tensor:
        return _Replaced.apply(z, float("nan"))


class Constant(Smooth):
    """A gradient that has nothing to do with the loss; the mask depends on differences in brightness only."""

    def spoil(self, z: Tensor) -> Tensor:
        return _Replaced.apply(z - z.detach().mean((1, 2, 3, 4), keepdim=True), 1.0)


class Random(Smooth):
    def spoil(self, z: Tensor) -> Tensor:
        return nn.functional.dropout(z, 0.5, training=True)


class Huge(Smooth):
    scale = 1e6


class OneChannel(Smooth):
    pass


def attacked(network: nn.Module, attack: str = "apgd-ce", cases: int = 1, channels: int = 1):
    volume, target = scene(cases)
    options = {} if attack.startswith("fgsm") else {"steps": 12}
    bounded = ThreatModel(eps=16 / 255, bounds=((0.0, 1.0),) * channels)
    return create(attack, **options)(
        PatchModel(network), volume.expand(-1, channels, -1, -1, -1), target, bounded, warn=False
    )


@pytest.mark.parametrize("attack", GRADIENT)
@pytest.mark.parametrize("network", [Rounded, Argmax, Detached, NaNGradient])
def test_a_gradient_of_0_is_named_by_every_gradient_attack(network, attack):
    found = attacked(network(), attack)
    assert any("0 in every step for 1 of 1 cases: nothing was learnt from this attack" in w for w in found.warnings)


@pytest.mark.parametrize("attack", GRADIENT)
def test_an_honest_model_gives_no_warning(attack):
    found = attacked(Smooth(), attack)
    assert found.warnings == ()
    assert float(found.dice) < 0.5 * float(found.clean_dice)


def test_the_warning_is_a_python_warning_too():
    volume, target = scene()
    with pytest.warns(UserWarning, match="pgd-ce: the gradient was 0 in every step for 1 of 1 cases"):
        create("pgd-ce", steps=3)(PatchModel(Rounded()), volume, target, THREAT)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        create("pgd-ce", steps=3)(PatchModel(Smooth()), volume, target, THREAT)


def test_only_the_masked_cases_of_a_batch_are_counted():
    found = attacked(SecondCaseDetached(), cases=3)
    assert next(w for w in found.warnings if "every step" in w).startswith(
        "apgd-ce: the gradient was 0 in every step for 2 of 3 cases"
    )
    assert found.dice[0] < 0.5 * found.clean_dice[0]


def test_a_case_that_is_lost_already_hides_no_masked_one():
    volume, target = scene(2)
    target = torch.stack([target[0], 1 - PatchModel(Rounded()).segment(PatchModel(Rounded()).logits(volume))[1]])
    found = create("fast")(PatchModel(Rounded()), volume, target, THREAT, warn=False)
    assert float(found.clean_dice[1]) == 0 < float(found.clean_dice[0])
    assert any("0 in every step for 1 of 2 cases" in w for w in found.warnings)


def test_a_gradient_that_is_mostly_0_is_named():
    assert any("0 in most steps for 1 of 1 cases" in w for w in attacked(Seldom()).warnings)


def test_a_part_of_the_foreground_without_gradient_is_named():
    assert any("at 25 % of the foreground voxels or more" in w for w in attacked(HalfDetached()).warnings)


def test_a_channel_without_gradient_is_named():
    (said,) = attacked(OneChannel(), channels=2).warnings
    assert "no gradient arrived at channel 1 for 1 of 1 cases" in said


def test_a_gradient_that_is_not_the_models_own_is_named():
    (said,) = attacked(Constant()).warnings
    assert "neither did the objective rise nor the Dice fall for 1 of 1 cases" in said


@pytest.mark.parametrize("attack", ["fgsm-ce", "pgd-ce", "apgd-dice", "segpgd", "fab-dice"])
def test_a_random_model_is_named(attack):
    assert any("the model answers at random" in w for w in attacked(Random(), attack).warnings)


def test_a_saturated_softmax_is_named_where_it_matters():
    """The soft Dice has no gradient left there, and the margin, which works, needs no warning."""
    weak, strong = attacked(Huge(), "apgd-dice"), attacked(Huge(), "apgd-margin")
    assert any("the softmax is saturated" in w for w in weak.warnings)
    assert strong.warnings == ()
    assert float(strong.dice) < 0.3 < 0.8 < float(weak.dice)


def test_a_volume_with_nan_logits_is_no_success():
    class Fails(Smooth):
        def forward(self, volume: Tensor) -> Tensor:
            logits = super().forward(volume)
            return logits * float("nan") if float((volume.detach() - scene()[0]).abs().max()) > 0.05 else logits

    found = attacked(Fails(), "fgsm-ce")
    assert torch.equal(found.dice, found.clean_dice)
    assert "NaN or infinite logits 1 times, and these volumes were not counted" in found.warnings[-1]


def test_members_of_an_ensemble_speak_for_themselves():
    volume, target = scene()
    attack = create("autoattack", steps=10, queries=5, fab_steps=2)
    said = attack(PatchModel(Rounded()), volume, target, THREAT, warn=False).warnings
    assert {w.partition(":")[0] for w in said} == {"apgd-ce", "apgd-margin", "fab-t"}


def test_a_surrogate_without_gradient_is_named():
    volume, target = scene()
    attack = Transfer(create("pgd-ce", steps=3), PatchModel(Rounded()))
    (said,) = attack(PatchModel(Smooth()), volume, target, THREAT, warn=False).warnings
    assert said.startswith("on the surrogate, pgd-ce: the gradient was 0 in every step")


def test_every_attack_that_needs_gradients_is_tested_by_its_family():
    families = {name.partition("-")[0] for name in GRADIENT}
    # Those whose budgets are fixed are made of the others: a ladder, or searches of APGD.
    fixed = {name.partition("-")[0] for name in OWN_BUDGET}
    assert {name.partition("-")[0] for name in ATTACKS} - families - fixed == {"square", "autoattack"}


def test_reached_counts_only_numbers_that_can_be_used():
    gradient = torch.tensor([[[1.0, 0.0, float("nan"), float("inf")]], [[0.0, 0.0, 0.0, 0.0]]])
    assert reached(gradient).tolist() == [0.25, 0.0]
    mended = usable(gradient)
    assert mended[0, 0, :3].tolist() == [1.0, 0.0, 0.0]
    assert torch.isfinite(mended.norm())
