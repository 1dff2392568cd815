"""What the intensities of a dataset say about its channels: masks, constant channels, CT that is not called CT."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence

from voxward.core.plan import ChannelFingerprint, ChannelPlan, Fingerprint, Intensities, Plan
from voxward.core.recipe import Preparation
from voxward.data.intensities import AIR_SHARE, is_map, pooled
from voxward.data.normalization import normalization_of, plan_channel

# Cases, or values, that a message names.
_SHOWN = 5

Measured = Mapping[str, Sequence[Intensities]]
"""For each case, by its id, the intensities of each channel."""


def suspicions(channels: Sequence[ChannelPlan], measured: Measured) -> Iterator[tuple[str, str]]:
    """Yield what a user should know about the channels of a dataset, one sentence for all its cases.

    Args:
        channels: The names of the channels, and how they are normalised.
        measured: The intensities of the cases.

    Returns:
        An iterator over a short name and a sentence for each.
    """
    for n, channel in enumerate(channels):
        found = {id: own[n] for id, own in measured.items() if n < len(own)}
        if found:
            called = f"channel {n} ({channel.name})"
            yield from _constant(called, found)
            yield from _ct(called, channel, found)
            whole = pooled(list(found.values()))
            if is_map(whole) and normalization_of(channel).for_maps:
                values = ", ".join(f"{value:g}" for value in whole.values)
                message = f"{called} has only the values {values}, as a mask has: it is passed on, scaled to 0 to 1"
                yield "few values", message


def unplanned_suspicions(names: Sequence[str], measured: Measured) -> Iterator[tuple[str, str]]:
    """Yield what `suspicions` yields where no recipe has decided anything: channels are normalised by their names.

    Args:
        names: The names of the channels.
        measured: The intensities of the cases.
    """
    channels = []
    for n, name in enumerate(names):
        own = [case[n] for case in measured.values() if n < len(case)]
        whole = pooled(own) if own else None
        foreground = ChannelFingerprint(name, 0.0, 1.0, 0.0, 1.0)  # what only a plan knows
        channels.append(plan_channel(Preparation(), foreground, n, whole))
    return suspicions(channels, measured)


def warn_of_intensities(measured: Fingerprint, plan: Plan) -> None:
    """Warn of channels that are constant, that hold a mask, or whose normalisation does not fit their values.

    Args:
        measured: The measured training cases.
        plan: The plan that was made for them.
    """
    cases = {case.id: case.intensities for case in measured.cases}
    for _, message in suspicions(plan.channels, cases):
        warnings.warn(f"{measured.dataset}: {message}", stacklevel=3)


def _constant(called: str, found: Mapping[str, Intensities]) -> Iterator[tuple[str, str]]:
    flat = [id for id, one in found.items() if one.least == one.greatest]
    values = sorted({found[id].least for id in flat})
    shown = ", ".join(f"{value:g}" for value in values[:_SHOWN]) + (", ..." if len(values) > _SHOWN else "")
    if len(flat) == len(found) and len(values) == 1:
        yield "constant image", f"{called} is {shown} everywhere in every case: a model learns nothing from it"
    elif flat:
        where = _cases(flat, len(found))
        yield "constant image", f"{called} has one value everywhere ({shown}) in {where}"


def _ct(called: str, channel: ChannelPlan, found: Mapping[str, Intensities]) -> Iterator[tuple[str, str]]:
    airy = [id for id, one in found.items() if one.air >= AIR_SHARE]
    hounsfield = normalization_of(channel).hounsfield
    if hounsfield is False and airy:
        yield (
            "not called CT",
            (
                f"{called} has air at about -1000, as CT has, in {_cases(airy, len(found))}, but its normalisation is "
                f"{channel.normalization}: if it is CT, call it CT, or set "
                f"preparation.normalization={{{channel.name}: ct}}"
            ),
        )
    if hounsfield and all(one.least >= 0 for one in found.values()):
        whole = pooled(list(found.values()))
        yield (
            "no CT values",
            (
                f"{called} is taken for CT, but its values are {whole.least:g} to {whole.greatest:g}, none below 0: "
                "CT is in HU, with air at -1000; for another image choose another name, or preparation.normalization"
            ),
        )


def _cases(ids: Sequence[str], count: int) -> str:
    more = ", ..." if len(ids) > _SHOWN else ""
    return f"{len(ids)} of {count} cases ({', '.join(ids[:_SHOWN])}{more})"
