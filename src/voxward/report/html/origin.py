"""Which data, versions, machines and calls made the results of an attack folder, as facts for its page."""

from __future__ import annotations

from collections.abc import Iterator

from voxward.core.machine import Machine, Software
from voxward.core.provenance import Sitting, Work
from voxward.report.html.strings import count, say


def origin_facts(work: Work | None) -> Iterator[tuple[str, str]]:
    """Yield a label and a value for each thing that is known of where the results come from.

    Args:
        work: What the folder says; None where it does not say anything.
    """
    if work is None or not work.sittings:
        return
    if work.contents:
        yield say("trust", "data"), count("trust", "data", len(work.contents), digest=work.data)
    yield say("trust", "packages"), "; ".join(dict.fromkeys(_packages(one.software) for one in work.sittings))
    if revisions := list(dict.fromkeys(_revision(one.software) for one in work.sittings if one.software.revision)):
        yield say("trust", "revision"), "; ".join(revisions)
    yield say("trust", "machines"), "; ".join(dict.fromkeys(_machine(one.machine) for one in work.sittings))
    yield count("trust", "sittings", len(work.sittings)), "; ".join(map(_sitting, work.sittings))


def _packages(software: Software) -> str:
    return ", ".join([f"Python {software.python}", *(f"{name} {one}" for name, one in software.packages.items())])


def _revision(software: Software) -> str:
    return say("trust", "revision_changed", revision=software.revision) if software.changed else software.revision


def _machine(machine: Machine) -> str:
    if machine.gpu:
        return say(
            "trust", "machine_gpu", name=machine.gpu, gpu_memory=machine.gpu_memory_gb, cuda=machine.cuda,
            cudnn=machine.cudnn, processor=machine.processor, system=machine.system,
        )  # fmt: skip
    return say(
        "trust", "machine", name=machine.name, cores=machine.cores, threads=machine.threads,
        memory=machine.memory_gb, system=machine.system,
    )  # fmt: skip


def _sitting(one: Sitting) -> str:
    if one.last is None:
        return say("trust", "sitting_open", began=one.began, first=one.first + 1)
    return say("trust", "sitting", began=one.began, first=one.first + 1, last=one.last)
