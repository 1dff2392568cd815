"""The tables of `benchmarks.msnas_tables`: mean IoU and Dice, differences with intervals, sizes beside the paper's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.msnas_sizes import NETWORKS, PAPER, SEARCHED
from voxward.architecture_search.cost import Cost

Array = NDArray[np.float64]
Folds = list[Array]
"""Of each fold: (cases, 2, classes), IoU and Dice in per cent; NaN where a class is neither there nor predicted."""

TITLES = {"unet-2d": "UNet", "nas-unet": "NAS-UNet", "autodeeplab": "AutoDeepLab",
          "msnas-3": "MS-NAS(3)", "msnas-4": "MS-NAS(4)", "msnas-5": "MS-NAS(5)"}  # fmt: skip
BASELINES = tuple(name for name in NETWORKS if name not in SEARCHED)
IOU, DICE = 0, 1
RESAMPLES = 2000


def report(
    results: Sequence[Mapping[str, Any]], datasets: Sequence[str], classes: Sequence[Sequence[str]],
    published: Mapping[str, Sequence[tuple[int, Cost]]],
) -> str:  # fmt: skip
    """Return all tables as Markdown.

    Args:
        results: Of each training: the place of its dataset, the network, the fold, and what `msnas_tables.train` found.
        datasets: The names of the datasets.
        classes: The names of the classes of each.
        published: What `msnas_sizes.published` counted.
    """
    parts = []
    for place, name in enumerate(datasets):
        of = {network: [row for row in results if (row["place"], row["network"]) == (place, network)]
              for network in NETWORKS}  # fmt: skip
        folds = {network: [scores(row["counts"]) for row in rows] for network, rows in of.items()}
        parts += [f"## {name}", "", *_scores_table(of, folds, classes[place]), "", *_differences(of, folds), ""]
    parts += ["## Sizes on one slice of 256 x 256, one channel, two classes", "", *_sizes_table(published, datasets)]
    return "\n".join(parts) + "\n"


def scores(counts: Sequence[Any]) -> Array:
    """Return IoU and Dice of cases in per cent, (cases, 2, classes).

    Args:
        counts: What `overlap` counts for each case, (cases, 3, classes).
    """
    both, predicted, true = np.moveaxis(np.asarray(counts, float), 1, 0)
    seen = predicted + true
    with np.errstate(invalid="ignore", divide="ignore"):
        found: Array = 100 * np.stack([both / (seen - both), 2 * both / seen], 1)
    return found


def mean_of(folds: Folds, metric: int) -> float:
    """Return the mean over cases of the mean over the classes that a case has."""
    return float(np.mean(np.concatenate([per_case(fold, metric) for fold in folds])))


def per_case(fold: Array, metric: int) -> Array:
    """Return the mean over the classes that each case has; a case has at least one."""
    found: Array = np.nanmean(fold[:, metric], -1)
    return found


def spread(folds: Folds, metric: int) -> float:
    """Return the standard deviation of the means of the folds, which the paper prints behind its means."""
    return float(np.std([per_case(fold, metric).mean() for fold in folds], ddof=1)) if len(folds) > 1 else 0.0


def interval(ours: Folds, theirs: Folds | None, metric: int) -> tuple[float, float]:
    """Return the 95 % interval of a mean or of a difference, of resampling folds, and cases within each, in pairs."""
    values = [per_case(fold, metric) for fold in ours]
    if theirs is not None:
        values = [value - per_case(fold, metric) for value, fold in zip(values, theirs, strict=True)]
    rng, drawn = np.random.default_rng(0), []
    for _ in range(RESAMPLES):
        picked = [values[n] for n in rng.integers(len(values), size=len(values))]
        drawn.append(np.mean(np.concatenate([value[rng.integers(len(value), size=len(value))] for value in picked])))
    low, high = np.percentile(drawn, [2.5, 97.5])
    return float(low), float(high)


def _scores_table(
    of: Mapping[str, Sequence[Mapping[str, Any]]], folds: Mapping[str, Folds], classes: Sequence[str]
) -> list[str]:
    each = [f"{name}: mIOU / DSC" for name in classes] if len(classes) > 1 else []
    head = ["model", "mIOU (%) ± sd of folds", "DSC (%) ± sd of folds", "DSC [95 % bootstrap]", *each, "filters",
            "Params (M)", "FLOPs (G)", "steps", "s"]  # fmt: skip
    lines = [f"| {' | '.join(head)} |", f"| --- |{' ---: |' * (len(head) - 1)}"]
    for network, rows in of.items():
        found = folds[network]
        low, high = interval(found, None, DICE)
        cells = [f"{mean_of(found, metric):.1f} ± {spread(found, metric):.1f}" for metric in (IOU, DICE)]
        cells.append(f"{mean_of(found, DICE):.1f} [{low:.1f}, {high:.1f}]")
        if each:
            means = np.nanmean(np.concatenate(found), 0)
            cells += [f"{means[IOU, n]:.1f} / {means[DICE, n]:.1f}" for n in range(len(classes))]
        row = rows[0]
        cells += [str(row["filters"]), f"{row['parameters'] / 1e6:.2f}", f"{row['macs'] / 1e9:.3f}"]
        cells += [f"{np.mean([row[key] for row in rows]):.0f}" for key in ("steps", "seconds")]
        lines.append(f"| {TITLES[network]} | {' | '.join(cells)} |")
    cases = sum(len(fold) for fold in folds[NETWORKS[0]])
    return [*lines, "", f"{cases} cases, each scored once. FLOPs: multiply-adds of one slice, as the paper counts."]


def _differences(of: Mapping[str, Sequence[Mapping[str, Any]]], folds: Mapping[str, Folds]) -> list[str]:
    """Whether the searched networks are better than the others, with fewer operations."""
    lines = [
        "| difference | mIOU [95 %] | DSC [95 %] | FLOPs | the paper's claim |",
        "| --- | ---: | ---: | ---: | --- |",
    ]
    for searched in SEARCHED:
        for other in BASELINES:
            cells = []
            for metric in (IOU, DICE):
                low, high = interval(folds[searched], folds[other], metric)
                gain = mean_of(folds[searched], metric) - mean_of(folds[other], metric)
                cells.append(f"{gain:+.1f} [{low:+.1f}, {high:+.1f}]")
            ratio = of[searched][0]["macs"] / of[other][0]["macs"]
            verdict = claim(*interval(folds[searched], folds[other], DICE), ratio)
            lines.append(f"| {TITLES[searched]} - {TITLES[other]} | {' | '.join(cells)} | x {ratio:.2f} | {verdict} |")
    return lines


def claim(low: float, high: float, ratio: float) -> str:
    """Return what a difference in Dice says about "better, with fewer operations"."""
    dear = "" if ratio < 1 else ", but not with fewer FLOPs"
    if low > 0:
        return f"better{dear}" if dear else "confirmed"
    return "refuted: worse" if high < 0 else "not shown: the interval holds 0"


def _sizes_table(published: Mapping[str, Sequence[tuple[int, Cost]]], datasets: Sequence[str]) -> list[str]:
    lines = ["| model | searched on | filters | Params (M) | FLOPs (G) | paper: Params (M) | paper: FLOPs (G) |",
             "| --- | --- | ---: | ---: | ---: | ---: | ---: |"]  # fmt: skip
    for network, found in published.items():
        for (filters, cost), dataset in zip(found, datasets, strict=False):
            where = dataset if network in SEARCHED else "-"
            lines.append(
                f"| {TITLES[network]} | {where} | {filters} | {cost.parameters / 1e6:.2f} | {cost.macs / 1e9:.2f} "
                f"| {PAPER[network][0]:.2f} | {PAPER[network][1]:.2f} |"
            )
    return lines
