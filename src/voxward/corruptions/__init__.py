"""What scanners and protocols do to a scan: named corruptions with severities, drawn first and then applied."""

from voxward.corruptions.corrupt import Drawn, apply, corrupted, draw
from voxward.corruptions.corruption_set import CorruptionSet, corruption_set_names, load_corruption_set
from voxward.corruptions.registry import CORRUPTIONS
from voxward.corruptions.scan import Scan

__all__ = [
    "CORRUPTIONS", "CorruptionSet", "Drawn", "Scan", "apply", "corrupted", "corruption_set_names", "draw",
    "load_corruption_set",
]  # fmt: skip
