"""The comparison of a system with the masks of its own tool: a table, and the verdict in words."""

from __future__ import annotations

from voxward.core.wording import counted
from voxward.report.table import Column, Row, Table
from voxward.systems.self_test import Compared, SelfTest

_NAMED = 5


def self_test_table(result: SelfTest) -> Table:
    """The voxels that are unlike, a row per case.

    Args:
        result: The comparison.
    """
    fields = ("part", "case", "unlike", "voxels")
    rows = tuple(Row((each.part, each.case, _counted(each))) for each in result.cases)
    data = tuple((each.part, each.case, each.unlike, each.voxels) for each in result.cases)
    columns = (Column("part", "left"), Column("case", "left"), Column("compared with the stored mask", "left"))
    return Table(columns, rows, fields=fields, data=data)


def verdict(result: SelfTest) -> str:
    """Return what a comparison says, in a few lines.

    Args:
        result: The comparison.
    """
    total = f"total: {result.unlike} of {result.voxels} voxels unlike in {counted(len(result.cases), 'case')}"
    lines = [f"not compared: {line}" for line in result.failed]
    if result.without_image:
        more = ", ..." if len(result.without_image) > _NAMED else ""
        lines.append(
            f"{len(result.without_image)} masks have no image in the dataset: "
            f"{', '.join(result.without_image[:_NAMED])}{more}"
        )
    lines.append(f"{total}: {'equal to the stored masks' if result.ok else _unequal(result)}")
    return "\n".join(lines)


def _counted(each: Compared) -> str:
    return f"{each.unlike} of {each.voxels} voxels unlike"


def _unequal(result: SelfTest) -> str:
    if result.unlike == 0:
        return "no parity, because cases could not be compared"
    unlike = sum(case.unlike > 0 for case in result.cases)
    differ = "1 case differs" if unlike == 1 else f"{unlike} cases differ"
    return (
        f"no parity. {differ}, by {100 * result.unlike / result.voxels:.4f} % of all voxels "
        f"(computed here on {result.device}). A few voxels at borders are rounding, where the masks were made on a GPU "
        "or by another version of the tool; more than that says that other weights made them (another checkpoint), "
        "that the images are others, or that voxward does not reproduce this model"
    )
