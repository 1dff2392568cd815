"""All metrics by name.

A new one is a file with a `Metric`, a line here, and an entry in tests/metrics/test_registry.py.
"""

from __future__ import annotations

from voxward.core.registry import Registry
from voxward.metrics.dice import DICE
from voxward.metrics.distances import HD95, NSD
from voxward.metrics.metric import Metric
from voxward.metrics.ratios import IOU, SENSITIVITY, SPECIFICITY

METRICS: Registry[Metric] = Registry(
    "metric",
    {
        "dice": DICE,
        "iou": IOU,
        "sensitivity": SENSITIVITY,
        "specificity": SPECIFICITY,
        "hd95_mm": HD95,
        "nsd": NSD,
    },
)
"""Every metric, in the order of the columns of metrics.csv and of the tables."""

PRIMARY = "dice"
"""The metric that stands for all: tables show its interval and its spread, and cases are ranked by it."""
