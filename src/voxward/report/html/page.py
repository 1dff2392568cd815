"""From what was read to one HTML file: the sections in their order, rendered into the template with all it needs."""

from __future__ import annotations

import gzip
import json
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

import voxward
from voxward.core.choices import Look
from voxward.core.errors import UserError
from voxward.core.structure import to_data
from voxward.report.chart_figure import inline_svg
from voxward.report.html.about import title_names
from voxward.report.html.download import finite, page_data
from voxward.report.html.glossary import glossary
from voxward.report.html.strings import LANGUAGE, STRINGS
from voxward.report.palette import palette_css, palette_data
from voxward.report.source_files import sentence, told
from voxward.report.sources import Sources


@dataclass(frozen=True)
class Setting:
    """What a section is made for, besides what was read.

    Attributes:
        look: What the user chose.
        beside: The folder beside the page for volumes that are not inside it; None: there is none, and such volumes
            are left out.
        overwrite: Whether files that voxward did not write may be replaced there.
    """

    look: Look = Look()
    beside: Path | None = None
    overwrite: bool = False


@dataclass(frozen=True)
class Section:
    """A section of the page.

    Attributes:
        name: The name of its template, of its anchor, and of its strings.
        make: Returns what the template shows; None where there is nothing of this kind.
    """

    name: str
    make: Callable[[Sources, Setting], Any]


def render(sources: Sources, setting: Setting = Setting()) -> str:
    """Return the page as HTML.

    Args:
        sources: What was read from the folders.
        setting: What the user chose, and where larger volumes may lie.

    Returns:
        The text of the file. It loads nothing from elsewhere.
    """
    from voxward.report.html.sections import SECTIONS

    environment = _environment()
    made = {section.name: _made(section, sources, setting) for section in SECTIONS}
    shown = {name: value for name, value in made.items() if value is not None}
    return environment.get_template("template.html").render(
        title=setting.look.title or _title(sources),
        sections={name: _rendered(environment, name, shown) for name in shown},
        problems=sources.problems,
        written=datetime.now(UTC),
        version=voxward.__version__,
        language=LANGUAGE,
        data=page_data(sources),
        glossary=glossary(sources),
    )


@dataclass(frozen=True)
class _Failed:
    """A section that cannot be shown, and why."""

    reason: str


def _made(section: Section, sources: Sources, setting: Setting) -> Any:
    """What a section shows. What the folders lack costs a page no more than the section; a bug is raised."""
    try:
        return section.make(sources, setting)
    except (UserError, OSError) as error:
        return _Failed(told(error))


def _rendered(environment: Environment, name: str, sections: Mapping[str, Any]) -> Markup:
    value = sections[name]
    try:
        if not isinstance(value, _Failed):
            return Markup(environment.get_template(f"sections/{name}.html").render(section=value, sections=sections))
    except (UserError, OSError) as error:
        value = _Failed(told(error))
    reason = STRINGS["page"]["section_failed"].format(reason=sentence(value.reason))
    return Markup('<p class="banner" role="note">{}</p>').format(reason)


def _title(sources: Sources) -> str:
    if attacked := title_names(sources):
        return STRINGS["page"]["title"].format(names=attacked)
    groups = (sources.suites, sources.attacks, sources.runs, sources.searches, sources.validations)
    names = [one.name for group in groups for one in group]
    return STRINGS["page"]["title"].format(names=", ".join(names)) if names else STRINGS["page"]["empty_title"]


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("voxward.report.html", ""), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.globals |= {"t": STRINGS, "asset": asset, "packed_asset": packed_asset, "licence": licence,
                            "script_json": script_json, "inline_svg": inline_svg,
                            "palette_css": lambda: Markup(palette_css()), "palette_data": palette_data}  # fmt: skip
    return environment


def asset(name: str) -> Markup:
    """Return a script or a style sheet of the page, to be put between its tags.

    Args:
        name: The path below `report/html`.
    """
    text = files("voxward.report.html").joinpath(name).read_text(encoding="utf-8")
    # Nothing inside may end the element early; after a comment's beginning, a browser looks for another end.
    return Markup(text.replace("</script", "<\\/script").replace("<!--", "<\\!--"))


@cache
def packed_asset(name: str) -> str:
    """Return a large script as base64 of gzip, which the page unpacks when it is needed.

    Args:
        name: The path below `report/html`.
    """
    content = files("voxward.report.html").joinpath(name).read_bytes()
    return b64encode(gzip.compress(content, mtime=0)).decode("ascii")


def licence(name: str) -> str:
    """Return the licence of a library in the page.

    Args:
        name: The library.
    """
    return files("voxward.report.html").joinpath(f"vendor/LICENSE-{name}.txt").read_text(encoding="utf-8")


def script_json(value: Any) -> Markup:
    """Return plain data as JSON that is safe inside a script element.

    Args:
        value: Plain data or dataclasses; NaN and infinity become null.
    """
    plain = to_data(value)
    try:
        text = _json(plain)
    except ValueError:  # NaN or infinity, which are rare: most of all data need not be looked through
        text = _json(finite(plain))
    for character, code in (("<", "\\u003c"), (">", "\\u003e"), ("&", "\\u0026"), ("\u2028", "\\u2028"),
                            ("\u2029", "\\u2029")):  # fmt: skip
        text = text.replace(character, code)
    return Markup(text)


def _json(plain: Any) -> str:
    return json.dumps(plain, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
