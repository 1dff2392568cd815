"""What a bundle does to the logits of its network: activation, the way back to the file's voxels, decision, components.

Bundles do this in two orders. Most resample probabilities to the file's voxels and decide there. Some decide on the
network's grid and bring the class indices back. `judge` does it in the bundle's order, `scores` returns logits of the
file's voxels that have a gradient and the same decision.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import log
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Shaped
from scipy import ndimage
from torch import Tensor

from voxward.core.model import Head
from voxward.core.registry import Registry
from voxward.core.types import CaseLogits
from voxward.pipeline.bound import background
from voxward.systems.bundle.arguments import Arguments
from voxward.systems.bundle.config import as_list
from voxward.systems.bundle.sampling import NOTHING
from voxward.systems.bundle.steps import Preparation

Activation = Literal["softmax", "sigmoid"]


@runtime_checkable
class Operation(Protocol):
    """One step after the network."""

    def apply(self, x: Tensor, preparation: Preparation) -> Tensor:
        """Return values (k, d, h, w) after the step."""
        ...


@dataclass(frozen=True)
class Activate:
    """Turns logits into probabilities.

    Attributes:
        kind: `softmax` or `sigmoid`.
    """

    kind: Activation

    def apply(self, x: Tensor, preparation: Preparation) -> Tensor:
        """Return the probabilities."""
        return x.softmax(0) if self.kind == "softmax" else x.sigmoid()


@dataclass(frozen=True)
class Invert:
    """Brings values back to the file's voxels.

    Attributes:
        nearest: Whether the nearest voxel is taken; otherwise values are interpolated linearly.
    """

    nearest: bool

    def apply(self, x: Tensor, preparation: Preparation) -> Tensor:
        """Return the values in the file's voxels."""
        return preparation.undo(x, "nearest" if self.nearest else "linear", 0.0)


@dataclass(frozen=True)
class Decide:
    """Decides for one class, or for each region.

    Attributes:
        threshold: What a region must reach; None takes the class with the largest value.
    """

    threshold: float | None

    def apply(self, x: Tensor, preparation: Preparation) -> Tensor:
        """Return class indices (1, d, h, w), or 0 and 1 per region (k, d, h, w)."""
        # Equal to argmax(0), also in taking the first of a tie.
        found = x.max(0, keepdim=True).indices if self.threshold is None else x >= self.threshold
        return found.to(x.dtype)


@dataclass(frozen=True)
class KeepLargest:
    """Keeps the largest components of classes or regions.

    Attributes:
        classes: The classes or regions; None for all but 0.
        independent: Whether each is treated by itself; otherwise all together.
        connectivity: 1 to 3: how many axes two touching voxels may differ in.
        count: How many components stay.
        one_hot: Whether each channel is a region; None where several channels are, and a single one holds classes.
    """

    classes: tuple[int, ...] | None
    independent: bool = True
    connectivity: int = 3
    count: int = 1
    one_hot: bool | None = None

    def apply(self, x: Tensor, preparation: Preparation) -> Tensor:
        """Return the values with 0 in other components."""
        found = x.cpu().numpy().copy()
        self.keep(found)
        return torch.from_numpy(found).to(x)

    def keep(self, x: Shaped[np.ndarray, "k d h w"]) -> None:
        """Set other components to 0, in place.

        Args:
            x: Class indices (1, d, h, w), or 0 and 1 per region (k, d, h, w).
        """
        one_hot = len(x) > 1 if self.one_hot is None else self.one_hot
        own = self._own(x, one_hot)
        masks = [x[place] > 0 if one_hot else x[0] == place for place in own]
        if self.independent:
            for place, mask in zip(own, masks, strict=True):
                x[place if one_hot else 0][mask & ~self._largest(mask)] = 0
        elif masks:
            together = np.any(masks, axis=0)
            lost = together & ~self._largest(together)
            for place in own if one_hot else (0,):
                x[place][lost] = 0

    def _own(self, x: np.ndarray, one_hot: bool) -> Sequence[int]:
        """The classes or channels; by itself MONAI takes 0 for the background, also where channel 0 is a region."""
        if self.classes is not None:
            return self.classes
        return range(1, len(x)) if one_hot else [int(value) for value in np.unique(x) if value]

    def _largest(self, mask: Bool[np.ndarray, "d h w"]) -> Bool[np.ndarray, "d h w"]:
        shape = ndimage.generate_binary_structure(3, self.connectivity)
        components, count = ndimage.label(mask, shape)
        if count <= self.count:
            return mask
        sizes = np.bincount(components.ravel())
        sizes[0] = 0
        return np.isin(components, np.argsort(sizes)[::-1][: self.count])


@dataclass(frozen=True)
class Ending:
    """What is done to the logits of the network, in the bundle's order.

    Attributes:
        operations: The steps.
    """

    operations: tuple[Operation, ...]

    @property
    def head(self) -> Head:
        """Return how logits are read."""
        return "softmax" if self._decision.threshold is None else "regions"

    @property
    def inverts(self) -> bool:
        """Return whether values come back to the file's voxels."""
        return self._invert is not None

    @property
    def fractions(self) -> bool:
        """Return whether class indices are interpolated, so that what the bundle saves are fractions."""
        before = self.operations[: self._place(Invert)] if self.inverts else ()
        return any(isinstance(step, Decide) for step in before) and self._invert != Invert(True)

    @property
    def components(self) -> tuple[KeepLargest, ...]:
        """Return the steps that keep the largest components."""
        return tuple(step for step in self.operations if isinstance(step, KeepLargest))

    def judge(self, logits: CaseLogits, preparation: Preparation) -> Shaped[Tensor, "r i j l"]:
        """Turn logits of the network's grid into what the bundle saves.

        Args:
            logits: Logits (k, d, h, w).
            preparation: How the volume was prepared.

        Returns:
            Class indices (1, i, j, k), or 0 and 1 per region (r, i, j, k), in the file's voxels.
        """
        found = logits
        for step in self.operations:
            found = step.apply(found, preparation)
        return found.round() if self.fractions else found

    def scores(self, logits: CaseLogits, preparation: Preparation) -> Float[Tensor, "k i j l"]:
        """Bring logits of the network's grid back to the file's voxels, so that they decide as the bundle does.

        Where the bundle interpolates probabilities, the result is their logarithm (of a region: the logarithm of its
        odds), computed without leaving logarithms: its softmax is the bundle's probability, and a voxel that the
        network is very sure of still has a gradient. Where it takes the nearest voxel, so do the logits. Where it
        interpolates class indices, which have no gradient, probabilities take their place.

        Args:
            logits: Logits (k, d, h, w).
            preparation: How the volume was prepared.

        Returns:
            Logits (k, i, j, k).
        """
        head, invert = self.head, self._invert
        bias = -self._bias
        if invert is None:
            return logits + bias
        plain = self._place(Invert) < min(self._place(Activate), self._place(Decide))
        if plain or invert.nearest:
            restored = preparation.undo(logits, "nearest" if invert.nearest else "linear", 0.0 if plain else NOTHING)
            return _emptied(restored, head) + bias
        if head == "regions":
            both = torch.cat((F.logsigmoid(logits), F.logsigmoid(-logits)))
            count = len(logits)
            inside = preparation.undo(both[:count], "logarithms", NOTHING)
            outside = preparation.undo(both[count:], "logarithms", 0.0)
            return _emptied(inside - outside, head) + bias
        return _emptied(preparation.undo(logits.log_softmax(0), "logarithms", NOTHING), head)

    @property
    def _decision(self) -> Decide:
        return next(step for step in self.operations if isinstance(step, Decide))

    @property
    def _invert(self) -> Invert | None:
        return next((step for step in self.operations if isinstance(step, Invert)), None)

    @property
    def _bias(self) -> float:
        """The logit that a region must reach."""
        threshold = self._decision.threshold
        if threshold is None:
            return 0.0
        active = any(isinstance(step, Activate) for step in self.operations)
        return log(threshold / (1 - threshold)) if active else threshold

    def _place(self, kind: type) -> int:
        found = (place for place, step in enumerate(self.operations) if isinstance(step, kind))
        return next(found, len(self.operations))


def _emptied(logits: Tensor, head: Head) -> Tensor:
    """Background where everything was cut away."""
    empty = (logits <= NOTHING / 2).all(0)
    if not bool(empty.any()):
        return logits
    return torch.where(empty, background(logits, head).view(-1, 1, 1, 1), logits)


def _activation(given: Arguments) -> Operation | None:
    softmax, sigmoid = given.flag("softmax"), given.flag("sigmoid")
    if given.plain("other") is not None or (softmax and sigmoid):
        given.refuse("only softmax, or only sigmoid, is read")
    if softmax and given.plain("dim", 0) != 0:
        given.refuse("softmax must go over the channels (dim 0)", "dim")
    return Activate("softmax") if softmax else Activate("sigmoid") if sigmoid else None


def _inversion(given: Arguments) -> Operation | None:
    raw = given.given["transform"].raw if "transform" in given.given else None
    if raw not in ("@preprocessing", "$@preprocessing"):
        given.refuse(f"transform must be @preprocessing, got {raw!r}", "transform")
    if given.plain("post_func") is not None:
        given.refuse("post_func is code", "post_func")
    given.skip("transform", "orig_keys", "orig_meta_keys", "to_tensor")
    return Invert(given.flag("nearest_interp", True))


def _decision(given: Arguments) -> Operation | None:
    argmax, threshold = given.flag("argmax"), given.number("threshold")
    given.skip("dtype", "num_classes")
    if given.plain("to_onehot") is not None or given.plain("rounding") is not None:
        given.refuse("to_onehot and rounding are not supported")
    if given.plain("dim", 0) != 0 or not given.flag("keepdim", True):
        given.refuse("argmax must go over the channels (dim 0), and keep them")
    if argmax == (threshold is not None):
        given.refuse("either argmax or a threshold is needed")
    return Decide(threshold)


def _largest(given: Arguments) -> Operation | None:
    classes = given.plain("applied_labels")
    connectivity = given.plain("connectivity") or 3
    one_hot = None if given.plain("is_onehot") is None else given.flag("is_onehot")
    if connectivity not in (1, 2, 3):
        given.refuse(f"connectivity must be 1, 2 or 3, got {connectivity!r}", "connectivity")
    named = None if classes is None else tuple(map(int, given.numbers("applied_labels")))
    count = int(given.number("num_components", 1.0) or 1)
    return KeepLargest(named, given.flag("independent", True), connectivity, count, one_hot)


def _nothing(given: Arguments) -> Operation | None:
    given.skip(*given.given)
    return None


def _save(given: Arguments) -> Operation | None:
    if given.plain("scale") is not None:
        given.refuse("scale is not supported", "scale")
    return _nothing(given)


OPERATIONS: Registry[Callable[[Arguments], Operation | None]] = Registry(
    "transform after the network",
    {
        "Activationsd": _activation,
        "Invertd": _inversion,
        "AsDiscreted": _decision,
        "KeepLargestConnectedComponentd": _largest,
        "SaveImaged": _save,
        "EnsureTyped": _nothing,
        "CastToTyped": _nothing,
        "ToTensord": _nothing,
        "ToDeviced": _nothing,
    },
)


def read_ending(objects: Sequence[Arguments], mapped: bool) -> Ending:
    """Read the post-processing of a bundle.

    Args:
        objects: The transforms.
        mapped: Whether the user says which label values stand for the regions; a last lambda, which does that in many
            bundles, is then left out.

    Raises:
        UserError: A transform or argument is not known, or the order makes no class map.
    """
    found, keys = list[Operation](), list[Any]()
    for given in objects:
        name, decided = given.target, any(isinstance(step, Decide) for step in found)
        if name == "Lambdad":
            if mapped and decided:
                continue
            given.refuse(
                "a lambda is code. Where it only renumbers labels, say which label values each region holds: "
                "--set 'regions={name: [values]}'"
            )
        if name not in OPERATIONS:
            given.refuse(f"the transform {name} is not known after the network; known: {', '.join(OPERATIONS)}")
        step = OPERATIONS[name](given)
        given.finish()
        if step is not None:
            keys = _only_key(given, keys)
            _check_order(given, found, step)
            found.append(step)
        elif not decided:
            given.plainly_float32()
    if objects and not any(isinstance(step, Decide) for step in found):
        objects[-1].refuse("nothing decides for a class: an AsDiscreted with argmax or threshold is needed")
    return Ending(tuple(found) if objects else ())


def _only_key(given: Arguments, before: list[Any]) -> list[Any]:
    """The key of the network's result, which is the only one that anything is done to."""
    keys = list(as_list(given.plain("keys")))
    if len(keys) != 1 or (before and keys != before):
        given.refuse(f"there must be one result of the network and no other key, got {keys}", "keys")
    return keys


def _check_order(given: Arguments, before: Sequence[Any], step: Operation) -> None:
    if not isinstance(step, KeepLargest) and any(type(earlier) is type(step) for earlier in before):
        given.refuse("it is there twice")
    decided = any(isinstance(earlier, Decide) for earlier in before)
    if isinstance(step, Activate) and decided:
        given.refuse("an activation after the decision makes no sense")
    if isinstance(step, KeepLargest) and not decided:
        given.refuse("components are those of classes: an AsDiscreted must come before it")
    if isinstance(step, Decide):
        kinds = [earlier.kind for earlier in before if isinstance(earlier, Activate)]
        if "softmax" in kinds and step.threshold is not None:
            given.refuse("a threshold of softmax probabilities is not supported")
        if "sigmoid" in kinds and step.threshold is None:
            given.refuse("argmax of sigmoid probabilities is not supported")
        if "sigmoid" in kinds and not 0 < (step.threshold or 0) < 1:
            given.refuse(f"the threshold must be between 0 and 1, got {step.threshold}")
