"""Regions through the whole program: a tiny run is trained, predicts classes, and is scored and attacked by region."""

import numpy as np
import pytest
import torch

from tests.end_to_end.build import changes
from tests.end_to_end.conftest import TINY
from voxward.attacks.objectives import create_objective
from voxward.attacks.threat import ThreatModel
from voxward.commands.attack import attack
from voxward.commands.evaluate import evaluate
from voxward.commands.harden import harden
from voxward.commands.train import train
from voxward.core.choices import Compute
from voxward.data.formats import open_dataset
from voxward.data.io import read_image, read_label
from voxward.pipeline.predictor import Predictor
from voxward.robustness.subject import erasing, volume_subject
from voxward.runs.folder import RunFolder, load_run
from voxward.systems.run import RunSystem

REGIONS = "regions={lesion: [3], organ: [1, 3], all: [1, 2, 3]}"


@pytest.fixture(scope="module")
def run(phantoms, tmp_path_factory):
    return train(phantoms, out=tmp_path_factory.mktemp("regions") / "run", recipe="dynunet", overrides=(*TINY, REGIONS))


def test_a_run_learns_regions_and_writes_classes(phantoms, run):
    model = load_run(run)
    assert model.plan.labels.scored == ("lesion", "organ", "all")
    evaluation = evaluate(run)
    assert list(evaluation.cases[0].classes) == ["lesion", "organ", "all"]
    case = open_dataset(phantoms).case(evaluation.cases[0].id)
    found = read_label(RunFolder(run).predictions / f"{case.id}.nii.gz").array
    assert set(np.unique(found)) <= {0, 1, 2, 3}
    scores, truth = evaluation.cases[0].classes, read_label(case.label).array
    a, b = truth > 0, found > 0
    assert scores["all"].dice == pytest.approx(2 * (a & b).sum() / (a.sum() + b.sum()))


def test_the_attacked_pipeline_is_the_deployed_one(phantoms, run):
    case = open_dataset(phantoms).cases[0]
    predictor = Predictor(load_run(run), torch.device("cpu"), "fp32")
    subject = volume_subject(RunSystem(predictor), case, ThreatModel(0.0))
    assert subject.model.head == "regions"
    found = predictor.model.plan.labels.to_index(predictor.segment(read_image(case.images)))
    mask = subject.model.segment(subject.model.logits(subject.volume))[0].numpy()
    assert (mask[2] == (found > 0)).all()
    assert (mask[1] == np.isin(found, (1, 3))).all()
    assert (mask[0] == (found == 3)).all()
    alone = erasing(subject, "organ")
    assert (alone.model.segment(alone.model.logits(alone.volume))[0, 0].numpy() == mask[1]).all()
    objective = create_objective("dice")
    _, values, gradient = alone.model.value_and_grad(alone.volume, alone.target, lambda z, y: objective(z, y, 1.0))
    assert torch.isfinite(values).all()
    assert gradient.abs().max() > 0


@pytest.mark.slow
def test_attack_and_harden_honour_regions(phantoms, run, tmp_path):
    result = attack(
        run,
        phantoms,
        out=tmp_path / "a",
        device="cpu",
        overrides=changes(attacks=["pgd-dice"], eps=[8 / 255], steps=2, cases=1),
    )
    assert {record.classes for record in result.records} == {("lesion", "organ", "all")}
    erased = attack(
        run,
        phantoms,
        out=tmp_path / "e",
        device="cpu",
        overrides=changes(attacks=["pgd-ce"], eps=[8 / 255], steps=2, cases=1, erase="organ"),
    )
    assert {record.classes for record in erased.records} == {("organ",)}
    for method in ("pgd", "trades"):
        options = [*TINY, "training.epochs=1", "defence.steps=1"]
        out = harden(run, out=tmp_path / method, method=method, overrides=options, compute=Compute(device="cpu"))
        assert load_run(out).plan.labels.head == "regions"
