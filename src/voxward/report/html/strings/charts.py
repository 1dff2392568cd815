"""The words of charts, and of the sections that show them."""

from __future__ import annotations

from collections.abc import Mapping

CHARTS: Mapping[str, str] = {
    "panel": "Part",
    "line": "Line",
    "class": "Class",
    "mean": "Mean over the classes",
    "dice": "Dice",
    "dice_of_array": "Dice of the array (no file)",
    "auc": "AUC {value}",
    "eps": "size of the change, eps (share of the intensity range)",
    "eps_native": "size of the change, eps (intensity)",
    "eps_l2": "size of the whole change, eps (root of the sum of the squares)",
    "evaluations": "evaluations of the model",
    "all_attacks": "all attacks",
    "noise": "sign noise of the same eps",
    "gaussian": "Gaussian noise of the same RMS",
    "rician": "Rician noise of the same RMS",
    "over_eps": "Worst-case Dice over the size of the change ({attacks})",
    "over_evaluations": "Lowest Dice found so far",
    "system_at": "{system}, eps {eps}",
    "system_and_eps": "System and size",
    "worst_over": "Each scan counts with the attack that hurt it most ({attacks}).",
    "noise_of_mean": "The lines of noise are of the mean over the classes. A single class has none.",
    "of_arrays": "The Dice is that of the array (tensor) that the attack computes, because no file is written at every "
    "evaluation.",
    "files_differ": "Other figures are of written files, which round the change, so that the ends of these lines can "
    "differ from them.",
    "area": "AUC is the area under a line divided by its length, the mean over the attack's own evaluations. Lower: "
    "the attack is faster or stronger.",
    "chained": "Searched at all sizes in one go: {attacks}. Such a line begins with what other sizes had found. So its "
    "AUC cannot be compared with that of other attacks, its end can.",
    "bands": "Bands show how sure a mean is: 95 % bootstrap intervals over the scans.",
    "lowest_so_far": "Each line is the mean over the scans of the lowest Dice that the attack has found so far.",
    "some_systems": "{shown} of {count} systems are drawn at first, those with the highest Dice under attack. "
    "The legend adds the others.",
    "first_systems": "{shown} of {count} systems are drawn at first. The legend adds the others.",
    "some_classes": "On paper the {shown} of {count} classes are drawn that lose most. The page has all of them.",
    "more_lines_one": "1 more line is in the table below.",
    "more_lines_many": "{n} more lines are in the table below.",
    "told": "{value} at {x}",
    "no_figure": "{line}: no figure.",
    "columns": "Columns: {x}. Figures: {y}, and [95 % bootstrap interval over scans] where there is one.",
    "panel_image": "image",
    "panel_change": "change",
    "panel_truth": "truth",
    "panel_clean": "segmentation",
    "panel_attacked": "under attack",
    "panel_HU": "change of the intensity (HU)",
    "panel_raw": "change of the intensity",
    "kind": "chart",
    "keyboard": "Left and right arrow keys move along the chart, Home and End go to its ends.",
    "hint": "Point at the chart, or use the arrow keys, to read its figures.",
    "table": "The figures as a table",
    "lines": "Lines: press a name to hide or show its line",
    "png": "PNG",
    "svg": "SVG",
    "csv": "CSV",
    "png_label": "Download as PNG: {title}",
    "svg_label": "Download as SVG: {title}",
    "csv_label": "Download the figures as CSV: {title}",
}

CURVES: Mapping[str, str] = {
    "heading": "How the segmentation gets worse",
    "lead": "Dice 1: the same outline as the expert's. Dice 0: no voxel in common. The "
    "first chart shows how it falls as the change of the scan may grow, the second how fast the attacks find such "
    "a change.",
    "no_chart": "{folder} has no such chart: {reason}.",
    "no_history": "None of the attacks of {folder} kept its course, so that there is no chart of it.",
}

CHART_SCRIPT: Mapping[str, str] = {
    "chart_scans": "{count} scans",
    "chart_scan": "1 scan",
    "chart_nothing": "no figure",
}
