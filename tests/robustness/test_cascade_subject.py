"""A cascade under attack: the box is held while the attack works, and found again in the file that is deployed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.robustness.build import a_bench, records_of
from tests.systems.build import cascade
from tests.systems.test_cascade import predictor, scan
from voxward.attacks.threat import ThreatModel
from voxward.core.case import Case
from voxward.data.io import write_image, write_label
from voxward.robustness.protocol import Protocol, Threat
from voxward.robustness.sanity import sanity
from voxward.robustness.subject import volume_subject
from voxward.systems.crop import overlap

THREAT = ThreatModel(0.0)


def both(fine):
    return cascade(predictor(160.0), fine, margin=2.0)


@pytest.fixture
def case(tmp_path):
    volume, organ, halo, _ = scan()
    write_image(tmp_path / "image.nii", volume.array, volume.affine)
    write_label(tmp_path / "label.nii", (organ | halo).astype(np.uint8), volume.affine)
    return Case("one", (tmp_path / "image.nii",), tmp_path / "label.nii")


def test_overlap_of_boxes():
    a, b = [[0, 4], [0, 4], [0, 2]], [[2, 6], [0, 4], [0, 2]]
    assert overlap(a, b) == 16 / 48
    assert overlap(a, a) == 1.0
    assert overlap(a, [[4, 6], [0, 4], [0, 2]]) == 0.0
    assert overlap(a, None) == 0.0
    assert overlap(None, None) == 1.0


def test_the_written_volume_finds_its_own_box(case):
    """The organ's last planes made dark: the held mask follows the fine model, the deployed one the smaller box too."""
    volume, organ, _, _ = scan()
    fine = predictor(60.0)
    subject = volume_subject(both(fine), case, THREAT)
    result = both(fine).refine(volume)
    held = [[side.start, side.stop] for side in result.box]
    clean = subject.deploy(volume.array.astype(np.float32), None)
    assert clean.notes == {"stage": "both", "box_held": held, "box_found": held, "box_overlap": 1.0}
    np.testing.assert_array_equal(clean.mask, result.label)
    np.testing.assert_array_equal(subject.model.segment(subject.model.logits(subject.volume))[0], result.label)
    changed = volume.array.copy()
    last = int(np.nonzero(organ.any((1, 2)))[0][-1])
    changed[0, last - 3 :] = np.where(organ[last - 3 :], 120, changed[0, last - 3 :])  # as bright as the halo
    deployed = subject.deploy(changed.astype(np.float32), None)
    assert deployed.notes["box_held"] == held
    assert deployed.notes["box_found"][0][1] == held[0][1] - 4
    assert 0 < deployed.notes["box_overlap"] < 1
    mask = subject.model.segment(subject.model.logits(torch.from_numpy(changed.astype(np.float32))[None]))[0].numpy()
    assert mask.sum() > deployed.mask.sum() > 0
    gone = subject.deploy(np.zeros_like(changed, np.float32), None)
    assert (gone.notes["box_found"], gone.notes["box_overlap"]) == (None, 0.0)
    assert not gone.mask.any()


class Soft(torch.nn.Module):
    """Foreground above 60, with a gradient."""

    def forward(self, x):
        return torch.cat([torch.zeros_like(x), (x - 60) / 20], 1)


@pytest.mark.parametrize("stage", ["both", "coarse", "fine"])
def test_the_books_of_an_attacked_cascade(case, stage):
    coarse, fine = predictor(160.0), predictor(60.0)
    for one in (coarse, fine):
        object.__setattr__(one.model, "network", Soft())
    system = cascade(coarse, fine, margin=4.0, stage=stage)
    bench = a_bench({"both": system}, [case], Protocol("test", attacks=("ifgsm-ce",), threat=Threat((0.2,))))
    records = records_of(bench)
    found = {record.attack: record for record in records}
    assert all(record.options["stage"] == stage for record in records)
    assert all(record.system == system.fingerprint() for record in records)
    assert found["clean"].options["box_overlap"] == 1.0
    if stage != "coarse":
        assert found["clean"].clean == found["clean"].deployed_clean
    assert found["ifgsm-ce"].dice() < 0.5 * found["clean"].dice()
    faults = {finding.name for finding in sanity(records) if finding.passed is False}
    assert "deployed" not in faults
    assert "model" not in faults
