from dataclasses import dataclass
from functools import partial

import pytest

from voxward.attacks.registry import ATTACKS
from voxward.core.errors import UserError
from voxward.core.registry import Registry
from voxward.losses.registry import LOSSES, REGION_LOSSES
from voxward.nets.registry import NETWORKS, check_network
from voxward.training.optim import OPTIMIZERS
from voxward.training.schedule import SCHEDULES


@dataclass(frozen=True)
class Box:
    edge: int
    corner: float = 1.0

    def __post_init__(self):
        if self.corner < 0:
            raise UserError(f"corner must be at least 0, got {self.corner}")
        if self.corner > 9:
            raise ValueError("too large")


BOXES = Registry("box", {"box": Box, "sharp": partial(Box, corner=0.0), "any": dict, "pair": lambda a, b=2: (a, b)})


def test_a_member_is_made_of_its_options():
    assert BOXES.build("box", edge=2) == Box(2)
    assert BOXES.build("sharp", edge=2) == Box(2, 0.0)
    assert BOXES.build("any", name=1, family=2) == {"name": 1, "family": 2}


def test_what_the_program_gives_is_no_option():
    assert BOXES.build("pair", 1, b=3) == (1, 3)
    with pytest.raises(UserError, match="box 'pair' has no option a; it has: b"):
        BOXES.build("pair", 1, a=3)


@pytest.mark.parametrize(
    ("name", "options", "fault"),
    [
        ("bx", {}, r"unknown box 'bx'\. Did you mean 'box'\? Known: any, box, pair, sharp"),
        ("box", {"edge": 1, "colour": 2}, "box 'box' has no option colour; it has: edge, corner"),
        ("sharp", {"edge": 1, "corner": 2.0}, "box 'sharp' has no option corner; it has: edge"),
        ("box", {}, "box 'box' needs the option edge"),
        ("box", {"edge": None}, "box 'box' needs the option edge"),
        ("box", {"edge": 1, "corner": -1.0}, "^corner must be at least 0, got -1.0"),
        ("box", {"edge": 1, "corner": 10.0}, "box 'box' with the options .*'corner': 10.0.*: too large"),
        ("box", {"edge": 1, "corner": "x"}, "box 'box' with the options .*'corner': 'x'"),
    ],
)
def test_wrong_names_options_and_values_are_named(name, options, fault):
    with pytest.raises(UserError, match=fault):
        BOXES.build(name, **options)


def test_a_missing_option_is_named_as_the_recipe_writes_it():
    with pytest.raises(UserError, match=r"needs the option edge \(recipe: parts.box.edge\)"):
        Registry("box", {"box": Box}, "parts.box").build("box")


FAMILIES = {"attack": ATTACKS, "loss": LOSSES, "loss of regions": REGION_LOSSES, "optimizer": OPTIMIZERS,
            "schedule": SCHEDULES}  # fmt: skip


@pytest.mark.parametrize(("family", "name"), [(family, name) for family, table in FAMILIES.items() for name in table])
def test_every_family_refuses_an_option_that_a_member_does_not_have(family, name):
    with pytest.raises(UserError, match=f"{family} '{name}' has no option colour; it has: "):
        FAMILIES[family].build(name, *[[]] * (family == "optimizer"), colour=1)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_refuses_an_option_that_it_does_not_have(name):
    with pytest.raises(UserError, match=f"network '{name}' has no option colour; it has: "):
        check_network(name, {"colour": 1})
