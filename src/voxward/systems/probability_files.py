"""The folder of probability maps: a file for every case, and what its channels are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from voxward.core.case import Case
from voxward.core.document import with_format
from voxward.core.labels import LabelSet
from voxward.core.outputs import Outputs
from voxward.systems.system import System

CHANNELS_FILE = "channels.json"


def probability_file(case: Case) -> str:
    """Return the name of the file that gets the probabilities of a case."""
    return f"{case.id}.nii.gz"


def begin_probabilities(outputs: Outputs, system: System, cases: Sequence[Case]) -> None:
    """Check that the probabilities of cases can be written, and write what their channels are.

    Args:
        outputs: The folder.
        system: The system.
        cases: The cases.

    Raises:
        UserError: The system has no probabilities, or a file would be replaced; nothing is written then.
    """
    system.check_probabilities()
    outputs.check((CHANNELS_FILE, *map(probability_file, cases)))
    outputs.json(CHANNELS_FILE, _channels(system.labels))


def _channels(labels: LabelSet) -> dict[str, Any]:
    if labels.regions:
        names, values = labels.scored, [list(region.values) for region in labels.regions]
    else:
        names, values = labels.predicted.names, [[value] for value in labels.predicted.values]
    channels = [{"name": name, "values": own} for name, own in zip(names, values, strict=True)]
    return with_format({"sum_to_one": not labels.regions, "channels": channels})
