"""What the converter of ONNX files does not compute, told apart from files that are damaged or unsafe."""

from __future__ import annotations

from voxward.core.errors import UserError


class Uncovered(UserError):  # noqa: N818 - it says what the operator is
    """A network in ONNX is sound, but uses an operator, or an option of one, that has no gradient here.

    `blackbox_onnx` may still run it.
    """
