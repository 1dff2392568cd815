"""The planting of label errors, and what is said about how many were found."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from benchmarks.planted import KINDS, TINY, bad_label, ledger_table, measure, plant, precision_and_recall, settle

from voxward.core.errors import UserError
from voxward.core.reading import read_json
from voxward.data.formats import open_dataset
from voxward.data.io import read_label


def _label():
    label = np.zeros((12, 9, 8), np.uint8)
    label[1:7, 2:5, 2:5], label[2:4, 3, 3] = 2, 4
    return label


def test_each_error_is_what_it_is_called():
    label = _label()
    moved = bad_label(label, "shifted")
    np.testing.assert_array_equal(moved[3:], label[:-3])  # half of the six voxels of its longest axis, into the room
    assert not moved[:3].any()
    np.testing.assert_array_equal(bad_label(label[::-1], "shifted"), moved[::-1])
    swapped = bad_label(label, "swapped")
    assert ((swapped == 4) == (label == 2)).all()
    assert ((swapped == 2) == (label == 4)).all()
    assert not bad_label(label, "missing").any()
    assert all(bad_label(label, kind).dtype == label.dtype for kind in KINDS)
    with pytest.raises(UserError, match=r"the values \[2\] cannot be swapped"):
        bad_label(np.where(label == 4, 2, label), "swapped")


def test_so_many_training_cases_are_planted_and_no_other_label_is_changed(tmp_path):
    study = replace(TINY, cases=4, bad=3, held=1)
    planted = plant(tmp_path / "bad" / "phantoms", study)
    plant(tmp_path / "sound" / "phantoms", replace(study, bad=0))
    assert sorted(planted.values()) == sorted(KINDS)
    for case in open_dataset(tmp_path / "bad" / "phantoms").cases:
        bad, sound = (read_label(open_dataset(tmp_path / name / "phantoms").case(case.id).label).array
                      for name in ("bad", "sound"))  # fmt: skip
        assert (bad != sound).any() == (case.id in planted)
        if case.id in planted:
            np.testing.assert_array_equal(bad, bad_label(sound, planted[case.id]))
    (split,) = read_json(tmp_path / "bad" / "phantoms" / "splits.json")
    assert set(planted) < set(split["train"])
    assert len(split["val"]) == 1
    assert plant(tmp_path / "bad" / "phantoms", study) == planted


def test_precision_recall_and_places():
    planted = {"c": "shifted", "d": "missing"}
    assert precision_and_recall(["a", "c", "d"], planted) == (2 / 3, 1.0)
    assert precision_and_recall([], planted) == (None, 0.0)
    losses = {"a": 0.1, "b": 0.12, "c": 0.9, "d": 0.11, "e": 0.13, "f": 0.1}
    lines = list(ledger_table({case: {0: 5.0, 1: loss} for case, loss in losses.items()}, planted, last=1))
    assert lines[1] == "| mad 3 | 1 | 1 | 1.00 | 0.50 |"
    # As many as were planted: the highest two losses, whatever the number of cases.
    assert lines[4] == "| quantile 0.666667 | 2 | 1 | 0.50 | 0.50 |"
    assert "the last one knows how many cases were planted" in lines[5]
    assert lines[-2:] == ["| c | shifted | 1 |", "| d | missing | 4 |"]


def test_a_folder_of_another_study_is_refused(tmp_path):
    settle(tmp_path, TINY)
    settle(tmp_path, TINY)
    with pytest.raises(UserError, match="choose another OUT"):
        settle(tmp_path, replace(TINY, bad=1))


@pytest.mark.slow  # four trainings
def test_the_whole_study(tmp_path, capsys):
    pytest.importorskip("pytorch_optimizer")
    study = replace(TINY, size=16, overrides=("training.workers=0",))
    for _ in range(2):
        measure(tmp_path, study, more=True)
    text = (tmp_path / "planted.md").read_text()
    assert text in capsys.readouterr().out
    assert "| without planted |" in text
    assert "| all cases, attention |" in text
