"""Partly annotated labels and regions that are not nested, through the whole program."""

import json
import shutil
import warnings

import numpy as np
import pytest

from tests.end_to_end.build import changes
from tests.end_to_end.conftest import TINY
from voxward.commands.attack import attack
from voxward.commands.check import check
from voxward.commands.evaluate import evaluate
from voxward.commands.train import train
from voxward.data.formats import open_dataset
from voxward.data.io import read_label, write_label
from voxward.data.store import open_case
from voxward.report.metrics import metrics_table
from voxward.runs.folder import RunFolder, load_run
from voxward.training.ledger import read_ledger

IGNORE = 4
REGIONS = {"organs": [1, 2], "lesion": [3]}


@pytest.fixture(scope="module")
def partial(phantoms, tmp_path_factory):
    """The phantoms with every other slab unannotated, as nnU-Net declares it, and disjoint regions."""
    root = tmp_path_factory.mktemp("partial") / "data"
    shutil.copytree(phantoms, root)
    described = json.loads((root / "dataset.json").read_text())
    described["labels"][str(IGNORE)] = "ignore"
    described |= {"regions": REGIONS, "regions_class_order": [1, 3]}
    (root / "dataset.json").write_text(json.dumps(described))
    for case in open_dataset(root).cases:
        label = read_label(case.label)
        array = label.array.copy()
        array[:, :, ::3] = IGNORE
        case.label.unlink()
        write_label(case.label, array, label.affine, case.images[0])
    return root


@pytest.fixture(scope="module")
def run(partial, tmp_path_factory):
    return train(partial, out=tmp_path_factory.mktemp("ignore") / "run", recipe="dynunet", overrides=TINY)


def test_a_partly_annotated_dataset_is_sound(partial):
    labels = open_dataset(partial).labels
    assert (labels.ignore, labels.scored, labels.outputs) == (IGNORE, ("lesion", "organs"), 2)
    assert not [problem for problem in check(partial).problems if problem.severity == "error"]


def test_training_is_finite_and_predicts_classes(partial, run):
    labels = load_run(run).plan.labels
    assert (labels.ignore, labels.outputs) == (IGNORE, 2)
    losses = read_ledger(RunFolder(run).ledger)
    assert losses
    assert all(np.isfinite(loss) for epochs in losses.values() for loss in epochs.values())
    id = next(iter(losses))
    prepared = open_case(run / "prepared" / id, id)
    assert 0.2 < prepared.record.unannotated < 0.45
    evaluation = evaluate(run)
    for case in evaluation.cases:
        assert case.unannotated == pytest.approx(1 / 3, abs=0.05)
        found = read_label(RunFolder(run).predictions / f"{case.id}.nii.gz").array
        assert set(np.unique(found)) <= {0, 1, 3}
        truth = read_label(open_dataset(partial).case(case.id).label).array
        known = truth != IGNORE
        a, b = np.isin(truth, (1, 2)) & known, np.isin(found, (1, 2)) & known
        assert case.classes["organs"].dice == pytest.approx(2 * (a & b).sum() / (a.sum() + b.sum()))
    assert "% of the voxels" in metrics_table(evaluation).markdown()


@pytest.mark.slow
def test_junk_in_unannotated_voxels_changes_no_attack(partial, run, tmp_path):
    """The same volumes and annotated voxels, but another value for "not annotated"."""
    other = tmp_path / "other"
    shutil.copytree(partial, other)
    described = json.loads((other / "dataset.json").read_text())
    described["labels"] = {("9" if key == str(IGNORE) else key): name for key, name in described["labels"].items()}
    (other / "dataset.json").write_text(json.dumps(described))
    for case in open_dataset(other).cases:
        label = read_label(case.label)
        case.label.unlink()
        write_label(case.label, np.where(label.array == IGNORE, 9, label.array), label.affine, case.images[0])
    options = changes(attacks=["fgsm-ce", "square"], eps=[8 / 255], queries=3, cases=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # two epochs learn little, and the attack says so
        found = [
            attack(run, data, out=tmp_path / name, device="cpu", overrides=options)
            for name, data in (("a", partial), ("b", other))
        ]
    first, second = ({(r.attack, r.eps): (r.clean, r.adversarial) for r in result.records} for result in found)
    assert first == second
    assert all(score is None or 0 <= score <= 1 for pair in first.values() for scores in pair for score in scores)
