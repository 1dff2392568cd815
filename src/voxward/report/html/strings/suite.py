"""The words of the section on a suite: many tasks and systems under one protocol."""

from __future__ import annotations

from collections.abc import Mapping

SUITE: Mapping[str, str] = {
    "heading": "All tasks together",
    "lead": "Every system on every task, attacked by one protocol. The folder of each cell holds its training and its "
    "attack, and voxward report writes the page of it.",
    "robustness": "Dice over the size of the change, averaged over tasks",
    "attacks": "Dice under each attack, averaged over tasks",
    "all_tasks": "All tasks",
    "system": "System",
    "protocol_attacks": "the protocol's attacks",
    "over_tasks": "Means over tasks; each task counts once, whatever the number of its scans.",
    "some_tasks": "An attack that not every task has is averaged over the tasks that have it.",
    "spread": "The worst case over the protocol's attacks on each scan.",
}
