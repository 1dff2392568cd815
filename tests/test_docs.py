"""The guide's Python blocks run, in order, in an empty folder; its command lines and files are understood."""

import re
import shlex
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from voxward.attacks.objectives import OBJECTIVES
from voxward.cli import COMMANDS, parser
from voxward.core.labels import LabelSet
from voxward.core.yaml import read_yaml
from voxward.robustness.protocol import load_protocol
from voxward.robustness.trials.attack import trials as attack_trials
from voxward.robustness.trials.trial import Target
from voxward.systems.open import KINDS

ROOT = Path(__file__).parents[1]
DOCS = [
    f"docs/{name}.md"
    for name in ("guide", "attacks", "certificates", "corruptions", "dicom", "report", "scaling", "suites")
]
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", *DOCS)]


@pytest.mark.no_cover
def test_the_guide_runs(tmp_path, monkeypatch):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "guide.md").read_text(), re.S)
    assert len(blocks) >= 7
    monkeypatch.chdir(tmp_path)
    namespace = {}
    for block in blocks:
        exec(compile(block, "docs/guide.md", "exec"), namespace)


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text())
    assert all((page.parent / link).exists() for link in links), links


def commands(page):
    """Every command line of a page, in a block or inside a sentence; the last section shows old ones, too."""
    text = page.read_text().split("\n## What changed since")[0]
    joined = re.sub(r"\\\n\s*", "", text)
    blocks = re.findall(r"^(?:    |\s+- run: )voxward (.*?)(?:\s+#.*)?$", joined, re.M)
    sentences = re.findall(r"`voxward\s+([^`]*\s[^`]*)`", joined)
    return [" ".join(line.split()) for line in [*blocks, *sentences]]


@pytest.mark.parametrize("page", [PAGES[0], *PAGES[2:]], ids=lambda page: page.name)
def test_commands_are_understood(page, capsys):
    # "`voxward train --exclude`" in a sentence speaks of an option, and is no whole command.
    found = [line for line in commands(page) if line.split()[0] in COMMANDS and line.split()[1][:1] != "-"]
    assert len(found) > (5 if page.name in ("README.md", "guide.md") else 1)
    wrong = []
    for line in found:
        try:
            parser().parse_args(shlex.split(line))
        except SystemExit:
            wrong.append(f"{line}: {capsys.readouterr().err}")
    assert not wrong


def yaml_block(first_line, page="guide"):
    """The indented block of the guide, or another page, that begins with a line."""
    text = (ROOT / "docs" / f"{page}.md").read_text()
    lines = text[text.index(f"    {first_line}") :].split("\n\n")[0]
    return textwrap.dedent(lines)


def test_the_protocol_of_the_guide_is_one(tmp_path):
    path = tmp_path / "my-protocol.yaml"
    path.write_text(yaml_block("# my-protocol.yaml"))
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


def test_the_entries_of_systems_and_protocols_are_in_the_guide():
    text = (ROOT / "docs" / "guide.md").read_text()
    named = set(re.findall(r"`([\w.]+)`", "\n".join(line for line in text.splitlines() if line.startswith("|"))))
    protocol = load_protocol("autoattack")
    parts = {name: vars(getattr(protocol, name)) for name in ("threat", "budget", "sanity")}
    entries = {f"{part}.{name}" for part, values in parts.items() for name in values}
    entries |= set(vars(protocol)) - set(parts)
    systems = {name for kind in KINDS.values() for name in kind.entry.__dataclass_fields__}
    assert (entries | systems) - named == set()


def test_every_objective_is_in_the_guides_table():
    table = (ROOT / "docs" / "guide.md").read_text().split("| objective | the attack raises |")[1].split("\n\n")[0]
    named = re.findall(r"`([a-z-]+)`", "".join(re.findall(r"^\|([^|]*)\|", table, re.M)))
    assert sorted(named) == sorted(OBJECTIVES)


def test_the_system_of_the_guide_has_legal_entries():
    entry = read_yaml(yaml_block("format: 1                        # of the file"), "the guide")
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
