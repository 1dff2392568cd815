"""What a hardening changes in the recipe: the method, and the size of its ball where it has one."""

import pytest

from voxward.core.recipe import Defence, load_recipe
from voxward.suites.definition import SuiteSystem
from voxward.training.harden import begun_with


@pytest.mark.parametrize(
    ("method", "eps", "expected"),
    [("pgd", None, 8 / 255), ("free", 0.02, 0.02), ("noise", None, 0.1)],
)  # fmt: skip
def test_without_a_size_a_ball_has_the_usual_one_whatever_the_run_had(method, eps, expected):
    recipe = load_recipe("dynunet", ("defence.method=trades", "defence.eps=0.1", *begun_with(method, eps)))
    assert recipe.defence.method == method
    assert recipe.defence.eps == pytest.approx(expected)


def test_a_size_that_changes_nothing_is_passed_on_to_be_refused():
    assert begun_with("noise", 0.02) == ("defence.method=noise", "defence.eps=0.02")


def test_of_a_method_that_is_none_only_the_method_is_wrong():
    """Not its settings, which a message about them would tell the user to leave out."""
    assert Defence("fre").unused(["eps", "steps", "sigma"]) == []
    assert begun_with("fre", None) == ("defence.method=fre", f"defence.eps={8 / 255!r}")
    assert SuiteSystem(harden="rog", method="fre", eps=0.02).problems() == []


def test_a_suite_refuses_it_too():
    assert SuiteSystem(harden="rog", method="noise").problems() == []
    assert SuiteSystem(harden="rog", method="noise").defence == ("noise", None)
    assert SuiteSystem(harden="rog", method="pgd").defence == ("pgd", Defence().eps)
    (problem,) = SuiteSystem(harden="rog", method="noise", eps=0.02).problems()
    assert "the method noise does not use it" in problem
