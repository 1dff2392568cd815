"""Programs run only where the user says so, and no file can say it."""

import warnings
import zipfile

import pytest
import torch
from torch import nn

import voxward
from tests.systems.network.build import LABELS, WINDOW, Tiny, described, exported, scripted, volume
from voxward.cli import main
from voxward.core.errors import UserError
from voxward.core.yaml import dump_yaml
from voxward.data.io import write_image
from voxward.systems.network.files import is_torchscript
from voxward.systems.network.system import network_system
from voxward.systems.open import open_system, run_of
from voxward.systems.system import NotDifferentiable

MODULE = """
from pathlib import Path
import torch
Path(__file__).with_name("canary").touch()

def net(x):
    return torch.cat([x, -x, x * x], 1)

class Held:
    inner = staticmethod(net)
number = 3
"""


@pytest.fixture
def code(write_module):
    """Importing the module leaves a mark."""
    return write_module(MODULE)


class Writes(nn.Module):
    """TorchScript that writes a file when it runs, as any TorchScript may."""

    def __init__(self, path):
        super().__init__()
        self.path: str = str(path)

    def forward(self, x):
        torch.save(x, self.path)
        return torch.cat([x, x, x], 1)


@pytest.mark.parametrize("name", ["n.ts", "n.pt", "n.pt2", "n.bin"])
def test_torchscript_needs_trust_whatever_it_is_called(tmp_path, name):
    scripted(tmp_path / name)
    path = described(tmp_path, name)
    with pytest.raises(UserError, match=r"is TorchScript, a program that can write files .* --trust"):
        open_system(path)
    assert open_system(path, trust=True).segment(volume()).label.any()


def test_nothing_of_torchscript_runs_without_trust(tmp_path):
    canary = tmp_path / "canary"
    scripted(tmp_path / "n.ts", Writes(canary), trace=False)
    canary.unlink(missing_ok=True)
    with pytest.raises(UserError, match="is TorchScript"):
        open_system(described(tmp_path, "n.ts"))
    assert not canary.exists()
    open_system(described(tmp_path, "n.ts"), trust=True)
    assert canary.exists()  # it is a program


def test_a_damaged_torchscript_file(tmp_path):
    with zipfile.ZipFile(tmp_path / "n.ts", "w") as archive:
        archive.writestr("x/constants.pkl", b"nothing")
        archive.writestr("x/code/a.py", b"nothing")
    assert is_torchscript(tmp_path / "n.ts")
    with pytest.raises(UserError, match=r"n\.ts cannot be loaded as TorchScript"):
        open_system(described(tmp_path, "n.ts"), trust=True)


def test_a_python_function_needs_trust(tmp_path, code):
    path = described(tmp_path, f"{code}:net")
    with pytest.raises(UserError, match=r"is a Python function, and to import its module is to run it: .* --trust"):
        open_system(path)
    assert not (tmp_path / "canary").exists()
    system = open_system(path, trust=True)
    assert (tmp_path / "canary").exists()
    assert system.segment(volume()).label.shape == (13, 9, 10)
    assert open_system(described(tmp_path, f"{code}:Held.inner"), trust=True).name == "net"


BAD = {"gone": "there is no 'gone'", "number": "must be a function", "Held": "must be a function"}


@pytest.mark.parametrize("attribute", BAD)
def test_what_is_no_function(tmp_path, code, attribute):
    with pytest.raises(UserError, match=BAD[attribute]):
        open_system(described(tmp_path, f"{code}:{attribute}"), trust=True)


def test_a_module_that_is_not_there_and_one_whose_name_is_taken(tmp_path):
    with pytest.raises(UserError, match="the module no_such_module_here cannot be imported"):
        open_system(described(tmp_path, "no_such_module_here:net"), trust=True)
    (tmp_path / "json.py").write_text(MODULE)
    with pytest.raises(UserError, match="another module is already called json"):
        open_system(described(tmp_path, "json:loads"), trust=True)
    assert not (tmp_path / "canary").exists()


def outer(folder, **entries):
    path = folder / "outer.yaml"
    path.write_text(dump_yaml({"format": 1, **entries}))
    return path


@pytest.mark.parametrize("where", ["member", "inside", "coarse"])
def test_no_file_grants_trust(tmp_path, code, where):
    inner = described(tmp_path, f"{code}:net")
    entry = {
        "kind": "network", "network": f"{code}:net", "channels": [{"name": "MR"}], "labels": LABELS,
        "window": list(WINDOW), "trust": True,
    }  # fmt: skip
    path = {
        "member": lambda: outer(tmp_path, kind="ensemble", members=[inner.name]),
        "inside": lambda: outer(tmp_path, kind="ensemble", members=[entry]),
        "coarse": lambda: outer(tmp_path, kind="cascade", coarse=inner.name, fine=inner.name, trust=True),
    }[where]()
    with pytest.raises(UserError, match=r"--trust|unknown key 'trust'"):
        open_system(path)
    with pytest.raises(UserError, match=r"unknown key 'trust'|--trust"):
        open_system(path, ["trust=true"])
    assert not (tmp_path / "canary").exists()


def test_trust_reaches_what_lies_inside(tmp_path, code):
    inner = described(tmp_path, f"{code}:net")
    system = open_system(outer(tmp_path, kind="ensemble", members=[inner.name, inner.name]), trust=True)
    alone = open_system(inner, trust=True)
    assert (system.segment(volume()).label == alone.segment(volume()).label).all()


def test_the_commands_take_trust(tmp_path, code, capsys):
    path = described(tmp_path, f"{code}:net")
    scan = tmp_path / "scan.nii.gz"
    write_image(scan, volume().array, volume().affine)
    words = ["predict", str(path), str(scan), "--out", str(tmp_path / "out"), "--device", "cpu"]
    assert main(words) == 2
    assert "--trust" in capsys.readouterr().err
    assert main([*words, "--trust"]) == 0
    merged = ["merge", str(path), str(path), "--inputs", str(scan), "--out", str(tmp_path / "merged")]
    assert main([*merged, "--owned-by-first", "1", "--device", "cpu"]) == 2
    assert main([*merged, "--owned-by-first", "1", "--device", "cpu", "--trust"]) == 0
    joined = ["compose", "ensemble", str(path), str(path), "--out", str(tmp_path / "two.yaml")]
    assert main(joined) == 2
    assert main([*joined, "--trust"]) == 0
    assert "trust" not in (tmp_path / "two.yaml").read_text()
    with pytest.raises(UserError, match="--trust"):
        voxward.predict(tmp_path / "two.yaml", [scan], out=tmp_path / "again")
    (written,) = voxward.predict(voxward.Trusted(tmp_path / "two.yaml"), [scan], out=tmp_path / "again", device="cpu")
    assert written.is_file()
    with pytest.raises(UserError, match="--trust"):
        voxward.predict(voxward.Trusted(tmp_path / "two.yaml", trust=False), [scan], out=tmp_path / "again")


def test_a_graph_that_cuts_its_input_off_is_told_apart(tmp_path):
    class Cut(Tiny):
        def forward(self, x):
            return super().forward(x.detach())

    scripted(tmp_path / "n.ts", Cut())
    system = open_system(described(tmp_path, "n.ts"), trust=True)
    with pytest.raises(NotDifferentiable, match="net has no gradient"):
        system.check_gradient()
    exported(tmp_path / "n.pt2")
    open_system(described(tmp_path, "n.pt2"), trust=True).check_gradient()


def test_a_graph_that_was_optimised_for_inference():
    """On most processors it has no gradient; then the system says so, before anything is attacked."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(Tiny().eval(), torch.zeros(1, 1, *WINDOW))
        optimised = torch.jit.optimize_for_inference(torch.jit.freeze(traced))
    pipeline = {"channels": [{"name": "MR"}], "labels": LABELS, "window": list(WINDOW)}
    network_system(traced, **pipeline).check_gradient()
    system = network_system(optimised, **pipeline)
    assert system.segment(volume()).label.any()
    if optimised(torch.zeros(1, 1, *WINDOW, requires_grad=True)).requires_grad:
        system.check_gradient()
    else:
        with pytest.raises(NotDifferentiable, match="has no gradient"):
            system.check_gradient()


def test_what_needs_a_run_refuses_a_network(tmp_path):
    exported(tmp_path / "n.pt2")
    with pytest.raises(UserError, match="is of the kind network, which cannot be hardened"):
        run_of(described(tmp_path, "n.pt2"))


def test_compose_writes_a_network(tmp_path):
    exported(tmp_path / "n.pt2")
    words = ["compose", "network", str(tmp_path / "n.pt2"), "--out", str(tmp_path / "made.yaml")]
    assert main([*words, "--set", "channels=[{name: MR}]", "--set", "labels={background: 0, a: 1, b: 2}"]) == 0
    assert open_system(tmp_path / "made.yaml").predictor.model.plan.window_size == WINDOW
    with pytest.raises(UserError, match="cannot be changed"):
        open_system(tmp_path / "made.yaml", ["network=other.pt2"])
