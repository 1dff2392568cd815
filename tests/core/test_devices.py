"""Which devices there are, what each can do, and what is said of one that is not there."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from voxward.cli import main
from voxward.core import devices
from voxward.core.choices import DEVICES
from voxward.core.devices import KINDS, Kind, kind_of, resolve_device, wide, wide_type
from voxward.core.errors import UserError
from voxward.core.labels import LabelSet, largest

CPU = torch.device("cpu")
CLASSES = LabelSet(("background", "a", "b"), (0, 1, 2))


class Apple:
    """What `torch.mps` says where there is such a device."""

    waited = released = 0

    def is_available(self):
        return True

    def device_count(self):
        return 1

    def recommended_max_memory(self):
        return 16_000_000_000

    def synchronize(self):
        self.waited += 1

    def empty_cache(self):
        self.released += 1


@pytest.fixture
def apple(monkeypatch):
    module, real = Apple(), torch.get_device_module
    monkeypatch.setattr(torch, "get_device_module", lambda name: module if name == "mps" else real(name))
    return module


def test_the_command_line_offers_the_kinds_that_are_known():
    assert ("auto", *KINDS) == DEVICES


@pytest.mark.parametrize(
    ("name", "title"), [("mps", r"Apple GPU \(MPS\)"), ("xpu", r"Intel GPU \(XPU\)"), ("cuda:0", "CUDA device")]
)
def test_a_device_that_is_not_there_is_refused_in_a_sentence(name, title, monkeypatch):
    real = devices.is_there
    monkeypatch.setattr(devices, "is_there", lambda kind: kind == "cpu" and real(kind))
    with pytest.raises(UserError, match=f"device '{name}' was asked for, but no {title} is available; use cpu or auto"):
        resolve_device(name)


def test_what_is_no_device_is_refused():
    with pytest.raises(UserError, match="device must be one of auto, cpu, cuda, mps, xpu, got 'gpu'"):
        resolve_device("gpu")
    with pytest.raises(UserError, match="no meta device is available"):
        resolve_device("meta")


def test_a_command_says_so_in_one_line(capsys):
    if devices.is_there("xpu"):
        pytest.skip("there is a GPU of Intel")
    assert main(["doctor", "--device", "xpu"]) == 2
    assert "no Intel GPU (XPU) is available" in capsys.readouterr().err


def test_an_accelerator_is_named_and_waited_for(apple):
    device = resolve_device("mps")
    assert resolve_device("auto").type in ("cuda", "cpu")
    assert devices.name_of(device) == "Apple GPU (MPS)" in devices.accelerators()
    assert devices.memory_of(device) == 16_000_000_000
    assert not devices.multiplies_bfloat16(device)
    devices.wait_for(device)
    devices.release_memory()
    assert (apple.waited, apple.released) == (1, 1)


def test_the_widest_number_type_is_the_device_s(monkeypatch):
    assert wide(torch.ones(2)).dtype == torch.float64
    assert wide_type(torch.device("mps")) == torch.float32
    assert kind_of(torch.device("meta")) == Kind("meta device")
    monkeypatch.setitem(KINDS, "cpu", Kind("an accelerator", double=False))
    assert wide(torch.ones(2)).dtype == torch.float32


def test_classes_are_read_alike_on_every_device(monkeypatch):
    logits = torch.randint(0, 3, (2, 4, 5, 6, 7)).float()  # with ties
    expected = largest(logits)
    monkeypatch.setitem(KINDS, "cpu", Kind("an accelerator"))
    assert torch.equal(largest(logits), expected)


def test_only_a_processor_looks_whether_labels_are_declared(monkeypatch):
    """An accelerator would be waited for."""
    maps = CLASSES.with_regions({"b": (2,), "ab": (1, 2)}).region_maps
    wrong = torch.full((2, 2, 2), 7)
    for labels in (wrong, wrong.numpy()):
        with pytest.raises(UserError, match="7"):
            maps.to_masks(labels)
    monkeypatch.setitem(KINDS, "cpu", Kind("an accelerator"))
    assert not maps.to_masks(wrong).any()
    with pytest.raises(UserError, match="7"):
        maps.to_masks(np.full((2, 2, 2), 7))
