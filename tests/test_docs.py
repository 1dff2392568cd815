"""The guide's Python blocks run, in order, in an empty folder; its command lines and files are understood."""

import re
import shlex
import textwrap
from pathlib import Path

import pytest
import yaml

from voxward.attacks.objectives import OBJECTIVES
from voxward.cli import COMMANDS, parser
from voxward.core.yaml import read_yaml
from voxward.robustness.protocol import load_protocol
from voxward.systems.open import KINDS

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "docs/guide.md", "docs/report.md", "docs/scaling.md")]


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


def yaml_block(first_line):
    """The indented block of the guide that begins with a line."""
    text = (ROOT / "docs" / "guide.md").read_text()
    lines = text[text.index(f"    {first_line}") :].split("\n\n")[0]
    return textwrap.dedent(lines)


def test_the_protocol_of_the_guide_is_one(tmp_path):
    path = tmp_path / "my-protocol.yaml"
    path.write_text(yaml_block("# my-protocol.yaml"))
    protocol = load_protocol(path)
    assert protocol.name == "clinic"
    assert not protocol.problems()
    assert len(protocol.require) == 3


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
