"""Both pipelines on tiny brain phantoms: trained, averaged, merged, and evaluated by region."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.end_to_end.build import changes, composed
from tests.end_to_end.test_train import StopAt
from voxward.commands.attack import attack
from voxward.commands.evaluate import evaluate
from voxward.commands.merge import merge
from voxward.commands.predict import predict
from voxward.commands.train import train
from voxward.core.interrupt import Interrupted
from voxward.core.recipe import load_recipe
from voxward.data.io import read_label
from voxward.metrics.policies import Scoring
from voxward.nets.registry import network_for_plan
from voxward.phantoms.write import write_phantoms
from voxward.runs.folder import RunFolder, load_run

TINY = (
    "network.options.width=4", "preparation.patch_size=[16,16,16]", "training.workers=0", "training.precision=fp32",
    "training.epochs=3", "averaging.start=0.34", "averaging.restarts=1", "averaging.snapshots=2",
)  # fmt: skip


@pytest.fixture(scope="module")
def brains(tmp_path_factory):
    root = tmp_path_factory.mktemp("brains") / "data"
    write_phantoms(root, 6, kind="brain", size=24)
    return root


@pytest.fixture(scope="module")
def runs(brains, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    a = train(brains, out=folder / "a", recipe="brats-a", overrides=TINY)
    b = train(brains, out=folder / "b", recipe="brats-b", overrides=TINY[:5])
    return a, b


def test_the_deployed_weights_are_the_recipes(runs):
    mean, last = (load_run(runs[0], checkpoint).network for checkpoint in ("auto", "last"))
    swa = load_run(runs[0], "swa").network
    pairs = zip(mean.parameters(), swa.parameters(), last.parameters(), strict=True)
    assert all(torch.equal(one, same) for one, same, _ in pairs)
    assert load_run(runs[1]).plan.labels.scored == ("ET", "TC", "WT")


def test_ranger_and_its_successor_resume_to_the_bit(brains, runs, tmp_path):
    with pytest.raises(Interrupted):
        train(brains, out=tmp_path / "a", recipe="brats-a", overrides=TINY, progress=StopAt(2))
    train(brains, out=tmp_path / "a", resume=True)
    for checkpoint in ("last", "swa"):
        first, second = (load_file(RunFolder(run).weights(checkpoint)) for run in (tmp_path / "a", runs[0]))
        assert all(torch.equal(first[name], second[name]) for name in first)


def test_merged_core_is_bitwise_the_firsts(brains, runs, tmp_path):
    folders = [tmp_path / name for name in "ab"]
    for run, folder in zip(runs, folders, strict=True):
        predict(run, brains, out=folder, device="cpu", overrides=changes(tta="none"))
    written = merge(*folders, out=tmp_path / "merged")
    assert len(written) == 6
    for path in written:
        merged, first, second = (read_label(folder / path.name).array for folder in (path.parent, *folders))
        for values in ((4,), (1, 4)):
            assert (np.isin(merged, values) == np.isin(first, values)).all()
        shared = np.isin(first, (0, 2)) & np.isin(second, (0, 2))
        assert (merged[shared] == second[shared]).all()


def test_the_ensemble_is_evaluated_and_attacked_by_region(brains, runs, tmp_path):
    system = composed(tmp_path, "ensemble", runs)
    together = evaluate(system, out=tmp_path / "ab", scoring=Scoring("brats"), overrides=changes(tta="mirrors"))
    assert list(together.classes) == ["ET", "TC", "WT"]
    with pytest.raises(ValueError, match="out must be given"):
        evaluate(system)
    options = changes(tta="none", attacks=["fgsm-dice"], controls=[], eps=[8 / 255], cases=1)
    result = attack(system, brains, out=tmp_path / "attack", device="cpu", overrides=options)
    assert {record.classes for record in result.records} == {("ET", "TC", "WT")}
    assert (tmp_path / "attack" / "classes.md").read_text().startswith("| model | eps | ET | TC | WT |")
    assert all(record.distance <= 8 / 255 + 1e-5 for record in result.records if record.attack == "fgsm-dice")


@pytest.mark.parametrize("name", ["brats-a", "brats-b"])
def test_the_recipes_are_the_papers_full_network(runs, name):
    recipe, plan = load_recipe(name), load_run(runs[1]).plan
    network = network_for_plan(recipe.network.name, plan, recipe.network.options)
    assert sum(parameter.numel() for parameter in network.parameters()) == 23_154_735
    assert len(recipe.training.auxiliary) == 4


def test_a_dataset_without_regions_is_told_how_to_declare_them(phantoms, tmp_path):
    with pytest.raises(ValueError, match=r"--set 'regions="):
        train(phantoms, out=tmp_path / "run", recipe="brats-b", overrides=TINY[:5])
    assert not RunFolder(tmp_path / "run").recipe.exists()
