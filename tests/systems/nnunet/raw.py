"""A small dataset in nnU-Net's layout, and masks that one fold predicts of its cases."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from tests.systems.nnunet.build import dataset, volume
from voxward.data.io import write_image
from voxward.systems.nnunet import judge
from voxward.systems.nnunet.results import read_results
from voxward.systems.nnunet.system import NnUNetSystem
from voxward.systems.open import open_system


def raw(root: Path, ids, data=None, shape=(11, 16, 13)) -> Path:
    """Write a dataset with a case of noise, and a label of noise, for each id."""
    described = data or dataset()
    (root / "imagesTr").mkdir(parents=True)
    (root / "labelsTr").mkdir()
    (root / "dataset.json").write_text(json.dumps({**described, "name": "Tiny", "numTraining": len(ids)}))
    for n, id in enumerate(ids):
        image = volume(shape=shape, seed=n)
        write_image(root / f"imagesTr/{id}_0000.nii.gz", image.array, image.affine)
        label = np.random.default_rng(n).integers(0, 3, shape).astype(np.uint8)
        write_image(root / f"labelsTr/{id}.nii.gz", label[None], image.affine)
    return root


def validated(folder: Path, fold, cases, seeds, wrong=0, summary=True) -> None:
    """Write what nnU-Net leaves of a fold's validation: the mask of each case, and their names in summary.json.

    Args:
        folder: The results folder.
        fold: The number of the fold.
        cases: The ids.
        seeds: The seed of each case's image.
        wrong: How many voxels of each mask have another class than the fold predicts.
        summary: Whether there is a summary.json; its paths are those of the machine that trained.
    """
    place = folder / f"fold_{fold}/validation"
    place.mkdir()
    results = read_results(folder, [fold])
    for id, seed in zip(cases, seeds, strict=True):
        image = volume(seed=seed)
        mask = results.plan.labels.to_values(judge.segment(results, image)).astype(np.uint8)
        mask.reshape(-1)[:wrong] = 1 + mask.reshape(-1)[:wrong] % 2
        write_image(place / f"{id}.nii.gz", mask[None], image.affine)
    if summary:
        listed = [{"prediction_file": f"C:\\nnUNet_results\\fold_{fold}\\validation\\{id}.nii.gz"} for id in cases]
        (place / "summary.json").write_text(json.dumps({"metric_per_case": listed}))


class Silent(NnUNetSystem):
    """A kind of system that neither has masks of its tool nor says what it was trained on."""

    stored = None
    training = None


def silent(folder: Path) -> Silent:
    """Open a results folder as a kind of system that says nothing about itself."""
    opened = open_system(folder, device="cpu")
    return Silent(opened.results, opened.on, opened.after, opened.title)
