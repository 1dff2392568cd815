"""The Python blocks of every page run, in order, in a folder of their own; command lines and files are understood."""

import ast
import json
import re
import shlex
import shutil
import textwrap
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest
import yaml

import voxward
from voxward.attacks.objectives import OBJECTIVES
from voxward.cli import COMMANDS, parser
from voxward.core.labels import LabelSet
from voxward.core.yaml import read_yaml
from voxward.robustness.protocol import load_protocol
from voxward.robustness.trials.attack import trials as attack_trials
from voxward.robustness.trials.trial import Target
from voxward.systems.open import KINDS

ROOT = Path(__file__).parents[1]
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [*(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")), *DOCS]
START = ROOT / "docs" / "first-figure.md"
# The page trains for minutes, and its tests do not.
SHORTER = {"range(150)": "range(2)", '"quick"': '"quick", overrides=["attacks=[fgsm-dice]", "cases=1"]'}
# Their networks are trained for seconds, and these papers have end-to-end tests of their own.
LONG = ("brats", "coarse-to-fine")
# Commands of version 0.1.
OLD = ("from-0.1.md",)


def blocks(page, kind="python"):
    return re.findall(rf"^```{kind}\n(.*?)^```", page.read_text(), re.S | re.M)


def run(page, **changes):
    """Run the Python blocks of a page in order, in the current folder, and return what they name and write."""
    text, namespace = "\n".join(blocks(page)), {}
    for old, new in changes.items():
        assert text.count(old) == 1
        text = text.replace(old, new)
    exec(compile(text, page.name, "exec"), namespace)
    return namespace, re.findall(r'\bout="([^"]+)"', text)


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    """The folder that the first page leaves behind, with two epochs in place of three minutes."""
    folder = tmp_path_factory.mktemp("start")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        small = {"filters=[8,16,32]": "filters=[4,8,8]", "cases=12, size=32": "cases=8, size=24"}
        short = {", minutes=3": "", '8,8]"]': '8,8]", "training.epochs=2", "training.workers=0"]'}
        run(START, **small, **short, **{'"quick"': SHORTER['"quick"']})
    return folder


# The page on networks of one's own speaks of this warning.
@pytest.mark.filterwarnings("ignore:nothing is known about which images network was trained on:UserWarning")
@pytest.mark.no_cover
@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=[pytest.mark.slow] if page.stem in LONG else [], id=page.name)
        for page in DOCS
        if blocks(page) and page != START
    ],
)
def test_the_blocks_of_a_page_run(page, started, tmp_path, monkeypatch, request):
    """In a folder with what the first page made; each page says itself where it begins."""
    shutil.copytree(started, tmp_path, dirs_exist_ok=True)
    if page.stem == "data":
        with_a_test_set(tmp_path)
    if page.stem != "report":
        request.getfixturevalue("blank_pages")
    monkeypatch.chdir(tmp_path)
    named, written = run(page, **(SHORTER if page.stem == "own-network" else {}))
    assert set(named) > {"__builtins__"}
    assert [out for out in written if not Path(out).exists()] == []


def with_a_test_set(folder):
    """The reader's own `dataset`, in nnU-Net's layout: one of the phantoms is its test set."""
    cases = voxward.open_dataset(folder / "phantoms").cases
    for number, case in enumerate(cases):
        part = "Tr" if number else "Ts"
        for file, name in (case.images[0], f"images{part}/{case.id}_0000"), (case.label, f"labels{part}/{case.id}"):
            target = folder / "dataset" / f"{name}.nii.gz"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
    about = json.loads((folder / "phantoms" / "dataset.json").read_text())
    labels = {name: int(value) for value, name in about["labels"].items()}
    new = {"channel_names": about["modality"], "labels": labels, "file_ending": ".nii.gz"}
    (folder / "dataset" / "dataset.json").write_text(json.dumps(new))


def named(tree):
    """What a block takes from voxward: the module and the name of each."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "voxward":
            yield "voxward", node.attr
        elif isinstance(node, ast.ImportFrom) and str(node.module).startswith("voxward"):
            yield from ((node.module, each.name) for each in node.names)


LONG = [
    pytest.param(block, id=f"{page.stem}-{n}")
    for page in PAGES
    for n, block in enumerate(blocks(page, "text"))
    if "voxward." in block
]


@pytest.mark.parametrize("block", LONG)
def test_python_that_takes_hours_takes_what_there_is(block):
    taken = list(named(ast.parse(block)))
    assert taken
    assert [f"{module}.{name}" for module, name in taken if not hasattr(import_module(module), name)] == []


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text())
    assert all((page.parent / link).exists() for link in links), links


def commands(page):
    """Every command line of a page, in a block or inside a sentence."""
    joined = re.sub(r"\\\n\s*", "", page.read_text())
    blocks = re.findall(r"^(?:    |\s+- run: )voxward (.*?)(?:\s+#.*)?$", joined, re.M)
    sentences = re.findall(r"`voxward\s+([^`]*\s[^`]*)`", joined)
    return [" ".join(line.split()) for line in [*blocks, *sentences]]


@pytest.mark.parametrize("page", [page for page in PAGES if page.name not in OLD], ids=lambda page: page.name)
def test_commands_are_understood(page, capsys):
    # "`voxward train --exclude`" in a sentence speaks of an option, and is no whole command.
    found = [words for line in commands(page) if (words := line.split())[0] in COMMANDS]
    found = [" ".join(words) for words in found if len(words) == 1 or words[1][:1] != "-"]
    assert found or not re.search(r"^    voxward (?!-)", page.read_text(), re.M)
    wrong = []
    for line in found:
        try:
            parser().parse_args(shlex.split(line))
        except SystemExit:
            wrong.append(f"{line}: {capsys.readouterr().err}")
    assert not wrong


def yaml_block(first_line, page):
    """The indented block of a page that begins with a line."""
    text = (ROOT / "docs" / f"{page}.md").read_text()
    lines = text[text.index(f"    {first_line}") :].split("\n\n")[0]
    return textwrap.dedent(lines)


def test_the_protocol_of_the_page_on_protocols_is_one(tmp_path):
    path = tmp_path / "my-protocol.yaml"
    path.write_text(yaml_block("# my-protocol.yaml", "protocol-entries"))
    protocol = load_protocol(path)
    assert protocol.name == "clinic"
    assert not protocol.problems()
    assert len(protocol.require) == 3
    trials = attack_trials(Target(protocol, LabelSet(("background", "a", "b"), (0, 1, 2))))
    assert {member for group in protocol.ensembles.values() for member in group} <= {trial.name for trial in trials}


def test_the_sweep_of_the_page_on_attacks_is_one(tmp_path):
    path = tmp_path / "sweep.yaml"
    path.write_text(yaml_block("# sweep.yaml", "attacks"))
    assert len(load_protocol(path).entries) == 8


def test_the_costs_of_the_page_on_attacks_are_those_of_the_attacks():
    """Gradients for one eps and for five, with three classes; what looks for the smallest change serves every eps."""
    table = (ROOT / "docs" / "attacks.md").read_text().split("| gradients for one eps | for five eps |")[1]
    rows = re.findall(r"^\| `([\w-]+)` \|.*\| (\d+) \| (\d+) \|$", table.split("\n\n")[0], re.M)
    protocol = load_protocol("autoattack")
    assert {name for name, *_ in rows} == {"autoattack", "strong", "fast", "blade-300", "sea-300", "tsallis-300"}
    for name, *told in rows:
        found = []
        for sizes in ((0.1,), (0.1, 0.2, 0.3, 0.4, 0.5)):
            asked = replace(protocol, attacks=(name,), threat=replace(protocol.threat, eps=sizes))
            trials = attack_trials(Target(asked, LabelSet(("background", "a", "b"), (0, 1, 2))))
            found.append(sum(trial.cost(3)[0] * len(trial.sizes(0)) for trial in trials))
        assert found == list(map(int, told)), name


def test_the_entries_of_systems_and_protocols_are_in_the_reference():
    text = "".join((ROOT / "docs" / f"{name}.md").read_text() for name in ("systems", "protocol-entries"))
    named = set(re.findall(r"`([\w.]+)`", "\n".join(line for line in text.splitlines() if line.startswith("|"))))
    protocol = load_protocol("autoattack")
    parts = {name: vars(getattr(protocol, name)) for name in ("threat", "budget", "sanity")}
    entries = {f"{part}.{name}" for part, values in parts.items() for name in values}
    entries |= set(vars(protocol)) - set(parts)
    systems = {name for kind in KINDS.values() for name in kind.entry.__dataclass_fields__}
    assert (entries | systems) - named == set()


def test_every_objective_is_in_the_table():
    text = (ROOT / "docs" / "attack-list.md").read_text()
    table = text.split("| objective | the attack raises |")[1].split("\n\n")[0]
    named = re.findall(r"`([a-z-]+)`", "".join(re.findall(r"^\|([^|]*)\|", table, re.M)))
    assert sorted(named) == sorted(OBJECTIVES)


def test_the_system_of_the_page_on_systems_has_legal_entries():
    entry = read_yaml(yaml_block("format: 1                        # of the file", "systems"), "the page")
    for one in (entry, entry["fine"]):
        assert set(one) - {"format", "kind"} <= set(KINDS[one["kind"]].entry.__dataclass_fields__)


def test_the_manifests_of_the_page_on_scaling_hang_together():
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "scaling.md").read_text(), re.S)
    parts = list(yaml.safe_load_all(blocks[0]))
    by_kind = {part["kind"]: part for part in parts}
    assert [part["kind"] for part in parts] == ["Deployment", "Service", "Deployment", "Job"]
    scheduler, service, workers, job = parts
    assert service["spec"]["selector"] == scheduler["spec"]["template"]["metadata"]["labels"]
    address = f"tcp://{service['metadata']['name']}:{service['spec']['ports'][0]['port']}"
    for part in (workers, job):
        (container,) = part["spec"]["template"]["spec"]["containers"]
        assert address in container["command"]
        program, *words = container["command"]
        assert program == "voxward"
        parser().parse_args(words)
    assert by_kind["Job"]["spec"]["template"]["spec"]["restartPolicy"] == "OnFailure"
    assert set(yaml.safe_load(blocks[1])["distributed"]["comm"]["tls"]) == {"ca-file", "scheduler", "worker", "client"}
