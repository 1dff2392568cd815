"""Tables 1 and 2 of the MS-NAS paper, made of what benchmarks.msnas_tables counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.msnas_widths import LAST, PAPER, Sized

RESAMPLES = 10_000


def report(
    rows: Sequence[Mapping[str, Any]], sizes: Mapping[str, Mapping[str, Sized]], full: Mapping[str, Sized],
    rates: Mapping[str, float],
) -> str:  # fmt: skip
    """The costs, both tables, and the differences of the last network from the others."""
    return "\n".join([*_costs(rows, sizes, full, rates), "", *_tables(rows), "", *_differences(rows)]) + "\n"


def _costs(
    rows: Sequence[Mapping[str, Any]], sizes: Mapping[str, Mapping[str, Sized]], full: Mapping[str, Sized],
    rates: Mapping[str, float],
) -> list[str]:  # fmt: skip
    """What each network costs at the paper's size, beside the paper's figures, and as it was trained."""
    tasks = [*sizes]
    heads = ["network", "M parameters at 256", "paper", "GMACs at 256", "paper", "learning rate"]
    heads += [f"{task}: {what}" for task in tasks for what in ("k parameters", "MMACs", "steps")]
    lines = [f"| {' | '.join(heads)} |", f"| --- |{' ---: |' * (len(heads) - 1)}"]
    for name, (parameters, macs, *_) in PAPER.items():
        cost = full[name].cost
        cells = [name, f"{cost.parameters / 1e6:.2f}", f"{parameters}", f"{cost.macs / 1e9:.2f}", f"{macs}"]
        cells += [f"{rates[name]:g}"]
        for task in tasks:
            small, of = sizes[task][name].cost, _of(rows, task, name)
            steps = np.mean([row["steps"] for row in of])
            cells += [f"{small.parameters / 1e3:.0f}", f"{small.macs / 1e6:.0f}", f"{steps:.0f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _tables(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Tables 1 and 2: mIoU and DSC of all classes, and of each where there are several."""
    lines = list[str]()
    for task in dict.fromkeys(row["task"] for row in rows):
        classes = len(_of(rows, task, LAST)[0]["counts"][0][0])
        columns: list[int | None] = [None, *(range(classes) if classes > 1 else ())]
        heads = [
            f"{'mean' if one is None else f'class {one + 1}'}: {what}" for one in columns for what in ("mIoU", "DSC")
        ]
        lines += [f"{task}, in %:", "", f"| network | {' | '.join(heads)} |", f"| --- |{' ---: |' * len(heads)}"]
        for name in PAPER:
            cells = [_over_folds(_of(rows, task, name), one, iou) for one in columns for iou in (True, False)]
            lines.append(f"| {name} | {' | '.join(cells)} |")
        lines.append("")
    return lines


def _differences(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """DSC of the last network less that of each other one, in pairs."""
    rng, lines = np.random.default_rng(0), list[str]()
    for task in dict.fromkeys(row["task"] for row in rows):
        ours = _cases(_of(rows, task, LAST), None, iou=False)
        for name in PAPER:
            if name != LAST:
                less = 100 * (ours - _cases(_of(rows, task, name), None, iou=False))
                drawn = less[rng.integers(len(less), size=(RESAMPLES, len(less)))].mean(1)
                low, high = np.percentile(drawn, [2.5, 97.5])
                lines.append(f"- {task}: {LAST} - {name}: DSC {less.mean():+.2f} [{low:+.2f}, {high:+.2f}] %")
    return lines


def _of(rows: Sequence[Mapping[str, Any]], task: str, network: str) -> list[Mapping[str, Any]]:
    return [row for row in rows if (row["task"], row["network"]) == (task, network)]


def _over_folds(rows: Sequence[Mapping[str, Any]], one: int | None, iou: bool) -> str:
    folds = [100 * _cases([row], one, iou).mean() for row in rows]
    return f"{np.mean(folds):.1f} ± {np.std(folds, ddof=1):.1f}"


def _cases(rows: Sequence[Mapping[str, Any]], one: int | None, iou: bool) -> np.ndarray[Any, Any]:
    """DSC or IoU of each case, of one class or the mean over all; a class that is neither there nor found counts 1."""
    both, found, true = np.moveaxis(np.array([case for row in rows for case in row["counts"]]), 1, 0)
    whole = found + true - both if iou else (found + true) / 2
    values = np.where(whole > 0, both / np.maximum(whole, 1e-9), 1.0)
    return np.asarray(values.mean(1) if one is None else values[:, one])
