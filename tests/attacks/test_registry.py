"""What every attack promises, whatever it is."""

import warnings
from dataclasses import replace

import pytest
import torch

from tests.attacks.samples import RUN, cheap
from tests.attacks.toys import THREAT, case, conv_model
from voxward.attacks import ensemble, objectives
from voxward.attacks.apgd import APGD
from voxward.attacks.budget import Budget
from voxward.attacks.criteria import judge
from voxward.attacks.ensemble import ENSEMBLES
from voxward.attacks.registry import ATTACKS, OWN_BUDGET, create, create_with, describe


@pytest.mark.parametrize("name", RUN)
def test_every_attack_keeps_its_promises(name):
    model = conv_model(2, classes=3)
    volume, target = case(model, batch=2)
    kept = volume.clone()
    attack = cheap(name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = attack(model, volume, target, THREAT, seed=3)
        again = attack(model, volume, target, THREAT, seed=3)
    ball = THREAT.ball(volume)
    assert torch.equal(volume, kept)
    assert result.attack == attack.name
    assert ball.holds(result.adversarial).all()
    assert (result.dice <= result.clean_dice).all()
    assert torch.equal(result.dice, judge(model, model.logits(result.adversarial), target))
    assert torch.equal(result.adversarial, again.adversarial)
    assert (result.history.diff(dim=1) <= 0).all()
    assert all(parameter.grad is None for parameter in model.network.parameters())
    gradients, forwards = attack.cost(3)
    assert result.gradients <= gradients
    assert result.forwards <= forwards
    assert result.gradients + result.forwards >= 3


@pytest.mark.parametrize("name", RUN)
def test_nothing_is_changed_where_nothing_may_be(name):
    model = conv_model(2, classes=3)
    volume, target = case(model, batch=1)
    result = cheap(name)(model, volume, target, THREAT.with_eps(0.0))
    assert torch.equal(result.adversarial, volume)
    assert torch.equal(result.dice, result.clean_dice)


@pytest.mark.parametrize("name", ["apgd-dice", "pgd-ce", "square", "fab-dice", "fgsm-ce"])
@pytest.mark.parametrize("reference", ["raw", "window"])
def test_zeros_that_are_background_stay_zero(name, reference):
    model = conv_model(2, classes=3)
    volume, target = case(model, batch=2)
    volume[:, :, :, :3] = 0.0
    threat = replace(THREAT, zeros=(True,), reference=reference)
    result = cheap(name)(model, volume, target, threat)
    assert (result.adversarial[:, :, :, :3] == 0).all()
    assert (result.adversarial[:, :, :, 3:] != volume[:, :, :, 3:]).any()
    noise = threat.ball(volume).sign_noise(torch.Generator().manual_seed(0))
    assert (noise[:, :, :, :3] == 0).all()


def test_zeros_must_be_one_per_channel():
    volume, _ = case(conv_model())
    with pytest.raises(ValueError, match="zeros must be empty or one per channel"):
        type(THREAT)(0.1, bounds=THREAT.bounds, zeros=(True, False)).ball(volume)


def test_a_network_that_cuts_its_input_off_has_no_gradient():
    model = conv_model(2, classes=3)
    volume, target = case(model)

    class Detached(torch.nn.Module):
        def forward(self, x):
            return model.network(x.detach())

    cut = type(model)(Detached())
    assert not cut.value_and_grad(volume, target, lambda z, y: z.flatten(1).sum(1))[2].any()
    with pytest.warns(UserWarning, match="nothing was learnt"):
        result = create("apgd-ce", steps=12)(cut, volume, target, THREAT)
    assert (result.dice <= result.clean_dice).all()


SPENT = Budget(steps=11, restarts=2, queries=13, fab_steps=5, threshold=0.25)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("fgsm-ce", {}),
        ("ifgsm-dice", {"steps": 11}),
        ("pgd-ce", {"steps": 11, "restarts": 2}),
        ("segpgd", {"steps": 11, "restarts": 2}),
        ("cospgd", {"steps": 11, "restarts": 2}),
        ("apgd-dlr", {"steps": 11, "restarts": 2}),
        ("apgd-jsd-radii", {"steps": 11, "restarts": 2}),
        ("fab-t", {"steps": 5, "threshold": 0.25}),
        ("fab-dice", {"steps": 5, "threshold": 0.25}),
        ("square", {"queries": 13}),
        ("autoattack", {"steps": 11, "restarts": 2, "queries": 13, "fab_steps": 5, "threshold": 0.25}),
        ("strong", {"steps": 11}),
        ("fast", {}),
        ("blade-300", {}),
    ],
)
def test_an_attack_takes_its_part_of_a_budget(name, options):
    assert create_with(name, SPENT) == create(name, **options)


@pytest.mark.parametrize("name", list(ATTACKS))
def test_every_attack_has_an_instance_for_a_budget(name):
    attack = create_with(name, SPENT)
    assert attack.name == name


def test_attacks_that_are_named_after_their_budget_keep_to_it():
    """900 gradients of SEA, 300 of Tsallis-PGD, from random starts and as published, whatever a protocol says."""
    expected = [
        APGD(objective, 300, radii=(2.0, 1.5, 1.0), start="random") for objective in ("masked-ce", "balanced-ce", "jsd")
    ]
    for sea in (create("sea-300"), create_with("sea-300", SPENT)):
        assert list(sea.members(3).values()) == expected
        assert sea.cost(3)[0] == 900
    assert list(ensemble.members_of("sea-300", 3, SPENT).values()) == expected
    tsallis = create_with("tsallis-300", SPENT)
    assert (tsallis.objective, tsallis.start, tsallis.radii, tsallis.cost(3)[0]) == ("tsallis", "random", (), 300)
    for name, member in (("sea-300", sea.members(3)), ("tsallis-300", {"tsallis-300": tsallis})):
        for key, attack in OWN_BUDGET[name].items():  # the same within a budget
            free = create_with(attack, Budget(steps=300), start="random")
            assert {**free.options(), "steps": 300} == member[key].options()
    for name in OWN_BUDGET:
        with pytest.raises(ValueError, match=f"'{name}' spends what its name says and has no option 'steps'"):
            create(name, steps=20)


@pytest.mark.parametrize("name", list(ATTACKS))
def test_twice_a_budget_is_at_least_twice_the_gradients_and_queries(name):
    once, twice = (one.cost(3) for one in (cheap(name), cheap(name).doubled()))
    searched = 0 if once[0] else 1  # a search without gradients spends forward passes
    assert twice[searched] >= 1.5 * once[searched]
    assert type(cheap(name).doubled()) is type(cheap(name)) or name.startswith("fgsm")


@pytest.mark.parametrize(
    ("attack", "spent"),
    [
        (create("apgd-dice-radii", steps=20, restarts=3), {"steps": 40, "restarts": 3}),
        (create("square", queries=500, share=0.5), {"queries": 1000, "share": 0.5}),
        (create("fab-dice", steps=7, threshold=0.25), {"steps": 14, "threshold": 0.25}),
        (create("ifgsm-ce", steps=5, alpha=0.01), {"steps": 10, "alpha": 0.01}),
    ],
)
def test_twice_a_budget_changes_nothing_else(attack, spent):
    assert attack.doubled() == replace(attack, **spent)


def test_twice_a_step_is_two_steps_on_the_same_objective():
    """FGSM always takes one step: run again as it is, it would always look as if it had come to rest."""
    assert create("fgsm-dice").doubled() == create("ifgsm-dice", steps=2)


@pytest.mark.parametrize(("lines", "names"), [(describe(), ATTACKS), (ensemble.describe(), ENSEMBLES),
                                              (objectives.describe(), objectives.OBJECTIVES)])  # fmt: skip
def test_every_name_has_one_line_of_its_own(lines, names):
    assert list(lines) == list(names)
    assert all(line.strip() and "\n" not in line for line in lines.values())
    assert len(set(lines.values())) == len(lines)
