"""voxward compose: write a system.yaml that combines systems."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from voxward.core.errors import UserError
from voxward.core.outputs import Outputs
from voxward.systems.open import compose_system


def compose(
    kind: str,
    systems: Sequence[Path | str],
    *,
    out: Path | str,
    overrides: Sequence[str] = (),
    overwrite: bool = False,
    trust: bool = False,
) -> Path:
    """Combine systems into one, and write it as a YAML file that every command takes in place of a run folder.

    Args:
        kind: `ensemble`: the mean of all systems; `cascade`: the first finds the region, the second segments it; or
            `run`: one run with settings of its own.
        systems: Run folders or `system.yaml` files. The file names them relative to itself.
        out: The file to write, ending with .yaml.
        overrides: Further entries, such as `mean=probabilities`, `margin=10`, `stage=fine` or `tta=symmetries`.
        overwrite: Replace a file that voxward did not write, or that was edited since.
        trust: Whether programs that the systems consist of may run, to try the new system. The file does not say so.

    Returns:
        The file.

    Raises:
        UserError: The systems do not fit each other, an entry is wrong, or a file would be replaced.
        FileNotFoundError: A system is missing.

    Example:
        >>> voxward.compose("cascade", ["coarse", "fine"], out="cascade.yaml", overrides=["margin=10"])
    """
    target = Path(out)
    if target.suffix not in (".yaml", ".yml"):
        raise UserError(f"out must be a file that ends with .yaml, got {out}")
    outputs = Outputs(target.parent, "a system", overwrite)
    outputs.check([target.name])
    outputs.text(target.name, compose_system(kind, [Path(system) for system in systems], target, overrides, trust))
    return target
