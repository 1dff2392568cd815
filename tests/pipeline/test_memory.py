"""Too little memory: fewer windows at once, said once, and the same result."""

from __future__ import annotations

import warnings
import weakref
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
import torch

from tests.pipeline.plain_pipeline import SAME, Toy, a_predictor, a_target, a_volume, close, moved, soft_dice
from voxward.core.errors import UserError
from voxward.core.memory import lacks_memory
from voxward.pipeline import memory
from voxward.pipeline.model import PipelineModel

ON_A_CPU = "[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 B"
ON_A_GPU = "CUDA out of memory. Tried to allocate 2.00 GiB."
ERRORS = ((torch.OutOfMemoryError, ON_A_GPU), (RuntimeError, ON_A_CPU), (MemoryError, ""))
WINDOW = (4, 4, 4)


class _Graph(torch.autograd.Function):
    """The identity, which knows how many windows' graphs are alive."""

    alive: ClassVar[weakref.WeakSet[Windows]] = weakref.WeakSet()

    @staticmethod
    def forward(ctx, x):
        ctx.windows = Windows(len(x))
        _Graph.alive.add(ctx.windows)
        return x.clone()

    @staticmethod
    def backward(ctx, slope):
        return slope


class Windows:
    def __init__(self, count: int) -> None:
        self.count = count


class Hungry(Toy):
    """Raises what torch does where there is too little memory for more than so many windows at once."""

    def __init__(self, error: tuple[type[Exception], str], forward: int, gradient: int, held: int = 10**9) -> None:
        super().__init__()
        self.error, self.limits, self.held = error, {False: forward, True: gradient}, held
        self.largest = {False: 0, True: 0}

    def forward(self, x):
        graph = torch.is_grad_enabled()
        held = sum(windows.count for windows in _Graph.alive) if graph else 0
        if len(x) > self.limits[graph] or held + len(x) > self.held:
            raise self.error[0](self.error[1])
        self.largest[graph] = max(self.largest[graph], len(x))
        return super().forward(_Graph.apply(x) if graph else x)


@pytest.fixture(autouse=True)
def _forgotten(monkeypatch):
    """A process that has met no limit yet, and whose batches have many windows."""
    monkeypatch.setattr(memory.known, "most", {})
    monkeypatch.setattr(memory.known, "graphs", False)
    monkeypatch.setattr(memory.known, "told", False)
    monkeypatch.setattr("voxward.pipeline.predictor.VOXELS_PER_FORWARD", {"cpu": 7 * 64})


def _gradient(network, **options):
    case = a_volume()
    predictor = replace(a_predictor(network.double(), SAME, window=WINDOW, **options), graphs=1000)
    model = PipelineModel.freeze([predictor], case)
    return model.value_and_grad(moved(case), a_target(), soft_dice)


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("axes", [(), (0, 1)])
def test_a_prediction_needs_less_memory_and_says_so_once(error, axes):
    volume, hungry = a_volume(), Hungry(error, 2, 2)
    expected = a_predictor(Toy(), axes=axes, window=WINDOW).segment(volume)
    predictor = a_predictor(hungry, axes=axes, window=WINDOW)
    with pytest.warns(UserWarning, match="too little memory for 7 windows at once: going on with fewer") as said:
        found = predictor.segment(volume)
    assert len(said) == 1
    assert np.array_equal(found, expected)
    assert hungry.largest[False] == 1  # 7 did not fit, nor did 3
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(predictor.segment(volume), expected)


@pytest.mark.parametrize(
    ("error", "gradient", "held", "axes"),
    [(ERRORS[0], 3, 10**9, ()), (ERRORS[1], 1, 10**9, (0,)), (ERRORS[2], 7, 12, ()), (ERRORS[0], 7, 12, (0,))],
)
def test_a_gradient_needs_less_memory_and_is_the_same(error, gradient, held, axes):
    """`held`: the graphs of so many windows fit, but not those of all."""
    expected = _gradient(Toy(), axes=axes)
    hungry = Hungry(error, 4, gradient, held)
    with pytest.warns(UserWarning, match="too little memory for .*This is said once") as said:
        found = _gradient(hungry, axes=axes)
    assert len(said) == 1
    for one, other in zip(found, expected, strict=True):
        close(one, other)
    assert hungry.largest[True] <= gradient
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _gradient(hungry, axes=axes)


def test_one_window_that_does_not_fit_is_an_error_that_says_what_to_do():
    with (
        pytest.warns(UserWarning, match="too little memory"),
        pytest.raises(UserError, match="one window of 8 x 8 x 4"),
    ):
        a_predictor(Hungry((RuntimeError, ON_A_CPU), 0, 0)).segment(a_volume())


@pytest.mark.parametrize("error", [(RuntimeError, "a bug"), (ValueError, "DefaultCPUAllocator: ")])
def test_every_other_error_passes(error):
    assert not lacks_memory(error[0](error[1]))
    with pytest.raises(error[0], match=error[1]):
        a_predictor(Hungry(error, 0, 0)).segment(a_volume())
