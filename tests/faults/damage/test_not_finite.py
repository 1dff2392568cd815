"""A loss or weights that are not finite stop a training; what was good is kept, and the cases are named."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric
from safetensors.torch import load_file
from torch import nn

from tests.faults.damage.conftest import TINY
from voxward.architecture_search.loop import SearchSitting
from voxward.commands.search import search
from voxward.commands.train import train
from voxward.core.strategy import Strategy
from voxward.data.loader import PatchBatch
from voxward.runs.folder import RunFolder, read_state
from voxward.training import loop
from voxward.training.finite import EVERY, LossWatch
from voxward.training.loop import TrainingSitting
from voxward.training.steps import StandardStep, StepInput

HARDENED = ("defence.method=pgd", "defence.steps=1")


def poisoned(monkeypatch: pytest.MonkeyPatch, number: int) -> list[tuple[str, ...]]:
    """Fill the images of the batch of one step (counted from 0) with NaN; returns the cases of all batches."""
    seen: list[tuple[str, ...]] = []
    learn = TrainingSitting._learn

    def noting(self: TrainingSitting, batch: PatchBatch) -> None:
        seen.append(batch.ids)
        learn(self, batch)

    def spoilt(images: torch.Tensor, *rest: Any) -> StepInput:
        batch = StepInput(images, *rest)
        return replace(batch, images=images * torch.nan) if batch.number == number else batch

    monkeypatch.setattr(TrainingSitting, "_learn", noting)
    monkeypatch.setattr(loop, "StepInput", spoilt)
    return seen


def values(folder: RunFolder) -> dict[str, torch.Tensor]:
    return load_file(folder.weights("last")) | {f"best.{k}": v for k, v in load_file(folder.weights("best")).items()}


@pytest.mark.slow
@pytest.mark.usefixtures("blank_pages")
@pytest.mark.parametrize("extra", [(), ("training.clip_gradient_norm=1",), HARDENED])
def test_a_loss_that_is_not_finite_stops_the_training_and_names_the_cases(
    phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, extra: tuple[str, ...]
) -> None:
    folder, overrides = RunFolder(tmp_path / "run"), (*TINY, *extra)
    with monkeypatch.context() as patch:
        seen = poisoned(patch, 4)
        with pytest.raises(FloatingPointError, match=r"the training loss is nan|the norm of the gradients") as caught:
            train(phantoms, out=folder.root, recipe="dynunet", overrides=overrides)
    saved = read_state(folder.state)["state"]["step"]
    said = str(caught.value)
    assert "at step 5, " in said
    assert f"patches of {', '.join(seen[4])}." in said
    assert f"{folder.root} holds the state of step {saved}, from which --resume goes on" in said
    assert 0 < saved < 5
    assert all(value.isfinite().all() for value in values(folder).values() if value.is_floating_point())
    train(phantoms, out=folder.root, resume=True)
    train(phantoms, out=tmp_path / "undisturbed", recipe="dynunet", overrides=overrides)
    wanted = values(RunFolder(tmp_path / "undisturbed"))
    assert all(torch.equal(value, wanted[name]) for name, value in values(folder).items())


@pytest.mark.slow
@pytest.mark.usefixtures("blank_pages")
def test_weights_that_are_not_finite_are_never_saved(
    phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last update before a validation may spoil the weights while every loss was finite."""
    folder, step = RunFolder(tmp_path / "run"), StandardStep.__call__
    every = 3  # the steps of an epoch

    def spoiling(self: StandardStep, batch: StepInput) -> torch.Tensor:
        figures = step(self, batch)
        if batch.number == 2 * every - 1:
            with torch.no_grad():
                next(self.learner.network.parameters()).view(-1)[0] = float("inf")
        return figures

    monkeypatch.setattr(StandardStep, "__call__", spoiling)
    with pytest.raises(FloatingPointError, match=f"weights of the network are not finite at step {2 * every}, "):
        train(phantoms, out=folder.root, recipe="dynunet", overrides=TINY)
    assert read_state(folder.state)["state"]["step"] == every
    assert all(value.isfinite().all() for value in values(folder).values())


class _Two(Fabric):
    """The first of two processes; the other one's values are `others`."""

    world_size = property(lambda self: 2)

    def __init__(self, others: list[torch.Tensor]) -> None:
        super().__init__(accelerator="cpu", devices=1)
        self.others = others

    def all_gather(self, data: torch.Tensor) -> torch.Tensor:
        return torch.stack([data, self.others.pop(0)])


def test_several_processes_stop_at_the_same_step_and_name_the_cases_of_both() -> None:
    losses = torch.ones(EVERY)
    losses[3] = torch.inf
    watch = LossWatch(Path("run"), tuple("abcdef"), _Two([losses, torch.tensor([4, 5])]), 0)
    for step in range(1, EVERY):
        watch.note(step, ("a", "b") if step == 4 else ("c", "c"), torch.tensor(1.0))
    said = re.escape("loss is inf at step 4, whose batch holds patches of a, b, e, f.")
    with pytest.raises(FloatingPointError, match=said):
        watch.note(EVERY, ("c", "c"), torch.tensor(1.0))


def test_losses_are_looked_at_before_anything_is_saved() -> None:
    watch = LossWatch(Path("run"), ("a", "b"), _Two([torch.ones(2), torch.tensor([1])]), 7)
    watch.note(8, ("a",), torch.tensor(1.0))
    watch.note(9, ("b",), torch.tensor(torch.nan))
    with pytest.raises(FloatingPointError, match=r"loss is nan at step 9, .* patches of b\..* the state of step 7"):
        watch.check(nn.Linear(1, 1))


@pytest.mark.slow
@pytest.mark.usefixtures("blank_pages")
def test_a_search_stops_and_goes_on(phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    overrides = (
        "training.workers=0", "training.precision=fp32", "preparation.batch_size=2", "preparation.slice_size=[16,16]",
        "network.options.filters=2", "search.layers=2", "search.scales=2", "search.blocks=2", "search.part=2",
        "search.steps_per_epoch=2", "search.warmup_epochs=1", "search.cell_epochs=2", "search.network_epochs=1",
    )  # fmt: skip
    learnt = SearchSitting.learnt
    folder = RunFolder(tmp_path / "out")

    def spoiling(self: SearchSitting, batch: PatchBatch) -> torch.Tensor:
        loss = learnt(self, batch)
        return loss * torch.nan if batch.step == 3 else loss

    with monkeypatch.context() as patch:
        patch.setattr(SearchSitting, "learnt", spoiling)
        with pytest.raises(FloatingPointError, match="weight loss is nan at step 4, whose batch holds patches of phan"):
            search(phantoms, out=folder.root, recipe="msnas-2d", overrides=overrides, strategy=Strategy(paths=(1,)))
    net = read_state(folder.state)["bilevel"]["net"]
    assert all(value.isfinite().all() for value in net.values() if value.is_floating_point())
    search(phantoms, out=folder.root, resume=True)
