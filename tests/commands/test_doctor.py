"""What voxward says of a machine: everything a bug report needs, and what is not ideal."""

from __future__ import annotations

from dataclasses import replace

import pytest

import voxward
from voxward.cli import main
from voxward.commands import doctor as module
from voxward.core.errors import UserError


@pytest.fixture(scope="module")
def found():
    return voxward.doctor(device="cpu")


def test_it_says_what_a_bug_report_needs(found):
    lines = dict(line.split(": ", 1) for line in found.text().splitlines())
    assert lines["voxward"].startswith(voxward.__version__)
    assert "torch 2." in lines["packages"]
    assert lines["device auto"] == "cpu"
    assert lines["precision auto"] in ("fp32", "bf16")
    for name in ("processor", "memory", "GPUs", "free disk", "extras that can be used"):
        assert lines[name]
    assert all(speed > 0 for speed in found.speed.values())


def test_a_missing_extra_is_named_with_what_installs_it(found):
    lacking = replace(found, extras={"report": (), "dicom": ("pydicom", "highdicom")})
    assert "extras that can be used: report\n" in lacking.text()
    assert 'extra dicom lacks: pydicom, highdicom (pip install "voxward[dicom]")' in lacking.text()


def test_extras_are_read_from_the_metadata_of_voxward(monkeypatch):
    lines = ['torchio<2,>=1.2; extra == "corruptions"', 'scikit-image>=0.25; extra == "corruptions"', "torch>=2.13",
             'voxward[report]; extra == "test"', 'ruff>=0.9; extra == "dev"']  # fmt: skip
    extras = type("Metadata", (), {"get_all": lambda self, name: ["corruptions", "dev", "test"]})()
    monkeypatch.setattr(module, "metadata", lambda name: extras)
    monkeypatch.setattr(module, "requires", lambda name: lines)
    monkeypatch.setattr(module, "_installed", lambda package: package != "torchio")
    assert module._extras() == {"corruptions": ("torchio",)}


def test_what_is_not_ideal_is_told(found):
    fine = replace(
        found, memory_gb=16.0, disk_gb=100.0, precision="bf16", speed={"fp32": 30.0, "bf16": 50.0},
        machine=replace(found.machine, threads=4, cores=4),
    )  # fmt: skip
    assert fine.problems == ()
    for changes, said in (
        ({"memory_gb": 1.5}, "only 1.5 GB of memory are free"),
        ({"disk_gb": 0.7}, "only 0.7 GB are free on the disk"),
        ({"speed": {"fp32": 30.0, "bf16": 10.0}}, "bf16 is slower than fp32 here (10 against 30"),
        ({"machine": replace(found.machine, threads=1, cores=4)}, "computes with 1 thread, and 4 cores"),
    ):
        (problem,) = replace(fine, **changes).problems
        assert said in problem
    assert replace(fine, memory_gb=None).problems == ()


def test_the_command_prints_plain_lines(capsys):
    assert main(["doctor", "--device", "cpu"]) == 0
    assert capsys.readouterr().out.startswith(f"voxward: {voxward.__version__}")


def test_no_folder(tmp_path):
    with pytest.raises(UserError, match="is no folder"):
        voxward.doctor(folder=tmp_path / "none")
