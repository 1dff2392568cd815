"""Gathers the pages of the site: `python docs/build_site.py FOLDER`, then `zensical build` (both: `make docs`).

The folder gets the pages of docs/, examples/ and results/, README.md as the first page, and the reference, which is
made of what the code says: every command with its options from the parser, every packaged recipe, protocol, corruption
set and suite as it is, and the Python functions by their docstrings. Links between pages are those of the repository;
those to files that are no page lead to the reference.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import voxward
from voxward.cli import COMMANDS, parser
from voxward.core.yaml import packaged_names
from voxward.corruptions.registry import CORRUPTIONS

ROOT = Path(__file__).parents[1]
PACKAGED = {
    "recipes": ("Recipes", "How a network is trained. Change any entry with `--set`, or copy the file and edit it."),
    "protocols": ("Protocols", "How robustness is measured: threat, attacks, budget, controls, requirements."),
    "corruption_sets": ("Corruption sets", "What scanners and patients do to scans, with the levels of severity."),
    "suites": ("Suites", "Tasks, systems, and a protocol."),
}
"""The folders of packaged YAML files: the title of their page, and what they are."""
RECORDS = {
    "Record": "voxward.robustness.record",
    "ThreatModel": "voxward.attacks.threat",
    "Surface": "voxward.robustness.record",
    "Visibility": "voxward.robustness.visibility",
    "Phantom": "voxward.robustness.record",
    "Corrupted": "voxward.robustness.corrupted",
    "NoisyRuns": "voxward.robustness.noisy_runs",
}
"""What the records of an attack consist of: the class, and the module that holds it."""
SOURCES = {name: name for name in PACKAGED} | {"cli": "commands", "robustness/record.py": "records"}
"""What links to the source lead to on the site: the page of the reference, by the path in the package."""
OLD = ("benchmark",)
"""Former names of commands, which have no page."""
PAGE_SUFFIXES = (".md", ".png", ".svg", ".csv", ".json", ".css", ".js", ".html")


def main() -> None:
    """Gather the pages, and write the reference."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("folder", type=Path)
    folder = options.parse_args().folder
    shutil.rmtree(folder, ignore_errors=True)
    gather(folder)
    write_reference(folder / "reference")


def gather(folder: Path) -> None:
    """Copy the pages, with their pictures and tables, and mend the links that lead out of the site."""
    names = ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")
    paths = [ROOT / name for name in names] + [
        path
        for part in ("docs", "examples", "results")
        for path in (ROOT / part).rglob("*")
        if path.suffix in PAGE_SUFFIXES
    ]
    for path in paths:
        place = folder / path.relative_to(ROOT)
        place.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".md":
            depth = len(path.relative_to(ROOT).parts) - 1
            place.write_text(mended(path.read_text(encoding="utf-8"), "../" * depth), encoding="utf-8")
        else:
            shutil.copyfile(path, place)
    (folder / "index.md").write_text(mended((ROOT / "README.md").read_text(encoding="utf-8"), ""), encoding="utf-8")


def mended(text: str, up: str) -> str:
    """Return the text of a page whose links lead to pages only.

    Args:
        text: The page, as the repository has it.
        up: The way from the page to the folder of the site, such as `../`.
    """

    def lead(found: re.Match[str]) -> str:
        target = found.group(1)
        packaged = re.search(r"src/voxward/(\w+)/([\w.-]+)\.yaml$", target)
        if packaged and packaged.group(1) in PACKAGED:
            return f"]({up}reference/{packaged.group(1)}.md#{packaged.group(2)})"
        source = re.search(r"src/voxward/(.+?)/?$", target)
        if source and source.group(1) in SOURCES:
            return f"]({up}reference/{SOURCES[source.group(1)]}.md)"
        if target.rstrip("/") in ("docs", "../docs"):
            return f"]({up}docs/first-figure.md)"
        if target.rstrip("/") in ("results", "../results"):
            return f"]({up}results/README.md)"
        if target.endswith(".py") or target == "LICENSE":
            return "]()"
        return found.group(0)

    return re.sub(r"\[([^\]]*)\]\(\)", r"\1", re.sub(r"\]\((?!https?:)([^)]+)\)", lead, text))


def write_reference(folder: Path) -> None:
    """Write the pages that the code itself says."""
    folder.mkdir(parents=True)
    pages = {"commands": commands_page(), "python": python_page(), "records": records_page()}
    pages = {name: "\n".join(lines) for name, lines in pages.items()}
    pages |= {name: "\n".join(packaged_page(name)) for name in PACKAGED}
    for name, text in pages.items():
        (folder / f"{name}.md").write_text(text + "\n", encoding="utf-8")


def commands_page() -> Iterator[str]:
    """Every command with all its options, as `--help` prints them."""
    top = parser()
    subparsers = next(action for action in top._actions if isinstance(action, argparse._SubParsersAction))
    yield "# Commands\n"
    yield f"```\n{_epilog(top.epilog or '')}```\n"
    for name, command in COMMANDS.items():
        if name in OLD:
            continue
        line = subparsers.choices[name]
        yield f"## {name}\n\n{_sentence(command.help)}\n\n```\n{line.format_usage()}```\n"
        yield "| argument | what |\n| --- | --- |"
        for action in line._actions:
            if action.help is not argparse.SUPPRESS and "--help" not in action.option_strings:
                yield f"| {_names(action)} | {_help(action)} |"
        yield ""


def _names(action: argparse.Action) -> str:
    value = "" if action.nargs == 0 else str(action.metavar or action.dest.upper())
    if not action.option_strings:
        return f"`{action.metavar or action.dest}`"
    return ", ".join(f"`{option} {value}`".replace(" `", "`") for option in action.option_strings)


def _help(action: argparse.Action) -> str:
    text = (action.help or "") % {**vars(action), "prog": "voxward"}
    choices = f" One of {', '.join(f'`{one}`' for one in action.choices)}." if action.choices else ""
    return _sentence(text.replace("|", "\\|")) + choices


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def _epilog(text: str) -> str:
    return text if text.endswith("\n") else f"{text}\n"


def packaged_page(name: str) -> Iterator[str]:
    """The packaged files of one kind, as they are."""
    title, what = PACKAGED[name]
    yield f"# {title}\n\n{what}\n"
    if name == "corruption_sets":
        yield "| corruption | what it is |\n| --- | --- |"
        yield from (f"| `{one}` | {_sentence(kind.summary)} |" for one, kind in CORRUPTIONS.items())
        yield ""
    for one in packaged_names(name):
        text = (Path(voxward.__file__).parent / name / f"{one}.yaml").read_text(encoding="utf-8")
        yield f"## {one}\n\n```yaml\n{text}```\n"


def python_page() -> Iterator[str]:
    """Everything that `import voxward` offers, by its docstring."""
    yield "# Python\n\nThe functions behind the commands, and the parts that they are made of.\n"
    for name, home in voxward._HOMES.items():
        if name not in OLD:
            yield f"## {name}\n\n::: {home}.{name}\n    options:\n      show_root_heading: false\n"


def records_page() -> Iterator[str]:
    """The entries of an attack's records, by the docstrings of what they hold."""
    yield "# Records\n\nWhat a JSON file in `records/` of an attack's folder holds: an attack or control on one case.\n"
    for name, home in RECORDS.items():
        yield f"## {name}\n\n::: {home}.{name}\n    options:\n      show_root_heading: false\n"


if __name__ == "__main__":
    sys.exit(main())
