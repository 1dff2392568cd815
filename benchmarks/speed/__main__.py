"""Run the duels and write their table: `make bench`, or

    python -m benchmarks.speed [--only lattice inference] [--rounds 5] [--device cpu] [--out results/speed]
    python -m benchmarks.speed --check results/speed/cpu.json

--out writes DEVICE.md and DEVICE.json, the latter the ratios that a later --check compares its own with: that fails
where one fell below `TOLERATED` of the stored one. Absolute times are never compared.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
from pathlib import Path

import torch

from benchmarks.speed import augmentation, convolutions, hardening, inference, loading, network, resampling, scores
from benchmarks.speed.harness import Group, Outcome, settle
from voxward.core.files import write_json, write_text

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
}
TOLERATED = 0.7


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=GROUPS, default=list(GROUPS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2, help="of PyTorch on the CPU (default 2)")
    parser.add_argument("--out", type=Path, help="folder for the table and the ratios")
    parser.add_argument("--check", type=Path, help="ratios of an earlier run to compare with")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    outcomes: list[Outcome] = []
    for name in given.only:
        for duel in GROUPS[name]():
            outcomes.append(settle(duel, given.rounds))
            print(_line(outcomes[-1]), flush=True)
    if given.out is not None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        write_json(given.out / f"{device}.json", {outcome.name: round(outcome.ratio, 3) for outcome in outcomes})
        write_text(given.out / f"{device}.md", _table(outcomes, " ".join(sys.argv[1:]), given.threads))
    return 0 if given.check is None else _checked(outcomes, json.loads(given.check.read_text()))


def _line(outcome: Outcome) -> str:
    spread = f"{min(outcome.ratios):.2f} to {max(outcome.ratios):.2f}"
    seconds = f"{outcome.ours_seconds:.4g} | {outcome.peer_seconds:.4g}"
    required = "" if outcome.at_least is None else f">= {outcome.at_least:g}"
    return (
        f"| {outcome.name} | {outcome.peer_name} | {seconds} | **{outcome.ratio:.2f}** ({spread}) | {required} "
        f"| {outcome.quality} |"
    )


def _table(outcomes: list[Outcome], arguments: str, threads: int) -> str:
    rounds = len(outcomes[0].ratios) if outcomes else 0
    lines = [
        f"`python -m benchmarks.speed {arguments}`, commit {commit()}, {machine(threads)}.",
        f"Medians of {rounds} rounds, ours and the peer by turns; ratio = peer / ours (lowest to highest round),",
        "above 1 where ours is faster.",
        "",
        "| what | peer | ours s | peer s | ratio | required | quality |",
        "| --- | --- | ---: | ---: | ---: | --- | --- |",
        *map(_line, outcomes),
    ]
    return "\n".join(lines) + "\n"


def _checked(outcomes: list[Outcome], earlier: dict[str, float]) -> int:
    """Exit code 1 where a ratio fell too far, or below what is required of it."""
    fallen = [
        f"{outcome.name}: ratio {outcome.ratio:.2f}, was {earlier[outcome.name]:.2f}"
        for outcome in outcomes
        if outcome.name in earlier and outcome.ratio < TOLERATED * earlier[outcome.name]
    ]
    print("\n".join(fallen) or f"no ratio fell below {TOLERATED:g} of the earlier one")
    return 1 if fallen else 0


def machine(threads: int) -> str:
    if torch.cuda.is_available():
        return f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
    return f"{_processor()}, {threads} threads, torch {torch.__version__}, Python {platform.python_version()}"


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
