"""The recipe of a new run: overrides that would change nothing are refused."""

from dataclasses import replace

import pytest

from voxward.core.case import Dataset, LabelSet
from voxward.core.errors import UserError
from voxward.core.recipe import Defence
from voxward.runs.folder import RunFolder
from voxward.training.begin import Request, recipe_of


def test_settings_that_would_change_nothing_are_refused(tmp_path):
    dataset = Dataset("D", tmp_path / "data", ("MRI",), LabelSet(("background", "a"), (0, 1)), ())
    request = Request(
        dataset, RunFolder(tmp_path / "run"),
        recipe="dynunet", overrides=("defence.method=free", "defence.eps=0.03", "defence.objective=dice-sharp"),
    )  # fmt: skip
    with pytest.raises(UserError, match=r"defence\.method=free does not use objective: leave out defence\.objective"):
        recipe_of(request)
    assert recipe_of(replace(request, overrides=request.overrides[:2])).defence == Defence(eps=0.03)
