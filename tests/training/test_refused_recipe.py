"""A recipe with a name or an option that does not exist is refused before anything is written."""

import pytest

import voxward
from voxward.core.errors import UserError
from voxward.phantoms.write import write_phantoms


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    root = tmp_path_factory.mktemp("data") / "phantoms"
    write_phantoms(root, 4, size=16)
    return root


@pytest.mark.parametrize(
    ("override", "fault"),
    [
        ("defence.method=fre", "unknown defence 'fre'. Did you mean 'free'.*Known: free, mixed, noise, pgd, trades"),
        ("defence.method=mixed defence.corruptions=[blur]", "defence.corruptions: unknown corruption 'blur'"),
        (
            "defence.method=mixed defence.corruptions=[motion]",
            "motion moves voxels of the whole scan.*those that can: .*smoothing",
        ),
        ("network.name=rogg", "unknown network 'rogg'"),
        ("network.options.colour=1", "network 'rog' has no option colour"),
        ("loss.name=dice", "unknown loss 'dice'"),
        ("loss.options.colour=1", "loss 'dice-ce' has no option colour"),
        ("optimizer.options.colour=1", "optimizer 'adam' has no option colour"),
        ("optimizer.options.lr=-1", "optimizer 'adam' with the options .*-1.*[Ii]nvalid learning rate"),
        ("schedule.options.colour=1", "schedule 'plateau' has no option colour"),
    ],
)
def test_nothing_is_written(dataset, tmp_path, override, fault):
    with pytest.raises(UserError, match=fault):
        voxward.train(dataset, out=tmp_path / "run", overrides=override.split(" "))
    assert list(tmp_path.iterdir()) == []
