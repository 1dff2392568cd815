"""Which cases a fold has not seen: its predictions name them, or voxward's own list does."""

from __future__ import annotations

import json

import pytest

from tests.systems.nnunet.build import FIXTURES, HIPPOCAMPUS
from voxward.core.errors import UserError
from voxward.systems.nnunet.heldout import held_out

RECORD = {
    "format": 1, "method": "pgd", "eps": 0.03, "seed": 0, "minutes": None, "steps": 2, "seconds": 1.0, "source": "s",
    "source_weights": "w", "checkpoint": "checkpoint_final.pth", "fold": "0", "dataset": "d", "version": "0",
    "trained": ["c"], "selection": [], "unseen": ["b", "a"],
}  # fmt: skip


def test_predictions_name_them(tmp_path):
    (tmp_path / "validation").mkdir()
    for name in ("b.nii.gz", "a.1.nii.gz", "summary.json", "b.npz", "._b.nii.gz"):
        (tmp_path / "validation" / name).touch()
    assert held_out(tmp_path) == ("a.1", "b")


def test_all_cases_were_trained_on_where_none_was_held_out(tmp_path):
    place = tmp_path / "fold_all/validation"
    place.mkdir(parents=True)
    (place / "a.nii.gz").touch()
    assert held_out(tmp_path / "fold_all") is None


def test_a_summary_names_them_where_the_predictions_are_gone(tmp_path):
    (tmp_path / "validation").mkdir()
    summary = tmp_path / "validation/summary.json"
    paths = ["/home/me/fold_0/validation/b.nii.gz", "D:\\fold_0\\validation\\a.nrrd", "notes.txt"]
    summary.write_text(json.dumps({"metric_per_case": [{"prediction_file": path} for path in paths]}))
    assert held_out(tmp_path) == ("a", "b")
    for damaged in ("{", "[]", "{}", '{"metric_per_case": 3}', '{"metric_per_case": [3, {"prediction_file": null}]}'):
        summary.write_text(damaged)
        assert held_out(tmp_path) is None


@pytest.mark.parametrize("there", [False, True])
def test_nothing_is_known_without_any(tmp_path, there):
    if there:
        (tmp_path / "validation").mkdir()
    assert held_out(tmp_path) is None


def test_a_hardened_fold_lists_them(tmp_path):
    (tmp_path / "hardening.json").write_text(json.dumps(RECORD))
    assert held_out(tmp_path) == ("a", "b")
    (tmp_path / "hardening.json").write_text(json.dumps({**RECORD, "unseen": 3}))
    with pytest.raises(UserError, match=r"hardening.json"):
        held_out(tmp_path)


@pytest.mark.skipif(not FIXTURES.is_dir(), reason=f"there is no folder {FIXTURES}")
def test_a_real_folder_names_them():
    assert len(held_out(HIPPOCAMPUS / "fold_0")) == 26
    assert len(held_out(HIPPOCAMPUS / "fold_1")) == 8
