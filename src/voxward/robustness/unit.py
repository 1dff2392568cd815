"""The smallest piece of work of a benchmark: one trial on one case with one size of perturbation."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from voxward.core.errors import UserError

# File systems allow 255 bytes in a name; what writes atomically puts some in front.
_LONGEST = 150


@dataclass(frozen=True)
class Unit:
    """What is run and written as a whole; small, and it can be pickled.

    Attributes:
        model: The name of the system.
        attack: The name of the trial: a control, a probe or an attack.
        case: The id of the case.
        eps: The size of the perturbation; None for a trial that needs none, or that finds its own for every size.
        seed: The seed of everything random.
        threshold: The Dice below which a case of this system counts as broken, where that is known. It follows from the
            clean units of the same folder, and so is no part of the unit's identity.
        rms: How strong a noise is to be, as the root mean square of the change in the unit of eps. It follows from the
            attacks of the same folder, and so is no part of the unit's identity either.
        doubles: The attack that a control runs again with twice its budget. It follows from the attacks of the same
            folder, too.
        samples: For runs under noise the number of the first one, and of the first one after them; None for all else.
    """

    model: str
    attack: str
    case: str
    eps: float | None
    seed: int
    threshold: float | None = None
    rms: float | None = None
    doubles: str | None = None
    samples: tuple[int, int] | None = None

    @property
    def place(self) -> Path:
        """MODEL/ATTACK/CASE/EPS-SEED.json, with the numbers of samples; different units have different places."""
        eps = "any" if self.eps is None else repr(float(self.eps))
        runs = "" if self.samples is None else "-samples{}-{}".format(*self.samples)
        return Path(*map(safe_name, (self.model, self.attack, self.case)), f"eps{eps}-seed{self.seed}{runs}.json")


def size_name(eps: float) -> str:
    """Return the name of the folder of the files of one size of perturbation; a protocol has no two sizes of one."""
    return f"{eps:.5f}"


def safe_name(name: str) -> str:
    """Return a file name that stands for this name only: percent-encoded, or its start and a hash where too long.

    Raises:
        UserError: The name is empty.
    """
    if not name:
        raise UserError("a model, attack or case needs a name, got ''")
    encoded = quote(name, safe=" +=@,()").replace("~", "%7E")
    if encoded.startswith("."):  # hidden, or a folder above
        encoded = "%2E" + encoded[1:]
    if len(encoded) > _LONGEST:
        # No shorter name holds '~'.
        return f"{encoded[:80]}~~{hashlib.sha256(name.encode()).hexdigest()[:32]}"
    return encoded
