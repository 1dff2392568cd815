"""Several runs of benchmarks.msnas, of other seeds, as one: `python -m benchmarks.msnas_pool OUT OUT ...`.

The same table and differences over the networks of all. They must have the same settings but for the seed and the
number of networks.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.msnas import report

_MAY_DIFFER = ("seed", "random")


def main() -> None:
    parser = argparse.ArgumentParser(description="Several runs of benchmarks.msnas as one.")
    parser.add_argument("outs", type=Path, nargs="+", metavar="OUT")
    print(pooled(parser.parse_args().outs))


def pooled(outs: Sequence[Path]) -> str:
    """The report on all runs. Raises ValueError where they differ in more than their seeds."""
    settings = [json.loads((out / "settings.json").read_text()) for out in outs]
    shared = [{name: value for name, value in one.items() if name not in _MAY_DIFFER} for one in settings]
    for out, one in zip(outs, shared, strict=True):
        if one != shared[0]:
            raise ValueError(f"{out} has other settings than {outs[0]}")
    rows = [_named(out, row) for out in outs for row in json.loads((out / "results.json").read_text())]
    return report([row for row in rows if "dice" not in row], [row for row in rows if "dice" in row])


def _named(out: Path, row: dict[str, Any]) -> dict[str, Any]:
    """Every run calls its random networks by the same numbers."""
    return {**row, "network": f"{out}/{row['network']}"} if "network" in row else row


if __name__ == "__main__":
    main()
