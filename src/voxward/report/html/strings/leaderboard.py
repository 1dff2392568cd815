"""The words of the tables that compare systems."""

from __future__ import annotations

LEADERBOARD = {
    "heading": "Systems and attacks compared",
    "ranking": "Ranking: {names}",
    "all": "For engineers: every attack on {name}",
    "apart": "Not every system is ranked against every other one",
    "apart_text": "These folders were not measured alike: their scans, classes, attacks, sizes or budgets differ. So a "
    "system of one folder must not be compared with a system of another one.",
    "unequal": "NOT COMPARABLE: not every system was measured on the same scans (number of scans: {counts}). A system "
    "that was given easier scans stands higher than it should",
    "unfinished_one": "NOT FINISHED: 1 scan is left out here, because an attack on it has not ended for every system",
    "unfinished_many": "NOT FINISHED: {n} scans are left out here, because attacks on them have not ended for every "
    "system",
    "unfinished_all": "The systems are not compared, because there is no scan yet on which every attack has ended for "
    "every system.",
    "accuracy": "robust accuracy at {size}",
    "accuracy_note": "robust accuracy: the share of scans that keep at least half of the system's own mean clean Dice",
    "seconds": "attack s / scan",
    "seconds_note": "attack s / scan: how long all attacks together took on one scan. It is not the time of a "
    "segmentation",
    "weights": "weights (million)",
}
