"""The commands take a system that is open already, and one that a file describes."""

import pickle
import re
import textwrap
from pathlib import Path

import pytest
import torch

import voxward
from tests.systems.network.build import described, exported
from voxward.cli import main
from voxward.core.errors import UserError
from voxward.core.yaml import read_yaml
from voxward.robustness.bench import Source
from voxward.systems.network.entry import ChannelEntry, NetworkEntry
from voxward.systems.open import open_system, path_of

pytestmark = [
    pytest.mark.filterwarnings("ignore:nothing is known about which images"),
    pytest.mark.usefixtures("blank_pages"),
]
DOCS = Path(__file__).parents[3] / "docs" / "own-network.md"
PIPELINE = {
    "channels": [{"name": "MR", "normalization": "rescale"}],
    "window": [16, 16, 16], "overlap": 0.25,
}  # fmt: skip
QUICK = ["attacks=[pgd-dice]", "controls=[]", "budget.steps=2", "threat.eps=[8/255]", "cases=1"]


class Bright(torch.nn.Module):
    """A network that needs no training: bright voxels are the organ, the brightest its core."""

    def __init__(self):
        super().__init__()
        self.smooth = torch.nn.Conv3d(1, 1, 3, padding=1, padding_mode="replicate")
        with torch.no_grad():
            self.smooth.weight.fill_(1 / 27)
            self.smooth.bias.zero_()

    def forward(self, x):
        y = 12 * self.smooth(x) - 6
        return torch.cat([-y, y, 2 * y - 6, y - 40], 1)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    root = tmp_path_factory.mktemp("network") / "data"
    voxward.write_phantoms(root, 5, size=16)
    return root


def _fitting(dataset):
    labels = voxward.open_dataset(dataset).labels
    return {**PIPELINE, "labels": dict(zip(labels.names, labels.values, strict=True))}


def test_predict_and_evaluate_take_an_open_system(dataset, tmp_path):
    system = voxward.network_system(Bright(), name="bright", **_fitting(dataset))
    written = voxward.predict(system, dataset, out=tmp_path / "predicted")
    assert len(written) >= 5
    scores = voxward.evaluate(system, dataset, out=tmp_path / "scores")
    assert scores.origin.system == "bright"
    assert scores.foreground.mean > 0
    for command in (voxward.predict, voxward.evaluate, voxward.attack):
        with pytest.raises(UserError, match="out must be given"):
            command(system, dataset)
        with pytest.raises(UserError, match="is open already, and cannot be changed"):
            command(system, dataset, out=tmp_path / "none", overrides=["tta=mirrors"])


def test_the_command_line_attacks_a_file(dataset, tmp_path):
    exported(tmp_path / "n.pt2", Bright(), window=(16, 16, 16))
    path = described(tmp_path, "n.pt2", **_fitting(dataset))
    words = ["attack", str(path), "--dataset", str(dataset), "--protocol", "quick", "--out", str(tmp_path / "attacked")]
    code = main([*words, *(word for change in QUICK for word in ("--set", change)), "--device", "cpu"])
    assert code in (0, 1)  # so short an attack may fail the checks
    assert (tmp_path / "attacked" / "robustness.md").is_file()


def test_a_source_can_be_pickled(tmp_path):
    exported(tmp_path / "n.pt2")
    for given in (described(tmp_path, "n.pt2"), voxward.Trusted(tmp_path / "net.yaml")):
        source = pickle.loads(pickle.dumps(Source.of(given, ["tta=mirrors"])))
        assert source.open().predictor.mirrors == (0, 1, 2)
        assert source.trust is isinstance(given, voxward.Trusted)
    system = open_system(tmp_path / "net.yaml")
    assert Source.of(system).open() is system
    assert path_of(system) is None


def blocks(first):
    text = DOCS.read_text()
    return [textwrap.dedent(part) for part in re.findall(r"(?m)(?:^    .*\n|^\n(?=    ))+", text) if first in part]


def test_the_example_of_the_page_opens(tmp_path):
    """Beside a network of the kind that it speaks of, but with a small window."""
    (block,) = blocks("# liver.yaml")
    entries = read_yaml(block, "docs")
    exported(tmp_path / "unet.pt2", window=(16, 16, 8), dynamic=True)
    (tmp_path / "liver.yaml").write_text(block)
    system = open_system(tmp_path / "liver.yaml", ["window=[8,8,8]"])
    assert system.labels.foreground == ("liver", "tumour")
    assert system.channels == ("CT",)
    assert system.predictor.model.plan.spacing == tuple(entries["spacing"])


def test_the_three_statements_of_the_page_attack_a_network_in_memory(dataset, tmp_path, monkeypatch):
    (block,) = blocks("voxward.network_system(")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "Task03_Liver").symlink_to(dataset)
    changes = {
        '"CT", "normalization": "scale", "low": -100, "high": 240': '"MRI", "normalization": "rescale"',
        '"spacing": [1.5, 1.5, 3.0], ': "",
        "[96, 96, 48]": "[16, 16, 16]",
        '{"background": 0, "liver": 1}': repr(_fitting(dataset)["labels"]),
        '"quick"': f'"quick", overrides={QUICK}',
        "voxward.attack(": "found = voxward.attack(",
    }
    for old, new in changes.items():
        assert block.count(old) == 1
        block = block.replace(old, new)
    namespace = {"voxward": voxward, "my_network": Bright()}
    exec(compile(block, str(DOCS), "exec"), namespace)
    records = namespace["found"].records
    clean, attacked = (next(r for r in records if (r.eps > 0) is moved) for moved in (False, True))
    assert clean.dice(deployed=True) > attacked.dice(deployed=True)
    assert (tmp_path / "attacked" / "robustness.md").is_file()


def test_every_entry_is_in_the_table_of_the_page():
    named = set(re.findall(r"`(\w+)`", "\n".join(line for line in DOCS.read_text().splitlines() if line[:1] == "|")))
    entries = set(NetworkEntry.__dataclass_fields__) | set(ChannelEntry.__dataclass_fields__)
    assert entries - named - {"checkpoint", "postprocessing", "graphs"} == set()


def test_what_cannot_be_hardened_says_so(dataset, tmp_path, capsys):
    exported(tmp_path / "n.pt2")
    network, function = described(tmp_path, "n.pt2").rename(tmp_path / "net2.yaml"), described(tmp_path, "mine:net")
    two = tmp_path / "two.yaml"
    two.write_text("format: 1\nkind: ensemble\nmembers: [net2.yaml, net2.yaml]\n")
    expected = {
        network: "is of the kind network, which cannot be hardened",
        function: "is of the kind network, which cannot be hardened",
        two: "must be a run of voxward, got a model of another kind\n",
    }
    for path, message in expected.items():
        assert main(["harden", str(path), "--dataset", str(dataset), "--out", str(tmp_path / "hardened")]) == 2
        said = capsys.readouterr().err
        assert message in said
        assert "--trust" not in said
    assert not (tmp_path / "hardened").exists()
