"""Which volumes are inside the page, and which lie in files beside it that the page loads when a reader asks."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import voxward
from voxward.core.outputs import Outputs
from voxward.report.html.kept import Kept, NotShown
from voxward.report.html.page import Setting
from voxward.report.html.strings import STRINGS
from voxward.report.html.volumes import Quality, Wanted, pack, read_shown

PAGE_BYTES = 6_000_000
"""The size that a page keeps below with `auto`."""
MOST_BESIDE = 50
"""How many cases `auto` puts beside the page."""
KIND = "the volumes of a report page"

_SAID = STRINGS["volumes"]
LADDER = (
    Quality(),
    Quality(margin_mm=10.0, image_steps=1023, steps=31),
    Quality(margin_mm=10.0, image_steps=511, steps=7),
    Quality(margin_mm=8.0, whole_below=0, image_steps=255, steps=3),
    Quality(margin_mm=5.0, whole_below=0, image_steps=255, steps=3, every_eps=False),
)
"""How the volumes of all cases are made to fit into the page, the best first."""
# Where the first case is so many times too large, none of these ways will make all cases fit.
_MOST_SAVED = 15


@dataclass(frozen=True)
class Job:
    """The volumes of one case.

    Attributes:
        key: What the page calls them.
        kept: The cases of the attack folder.
        wanted: What is shown.
        name: The name of the file beside the page, without its suffix.
    """

    key: str
    kept: Kept
    wanted: Wanted
    name: str

    def content(self, quality: Quality) -> str:
        """Return the volumes as JSON that is safe inside a script element.

        Raises:
            NotShown: They cannot be shown.
        """
        data = pack(read_shown(self.kept, self.wanted, quality), quality)
        return json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


@dataclass(frozen=True)
class Embedded:
    """Where the volumes of the cases are.

    Attributes:
        inside: The volumes inside the page, by their keys.
        beside: The files beside the page, by their keys, as paths from the page.
        why: For every other case a sentence that says why it cannot be shown.
    """

    inside: dict[str, str] = field(default_factory=dict)
    beside: dict[str, str] = field(default_factory=dict)
    why: dict[str, str] = field(default_factory=dict)


def embed(jobs: Sequence[Job], setting: Setting, bytes_left: int) -> Embedded:
    """Pack the volumes of cases into the page or beside it.

    Args:
        jobs: The cases, the one that should rather be inside first.
        setting: What the user chose, and where files beside the page go.
        bytes_left: How many bytes the page has for volumes with `auto`.

    Returns:
        Where they are.

    Raises:
        UserError: A file beside the page must not be replaced.
    """
    found = Embedded()
    if setting.look.embed == "all":
        _inside(jobs, Quality(), found, _Room(), _Packed())
    elif setting.look.embed == "none":
        for job in jobs:
            _beside(job, Quality(cut=False), setting, found, _Packed())
    else:
        _auto(jobs, setting, bytes_left, found)
    return found


def _auto(jobs: Sequence[Job], setting: Setting, bytes_left: int, found: Embedded) -> None:
    packed = _Packed()
    for quality in LADDER:
        one = Embedded()
        left = _inside(jobs, quality, one, _Room(bytes_left, len(jobs)), packed)
        if not left:
            found.inside.update(one.inside)
            found.why.update(one.why)
            return
        if packed.size * len(jobs) > _MOST_SAVED * bytes_left:
            break
    left = _inside(jobs, LADDER[0], found, _Room(bytes_left), packed)
    for number, job in enumerate(left):
        if number < MOST_BESIDE:
            _beside(job, LADDER[0], setting, found, packed)
        else:
            found.why[job.key] = _SAID["too_many"].format(most=MOST_BESIDE)


@dataclass(eq=False)
class _Packed:
    """Packs cases, and keeps the last one: a case that does not fit into the page is often packed again at once."""

    last: tuple[str, Quality, str] | None = None

    def content(self, job: Job, quality: Quality) -> str:
        if self.last is None or self.last[:2] != (job.key, quality):
            self.last = None
            self.last = job.key, quality, job.content(quality)
        return self.last[2]

    @property
    def size(self) -> int:
        """The size of the case that was packed last."""
        return 0 if self.last is None else len(self.last[2])


@dataclass(frozen=True)
class _Room:
    """How many bytes there are.

    Attributes:
        total: The bytes; None: as many as it takes.
        cases: How many cases there are, if all of them must fit; 0: as many as fit.
    """

    total: int | None = None
    cases: int = 0

    def fits(self, taken: int, size: int, done: int) -> bool:
        """Whether a case of some size fits after `done` others that took so many bytes."""
        if self.total is None:
            return True
        # The first case tells whether it is worth packing all the others.
        promises = done > 0 or size * self.cases <= 1.5 * self.total
        return taken + size <= self.total and promises


def _inside(jobs: Sequence[Job], quality: Quality, found: Embedded, room: _Room, packed: _Packed) -> list[Job]:
    """Add cases while they fit; returns those that do not."""
    taken = 0
    for number, job in enumerate(jobs):
        try:
            content = packed.content(job, quality)
        except NotShown as error:
            found.why[job.key] = str(error)
            continue
        if not room.fits(taken, len(content), len(found.inside)):
            return list(jobs[number:])
        found.inside[job.key] = content
        taken += len(content)
    return []


def _beside(job: Job, quality: Quality, setting: Setting, found: Embedded, packed: _Packed) -> None:
    """Write a file beside the page, unless it is there and nothing that it is made of has changed."""
    if setting.beside is None:
        found.why[job.key] = _SAID["no_place"]
        return
    name, outputs = f"{job.name}.js", Outputs(setting.beside, KIND, setting.overwrite)
    how = _how(job, quality)
    if not outputs.made(name, how):
        try:
            content = packed.content(job, quality)
        except NotShown as error:
            found.why[job.key] = str(error)
            return
        setting.beside.mkdir(parents=True, exist_ok=True)
        with outputs.write(name, how) as path:
            path.write_text(f"voxwardVolumes({json.dumps(job.key)},{content});\n", encoding="ascii")
    found.beside[job.key] = f"{setting.beside.name}/{name}"


def _how(job: Job, quality: Quality) -> str:
    """A digest of all that decides what the file holds; files are told by size and time."""
    parts = [voxward.__version__, job.key, repr(quality), repr(job.wanted), repr(job.kept.systems), *_stamps(job)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _stamps(job: Job) -> Iterator[str]:
    for path in _files(job):
        stamp = path.stat() if path.is_file() else None
        yield f"{path} {stamp and (stamp.st_size, stamp.st_mtime_ns)}"


def _files(job: Job) -> Iterator[Path]:
    seeds = job.wanted.seeds
    if (case := job.kept.moved.get(job.wanted.case) or job.kept.cases.get(job.wanted.case)) is not None:
        yield from case.images
        yield from () if case.label is None else (case.label,)
    for record in (*job.wanted.clean, *(record for one in job.wanted.struck for record in one.records)):
        for path in (job.kept.mask(record, seeds), job.kept.volume(record, seeds)):
            if path is not None:
                yield path
