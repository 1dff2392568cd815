"""What differs between two folders is found, and what may differ is let pass."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
from safetensors.torch import save_file

from tests.report.folders import LOG, attack_folder, metrics_data, run_folder, write_json
from tests.robustness.books import book
from voxward.data.io import write_label
from voxward.report.reproduction import (
    Compared,
    Reproduction,
    compare_attacks,
    compare_evaluation,
    compare_predictions,
    compare_training,
)


def attacks(tmp_path, change, exact=True):
    """What is found where some records of the second folder are changed."""
    if not (tmp_path / "a").is_dir():
        attack_folder(tmp_path / "a", book())
    name = f"b{len(list(tmp_path.iterdir()))}"
    attack_folder(tmp_path / name, [change(one) for one in book()])
    return {one.what: one for one in compare_attacks(tmp_path / "a", tmp_path / name, exact)}


def raised(by):
    def change(one):
        if one.kind == "control" or one.case != "a":
            return one
        return replace(one, adversarial=tuple(value + by for value in one.adversarial))

    return change


def test_times_and_machines_may_differ_and_nothing_else(tmp_path):
    elsewhere = attacks(tmp_path, lambda one: replace(one, seconds=99.0, processor="other", device="cuda:0"))
    assert (elsewhere["records"].unlike, elsewhere["records"].beyond) == (0, ())
    assert elsewhere["records"].count == len(book())
    tampered = attacks(tmp_path, raised(1e-9))["records"]
    assert tampered.unlike == len(tampered.beyond) == sum(one.kind == "attack" and one.case == "a" for one in book())
    assert "on a (m, seed 0)" in tampered.beyond[0]


def test_another_machine_may_move_the_dice_a_little(tmp_path):
    near = attacks(tmp_path, raised(0.04), exact=False)["Dice of attacks"]
    assert near.unlike > 0
    assert near.beyond == ()
    assert near.largest < 0.05
    assert attacks(tmp_path, raised(0.06), exact=False)["Dice of attacks"].beyond


def test_a_missing_record_is_found(tmp_path):
    attack_folder(tmp_path / "a", book())
    attack_folder(tmp_path / "b", book()[:-1])
    for exact in (True, False):
        found = list(compare_attacks(tmp_path / "a", tmp_path / "b", exact))
        assert [one.largest for one in found if one.beyond] == [math.inf]


def weights(folder, **tensors):
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    save_file({name: torch.tensor(value) for name, value in tensors.items()}, folder / "checkpoints/last.safetensors")


def trained(folder, log=LOG, bias=0.5):
    run_folder(folder, log)
    weights(folder, bias=[1.0, bias])
    return folder


def test_weights_and_logs_are_compared_to_the_last_bit(tmp_path):
    first, slower = trained(tmp_path / "a"), trained(tmp_path / "b", LOG.replace("30.0\n", "31.0\n"))
    assert all(one.unlike == 0 for one in compare_training(first, slower, True))
    other = trained(tmp_path / "c", LOG.replace("0.7,", "0.71,"), bias=0.5000001)
    found = {one.what: one for one in compare_training(first, other, True)}
    assert found["tensors of last.safetensors"].beyond == ("bias",)
    assert found["figures of the training log"].beyond == ("validation_dice of row 3",)
    near = {one.what: one for one in compare_training(first, other, False)}
    assert not any(one.beyond for one in near.values())
    assert not Reproduction(tmp_path, "train", False, tuple(near.values())).same
    far = trained(tmp_path / "d", LOG.replace("0.7,", "0.76,"))
    assert next(compare_training(first, far, False)).beyond == ("last validation Dice",)


def test_segmentations_are_compared_voxel_by_voxel(tmp_path):
    mask = np.zeros((10, 10, 10), np.uint8)
    for name, changed in (("a", 0), ("b", 1), ("c", 2)):
        (tmp_path / name).mkdir()
        other = mask.copy()
        other.flat[:changed] = 1
        write_label(tmp_path / name / "x.nii.gz", other, np.eye(4))
    (exact,) = compare_predictions(tmp_path / "a", tmp_path / "b", True)
    assert (exact.largest, exact.beyond) == (0.001, ("x.nii.gz",))
    assert next(compare_predictions(tmp_path / "a", tmp_path / "b", False)).beyond == ()
    assert next(compare_predictions(tmp_path / "a", tmp_path / "c", False)).beyond == ("x.nii.gz",)
    (tmp_path / "a" / "x.nii.gz").unlink()
    assert next(compare_predictions(tmp_path / "a", tmp_path / "c", False)).largest == math.inf


def test_the_dice_of_an_evaluation_is_compared(tmp_path):
    for name, dice in (("a", 0.5), ("b", 0.505), ("c", None)):
        write_json(tmp_path / name / "metrics.json", metrics_data({"x": dice}))
    found = [next(compare_evaluation(tmp_path / "a", tmp_path / "b", exact)) for exact in (True, False)]
    assert [one.beyond for one in found] == [("liver of x",), ()]
    assert next(compare_evaluation(tmp_path / "a", tmp_path / "c", False)).beyond == ("liver of x",)


def test_the_table_names_what_differs_by_more(tmp_path):
    rows = (Compared("records", 9, 7, math.inf, 0.0, tuple("abcdefg")), Compared("logs", 3, 1, 0.25, math.inf, ()))
    found = Reproduction(tmp_path, "attack", True, rows)
    assert not found.met
    assert [row.cells for row in found.table().rows] == [
        ("records", "9", "7", "missing or no number", "0", "a, b, c, d, e, ..."), ("logs", "3", "1", "0.25", "any", ""),
    ]  # fmt: skip
    assert not Reproduction(tmp_path, "attack", True, ()).met  # nothing was compared
