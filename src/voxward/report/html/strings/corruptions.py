"""The words of the section on corruptions."""

from __future__ import annotations

from collections.abc import Mapping

CORRUPTIONS: Mapping[str, str] = {
    "heading": "What do scanners and patients do?",
    "about": "These changes are simulated: other positions, other contrasts, noise, motion, thicker slices and the "
    "like, each in up to five severities. Nobody chose them to do harm, as an attacker would. Larger severities are "
    "rare in everyday use.",
    "told": "On {scans}, {system} has a mean Dice of {clean} when nothing is changed, and of {corrupted}{interval} "
    "over {n} corruptions and {severities}: it loses {gap}.",
    "kept": "On {scans}, {system} has a mean Dice of {clean} when nothing is changed, and of {corrupted}{interval} "
    "over {n} corruptions and {severities}: it does not lose.",
    "interval": " (95 % interval {low} to {high})",
    "severities_one": "one severity",
    "severities_many": "{n} severities",
    "worst": "The worst one is {name}, with a mean Dice of {dice}.",
    "weak": "So mild a change as severity {severity} of {name} already lowers it to {dice}.",
    "few_one": "There is 1 scan only. It is an example, not a measurement.",
    "few_many": "There are {n} scans only: the means are unsure.",
    "unfinished": "The measurement has not ended: what is missing may do more harm.",
    "left_out_one": "1 result is missing, because the corruption means nothing on its scan: {reason}.",
    "left_out_many": "{n} results are missing, because the corruption means nothing on their scans, such as: {reason}.",
    "chart": "Dice over the severity of each corruption",
    "axis": "severity",
    "system": "System",
    "chart_note": "Severity 0 is the unchanged scan.",
}
