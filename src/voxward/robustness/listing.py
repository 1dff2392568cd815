"""What a protocol can name, with one line each."""

from __future__ import annotations

from voxward.attacks import ensemble, registry
from voxward.attacks.ensemble import ENSEMBLES
from voxward.attacks.objectives import OBJECTIVES
from voxward.robustness.protocol import load_protocol, protocol_names


def listing() -> dict[str, dict[str, str]]:
    """Return attacks, ensembles, objectives and packaged protocols by name, each with one line."""
    attacks = {name: line for name, line in registry.describe().items() if name not in ENSEMBLES}
    return {
        "attacks": attacks,
        "ensembles": ensemble.describe(),
        "objectives": {name: objective.summary for name, objective in OBJECTIVES.items()},
        "protocols": {name: load_protocol(name).description for name in protocol_names()},
    }
