import re

import pytest

from voxward.core.recipe.search import Search


def test_the_defaults_are_legal_and_the_paper_s():
    search = Search()
    assert search.problems() == []
    assert (search.layers, search.scales, search.blocks, search.part, search.epochs) == (10, 5, 3, 4, 40)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"layers": 3}, "scales must be at most 2, which 3 layers can reach, got 5"),
        ({"part": 0}, "part must be at least 1, got 0"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"warmup_epochs": 21}, "warmup_epochs must be at most cell_epochs = 20, got 21"),
        ({"cell_epochs": 0, "network_epochs": 0, "warmup_epochs": 0}, "at least 1 together"),
        ({"lr": (0.1, 0.0)}, "lr must be positive, got 0.0"),
        ({"momentum": 1.0}, r"momentum must be in \[0, 1\), got 1.0"),
        ({"temperature": 0.0}, "temperature must be positive"),
        ({"budget_gmac": -1.0}, "budget_gmac must be positive"),
        ({"adversarial_eps": 2.0}, r"adversarial_eps must be in \[0, 1\], got 2.0"),
        ({"weight_decay": -1.0}, "weight_decay must not be negative"),
        ({"arch_weight_decay": -1.0}, "arch_weight_decay must not be negative"),
        ({"entropy_weight": -1.0}, "entropy_weight must not be negative, got -1.0"),
    ],
)
def test_what_is_out_of_range_is_said(change, problem):
    assert any(re.search(problem, found) for found in Search(**change).problems())
