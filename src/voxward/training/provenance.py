"""What a folder of a training or a search says about where it comes from."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import torch

from voxward.core.case import Dataset
from voxward.core.provenance import STEPS, Work, sitting
from voxward.data.content import contents_of
from voxward.training.begin import Request, split_of

TRAIN, SEARCH = "train", "search"
"""The kinds of work; a hardening is a training, which its call says."""


def noted(
    request: Request,
    kind: str,
    dataset: Dataset,
    seed: int,
    *,
    device: torch.device,
    done: Callable[[], int],
) -> AbstractContextManager[None]:
    """Return a block that notes in the folder what works on it, see `core.provenance.sitting`.

    Args:
        request: What was asked for; its folder holds the split.
        kind: The kind of work.
        dataset: The dataset.
        seed: The seed of everything that is drawn.
        device: What is computed on.
        done: Returns how many steps are done.
    """

    def begin() -> Work:
        split = split_of(request.out, dataset)
        ids = {*split.fit, *split.selection, *split.validation}
        cases = [case for case in dataset.cases if case.id in ids]
        contents = contents_of(cases, request.compute.workers)
        return Work(STEPS, str(dataset.root.resolve()), contents, seeds=(seed,))

    return sitting(request.out.root, kind, request.call, begin, device=device, done=done)
