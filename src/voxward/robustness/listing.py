"""What a protocol can name, with one line each."""

from __future__ import annotations

from voxward.attacks import ensemble, registry
from voxward.attacks.ensemble import ENSEMBLES
from voxward.attacks.objectives import OBJECTIVES
from voxward.robustness.protocol import load_protocol, protocol_names


def listing() -> dict[str, dict[str, str]]:
    """Return packaged protocols, attacks, ensembles and objectives by name, each with one line.

    Attacks that differ only in their objective have one line together, as `apgd-OBJECTIVE`.
    """
    attacks = {name: line for name, line in registry.describe_families().items() if name not in ENSEMBLES}
    return {
        "protocols": {name: load_protocol(name).description for name in protocol_names()},
        "attacks": attacks,
        "ensembles": ensemble.describe(),
        "objectives": {name: objective.summary for name, objective in OBJECTIVES.items()},
    }
