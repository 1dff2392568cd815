"""The pages of the site: links lead to pages, and the reference is complete."""

from __future__ import annotations

import argparse
import importlib.util
import re
import tomllib
from pathlib import Path

import pytest

import voxward
from voxward.cli import COMMANDS, parser
from voxward.core.yaml import packaged_names

ROOT = Path(__file__).parents[1]
spec = importlib.util.spec_from_file_location("build_site", ROOT / "docs" / "build_site.py")
build_site = importlib.util.module_from_spec(spec)
spec.loader.exec_module(build_site)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    build_site.gather(folder)
    build_site.write_reference(folder / "reference")
    return folder


def test_every_link_leads_to_a_page_and_a_heading_of_it(site):
    for page in site.rglob("*.md"):
        text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.S)
        for target in re.findall(r"\]\((?!https?:)([^)]+)\)", text):
            path, _, heading = target.partition("#")
            other = (page.parent / path).resolve() if path else page
            assert other.is_file(), (page.name, target)
            if heading:
                assert heading in _headings(other), (page.name, target)


def _headings(page):
    found = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", one).strip().lower().replace(" ", "-") for one in found}


def test_every_command_and_option_is_in_the_reference(site):
    text = (site / "reference" / "commands.md").read_text(encoding="utf-8")
    commands = next(action for action in parser()._actions if isinstance(action, argparse._SubParsersAction)).choices
    for name in set(COMMANDS) - set(build_site.OLD):
        part = text.split(f"\n## {name}\n")[1].split("\n## ")[0]
        for action in commands[name]._actions:
            shown = action.help is not argparse.SUPPRESS and "--help" not in action.option_strings
            assert not shown or f"`{(action.option_strings or [action.metavar or action.dest])[-1]}" in part


def test_every_packaged_file_and_function_is_in_the_reference(site):
    for kind in build_site.PACKAGED:
        text = (site / "reference" / f"{kind}.md").read_text(encoding="utf-8")
        assert all(f"\n## {name}\n" in text for name in packaged_names(kind))
    python = (site / "reference" / "python.md").read_text(encoding="utf-8")
    assert all(f"::: {home}.{name}\n" in python for name, home in voxward._HOMES.items() if name not in build_site.OLD)


def test_the_site_opens_from_disk_without_a_network(site):
    """Styles and scripts are its own; the search's worker would else be fetched from another computer."""
    project = tomllib.loads((ROOT / "zensical.toml").read_text())["project"]
    (script,) = project["extra"]["polyfills"]
    assert project["plugins"]["offline"] == {}
    assert "iframe-worker" in script["path"]
    assert all((site / name).is_file() for name in (script["path"], *project["extra_css"]))


def test_the_menu_names_pages_and_leaves_out_none_of_the_docs(site):
    def pages(entry):
        if isinstance(entry, str):
            yield entry
        for one in entry.values() if isinstance(entry, dict) else entry if isinstance(entry, list) else ():
            yield from pages(one)

    named = {*pages(tomllib.loads((ROOT / "zensical.toml").read_text())["project"]["nav"])}
    assert all((site / name).is_file() for name in named)
    assert {f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")} <= named
    assert {f"reference/{path.name}" for path in (site / "reference").iterdir()} <= named
