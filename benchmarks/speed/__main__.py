"""Run the duels and write their table: `make bench`, or

    python -m benchmarks.speed [--only lattice inference] [--rounds 5] [--out results/speed] [--accept]

--out writes DEVICE.md and DEVICE.json. The latter holds the ratios that the next run is compared with: where one fell
by more than 15 %, it is measured again with as many rounds, and where the median of all of them fell as far, the
command fails. A ratio stays in the file as it was first measured, until --accept takes the new ones. Absolute times are
never compared, nor ratios of another processor or number of threads. The column `goal` is hoped for, not enforced.
"""

from __future__ import annotations

import argparse
import platform
import subprocess
import sys
from pathlib import Path
from statistics import median

import torch

from benchmarks.speed import (
    augmentation,
    convolutions,
    hardening,
    inference,
    loading,
    network,
    nnunet,
    resampling,
    scores,
)
from benchmarks.speed.harness import Group, Outcome
from benchmarks.speed.kept import TOLERATED, Kept
from voxward.core.files import write_text

GROUPS: dict[str, Group] = {
    "depthwise": convolutions.duels,
    "lattice": network.lattice_duels,
    "dynunet": network.dynunet_duels,
    "inference": inference.duels,
    "resampling": resampling.duels,
    "augmentation": augmentation.duels,
    "loading": loading.duels,
    "metrics": scores.duels,
    "hardening": hardening.duels,
    "nnunet": nnunet.duels,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=GROUPS, default=list(GROUPS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2, help="of PyTorch on the CPU (default 2)")
    parser.add_argument("--out", type=Path, help="folder for the table and the ratios")
    parser.add_argument("--accept", action="store_true", help="take the ratios that fell as the new ones")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    kept = Kept.read(None if given.out is None else given.out / f"{_device()}.json", conditions(given.threads))
    outcomes: list[Outcome] = []
    for name in given.only:
        for duel in GROUPS[name]():
            outcomes.append(kept.settled(duel, given.rounds))
            print(_line(outcomes[-1]), flush=True)
            if given.out is not None:  # after each, because the next one may fail
                kept.save(outcomes, given.accept)
                write_text(given.out / f"{_device()}.md", _table(outcomes, " ".join(sys.argv[1:]), given.threads))
    fallen = [] if given.accept else [outcome for outcome in outcomes if kept.fell(outcome)]
    print("\n".join(map(kept.sentence, fallen)) or f"no ratio fell by more than {1 - TOLERATED:.0%}")
    return 1 if fallen else 0


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _line(outcome: Outcome) -> str:
    spread = f"{min(outcome.ratios):.2f} to {max(outcome.ratios):.2f}"
    seconds = " | ".join(f"{median(values):.4g}" for values in (outcome.ours, outcome.peer))
    required = "" if outcome.at_least is None else f">= {outcome.at_least:g}"
    return (
        f"| {outcome.name} | {outcome.peer_name} | {seconds} | **{outcome.ratio:.2f}** ({spread}) | {required} "
        f"| {outcome.quality} |"
    )


def _table(outcomes: list[Outcome], arguments: str, threads: int) -> str:
    rounds = min((len(outcome.ratios) for outcome in outcomes), default=0)
    lines = [
        f"`python -m benchmarks.speed {arguments}`, commit {commit()}, {machine(threads)}.",
        f"Medians of {rounds} rounds, ours and the peer by turns; ratio = peer / ours (lowest to highest round),",
        "above 1 where ours is faster.",
        "",
        "| what | peer | ours s | peer s | ratio | goal | quality |",
        "| --- | --- | ---: | ---: | ---: | --- | --- |",
        *map(_line, outcomes),
    ]
    return "\n".join(lines) + "\n"


def machine(threads: int) -> str:
    python = "" if torch.cuda.is_available() else f", Python {platform.python_version()}"
    return f"{conditions(threads)}, torch {torch.__version__}{python}"


def conditions(threads: int) -> str:
    """What ratios depend on and no change of the code or of a package can mend."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else f"{_processor()}, {threads} threads"


def _processor() -> str:
    """The processor's name and which of the instructions that matter here it has."""
    info = Path("/proc/cpuinfo")
    if not info.is_file():
        return platform.processor() or platform.machine()
    lines = dict(line.split(":", 1) for line in info.read_text().splitlines() if ":" in line)
    fields = {key.strip(): value.strip() for key, value in lines.items()}
    flags = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in fields.get("flags", "").split()]
    return f"{fields.get('model name', platform.machine())} ({', '.join(flags)})"


def commit() -> str:
    found = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"


if __name__ == "__main__":
    sys.exit(main())
