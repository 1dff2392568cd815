"""A recipe that averages its weights: restarts, snapshots and the checkpoint, interrupted or not."""

import copy
import sys

import pytest
import torch
from safetensors.torch import load_file
from torch.optim.swa_utils import update_bn

from tests.end_to_end.build import changes
from tests.end_to_end.conftest import TINY
from tests.end_to_end.test_train import StopAt, _same_run
from voxward.commands.predict import predict
from voxward.commands.train import train
from voxward.core.interrupt import Interrupted
from voxward.core.plan import load_json
from voxward.core.recipe import load_recipe
from voxward.data.loader import PatchDataset, patch_batches
from voxward.runs.folder import RunFolder, RunSplit, load_run
from voxward.training.averaging import WeightAverage
from voxward.training.log import read_log

AVERAGED = (
    *TINY, "training.epochs=4", "averaging.start=0.5", "averaging.restarts=2", "averaging.snapshots=2",
    "averaging.optimizer=sgd",
)  # fmt: skip


@pytest.fixture(scope="module")
def averaged(phantoms, tmp_path_factory):
    """The run, and the weights at each snapshot."""
    noted = []
    add = WeightAverage.add

    def note(self):
        noted.append({name: value.detach().clone() for name, value in self._parameters().items()})
        add(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(WeightAverage, "add", note)
        run = train(phantoms, out=tmp_path_factory.mktemp("averaged") / "run", recipe="dynunet", overrides=AVERAGED)
    return run, noted


def test_swa_is_the_equal_mean_of_the_snapshots(averaged):
    run, noted = averaged
    mean = load_file(RunFolder(run).weights("swa"))
    assert len(noted) == 4
    for name in noted[0]:
        expected = torch.stack([snapshot[name] for snapshot in noted]).mean(0)
        torch.testing.assert_close(mean[name], expected, rtol=1e-5, atol=1e-6)
    assert not torch.equal(mean[name], load_file(RunFolder(run).weights("last"))[name])


def test_the_rate_restarts_at_half_with_another_optimizer(averaged):
    rows, recipe = read_log(RunFolder(averaged[0]).log), load_recipe(RunFolder(averaged[0]).recipe)
    rate, total = recipe.optimizer.options["lr"], rows[-1]["step"]
    begun = [row for row in rows if row["step"] > total / 2]
    assert len(begun) == 2
    for row in begun:
        assert row["learning_rate"] == pytest.approx(rate * recipe.averaging.factor((row["step"] - 1) / total))
    (group,) = torch.load(RunFolder(averaged[0]).state, weights_only=True)["optimizer"]["param_groups"]
    assert "momentum" in group  # SGD's; Adam's are called betas


def test_a_run_killed_before_the_mean_was_written_is_ended_by_resuming_it(phantoms, averaged, tmp_path, monkeypatch):
    def killed(run):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(sys.modules["voxward.training.loop"], "save_average", killed)
        with pytest.raises(KeyboardInterrupt):
            train(phantoms, out=tmp_path / "run", recipe="dynunet", overrides=AVERAGED)
    train(phantoms, out=tmp_path / "run", resume=True)
    first, second = (load_file(RunFolder(run).weights("swa")) for run in (tmp_path / "run", averaged[0]))
    assert all(torch.equal(first[name], second[name]) for name in first)


def _left_as_found(run):
    """Values, modes and momenta of a network."""
    parts = list(run.network.modules())
    values = copy.deepcopy(run.network.state_dict())
    return values, [part.training for part in parts], [getattr(part, "momentum", None) for part in parts]


def test_batch_norms_get_the_statistics_of_the_mean(phantoms, tmp_path, monkeypatch):
    """Those of torch.optim.swa_utils.update_bn over one patch per training case; the network keeps its own."""
    module = sys.modules["voxward.training.loop"]
    found, save_average = [], module.save_average

    def noted(run):
        found.append(_left_as_found(run))
        save_average(run)
        found.append(_left_as_found(run))

    monkeypatch.setattr(module, "save_average", noted)
    network = "network={name: resdsn, options: {channels: [2, 4, 4, 4], auxiliary: false}}"
    overrides = (*TINY, network, "averaging.start=0.5", "averaging.restarts=1", "averaging.snapshots=2")
    run = train(phantoms, out=tmp_path / "run", recipe="dynunet", overrides=(*overrides, "postprocessing.kind=none"))
    (before, *as_before), (after, *as_after) = found
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert as_before == as_after

    model, split = load_run(run, "swa"), load_json(RunSplit, RunFolder(run).splits)
    saved, plan = copy.deepcopy(model.network.state_dict()), model.plan
    size, steps = plan.batch_size, len(split.fit) // plan.batch_size
    sampling = load_recipe(RunFolder(run).recipe).sampling
    batches = patch_batches(
        PatchDataset(run / "prepared", split.fit, plan, sampling, 0), batch_size=size, first_step=0, last_step=steps,
        workers=0,
    )  # fmt: skip
    first = [(outer - inner) // 2 for outer, inner in zip(plan.source_size, plan.patch_size, strict=True)]
    i, j, k = (slice(start, start + length) for start, length in zip(first, plan.patch_size, strict=True))
    update_bn([batch.images[:, :, i, j, k] for batch in batches], model.network)
    expected = model.network.state_dict()
    names = [name for name in expected if "running" in name]
    assert names
    for name in names:
        torch.testing.assert_close(saved[name], expected[name], rtol=1e-4, atol=1e-5)
    last = load_file(RunFolder(run).weights("last"))
    assert not any(torch.allclose(saved[name], last[name], rtol=1e-2) for name in names)


@pytest.mark.parametrize("step", [3, 7])
def test_resume_equals_uninterrupted(phantoms, averaged, tmp_path, step):
    """Stopped before the first restart, and inside a cycle."""
    with pytest.raises(Interrupted):
        train(phantoms, out=tmp_path / "run", recipe="dynunet", overrides=AVERAGED, progress=StopAt(step))
    train(phantoms, out=tmp_path / "run", resume=True)
    _same_run(tmp_path / "run", averaged[0])
    first, second = (load_file(RunFolder(run).weights("swa")) for run in (tmp_path / "run", averaged[0]))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_mean_predicts(phantoms, averaged, tmp_path):
    image = next((phantoms / "imagesTr").iterdir())
    assert predict(averaged[0], image, out=tmp_path, device="cpu", overrides=changes(checkpoint="swa"))[0].is_file()


def test_a_run_without_averaging_has_no_such_checkpoint(phantoms, trained, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"swa\.safetensors"):
        predict(
            trained,
            next((phantoms / "imagesTr").iterdir()),
            out=tmp_path,
            device="cpu",
            overrides=changes(checkpoint="swa"),
        )


def test_unknown_optimizers_of_restarts_are_refused(phantoms, tmp_path):
    with pytest.raises(ValueError, match="unknown optimizer 'adan'"):
        train(phantoms, out=tmp_path / "run", recipe="dynunet", overrides=(*AVERAGED, "averaging.optimizer=adan"))
    assert not (tmp_path / "run").exists()


def test_a_mean_that_is_never_made_cannot_be_deployed(phantoms, tmp_path):
    with pytest.raises(ValueError, match="needs the recipe's part averaging"):
        train(phantoms, out=tmp_path / "run", recipe="dynunet", overrides=(*TINY, "inference.checkpoint=swa"))
    assert not (tmp_path / "run").exists()
