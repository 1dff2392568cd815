"""A recipe that averages its weights: restarts, snapshots and the checkpoint, interrupted or not."""

import pytest
import torch
from safetensors.torch import load_file

from tests.end_to_end.conftest import TINY
from tests.end_to_end.test_train import StopAt, _same_run
from voxward.commands.predict import predict
from voxward.commands.train import train
from voxward.inference.run_folder import RunFolder, load_run
from voxward.training.averaging import WeightAverage
from voxward.training.interrupt import Interrupted
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
        run = train(phantoms, tmp_path_factory.mktemp("averaged") / "run", "dynunet", overrides=AVERAGED)
    return run, noted


def test_swa_is_the_equal_mean_of_the_snapshots(averaged):
    run, noted = averaged
    mean = load_file(RunFolder(run).weights("swa"))
    assert len(noted) == 4
    for name in noted[0]:
        expected = torch.stack([snapshot[name] for snapshot in noted]).mean(0)
        torch.testing.assert_close(mean[name], expected, rtol=1e-5, atol=1e-6)
    assert not torch.equal(mean[name], load_file(RunFolder(run).weights("last"))[name])


def test_the_rate_restarts_at_half(averaged):
    rates = [row["learning_rate"] for row in read_log(RunFolder(averaged[0]).log)]
    first = load_run(averaged[0]).recipe.optimizer.options["lr"]
    assert max(rates[len(rates) // 2 :]) <= first / 2


@pytest.mark.parametrize("step", [3, 7])
def test_resume_equals_uninterrupted(phantoms, averaged, tmp_path, step):
    """Stopped before the first restart, and inside a cycle."""
    with pytest.raises(Interrupted):
        train(phantoms, tmp_path / "run", "dynunet", overrides=AVERAGED, progress=StopAt(step))
    train(phantoms, tmp_path / "run", resume=True)
    _same_run(tmp_path / "run", averaged[0])
    first, second = (load_file(RunFolder(run).weights("swa")) for run in (tmp_path / "run", averaged[0]))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_mean_predicts(phantoms, averaged, tmp_path):
    image = next((phantoms / "imagesTr").iterdir())
    assert predict(averaged[0], image, tmp_path, checkpoint="swa", device="cpu")[0].is_file()


def test_a_run_without_averaging_has_no_such_checkpoint(phantoms, trained, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"swa\.safetensors"):
        predict(trained, next((phantoms / "imagesTr").iterdir()), tmp_path, checkpoint="swa", device="cpu")


def test_unknown_optimizers_of_restarts_are_refused(phantoms, tmp_path):
    with pytest.raises(ValueError, match="unknown optimizer 'adan'"):
        train(phantoms, tmp_path / "run", "dynunet", overrides=(*AVERAGED, "averaging.optimizer=adan"))
    assert not (tmp_path / "run").exists()


def test_a_mean_that_is_never_made_cannot_be_deployed(phantoms, tmp_path):
    with pytest.raises(ValueError, match="needs the recipe's part averaging"):
        train(phantoms, tmp_path / "run", "dynunet", overrides=(*TINY, "inference.checkpoint=swa"))
    assert not (tmp_path / "run").exists()
