"""Training, hardening and searching on an accelerator."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn
from torch.utils._pytree import tree_map_only

from tests.end_to_end.conftest import TINY
from tests.end_to_end.test_search import SLICES
from tests.end_to_end.test_search import TINY as SEARCHED
from tests.training.test_defence import _batch
from voxward.architecture_search.bilevel import Bilevel, Budget
from voxward.architecture_search.cost import cost_table
from voxward.architecture_search.space import MacroSpace
from voxward.architecture_search.supernet import SuperNet
from voxward.commands.export import export
from voxward.commands.search import search
from voxward.commands.train import train
from voxward.core.choices import Compute, Fold
from voxward.core.errors import UserError
from voxward.core.labels import LabelSet
from voxward.core.recipe import Choice, Defence, load_recipe
from voxward.core.recipe.augmentation import Augmentation
from voxward.core.recipe.search import Search
from voxward.core.strategy import Strategy
from voxward.data.augment.pipeline import apply_augmentation, draw_augmentation
from voxward.losses.registry import create_loss
from voxward.nets.layout import Layout
from voxward.phantoms.write import write_phantoms
from voxward.systems.open import open_system
from voxward.training.defence import DEFENCES
from voxward.training.fabric import start_fabric
from voxward.training.learner import Learner
from voxward.training.schedule import create_schedule
from voxward.training.steps import StandardStep
from voxward.training.validate import overlap

CPU = torch.device("cpu")
FP32 = load_recipe("dynunet", ["training.precision=fp32"])


def _network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv3d(1, 4, 3, padding=1), nn.InstanceNorm3d(4, affine=True), nn.LeakyReLU(), nn.Conv3d(4, 3, 1)
    )


def a_step(name, device):
    """A step of a defence, or of plain training, with a network on a device."""
    fabric, network = start_fabric(FP32, Compute(str(device))), _network()
    wrapped, optimizer = fabric.setup(network, torch.optim.Adam(network.parameters(), 1e-2))
    schedule, loss = create_schedule(Choice("constant")), create_loss(Choice("dice-ce"))
    learner = Learner(fabric, wrapped, optimizer, loss, schedule, 1.0)
    return StandardStep(learner) if name == "none" else DEFENCES[name](learner, Defence(name, steps=2, replays=2))


def learnt(name, device, count=2):
    """The figures of some steps, the weights after them, and the Dice counts of the last batch."""
    step, found = a_step(name, device), []
    for number in range(count):
        batch = _batch(number, shape=(2, 1, 6, 6, 6))
        images, labels, ranges = step.learner.fabric.to_device((batch.images, batch.labels, batch.ranges))
        found.append(step(replace(batch, images=images, labels=labels, ranges=ranges)))
    network, known = step.learner.network, LabelSet(("background", "a", "b"), (0, 1, 2))
    with torch.no_grad():
        return found, list(network.parameters()), overlap(network(images), labels, known)


@pytest.mark.parametrize("name", ["none", *DEFENCES])
def test_steps_learn_the_same(name, both):
    both.same(lambda device: learnt(name, device))


@pytest.mark.parametrize("name", ["none", "free", "trades"])
def test_no_step_needs_float64(name, no_double):
    with no_double.pretend:
        figures, weights, counts = learnt(name, no_double.device, count=1)
    expected = learnt(name, CPU, count=1)
    close(figures, expected[0])
    assert {weight.dtype for weight in weights} == {torch.float32}
    close(counts, expected[2])


def augmented(device):
    """Patches with every augmentation, of the processor's draws."""
    every = {field.name: 1.0 for field in fields(Augmentation) if field.name.endswith("_probability")}
    recipe = Augmentation(**every, quarter_turns=(2,))
    source = torch.Generator().manual_seed(5)
    images, labels = (
        torch.randn(3, 2, 10, 10, 10, generator=source),
        torch.randint(0, 3, (3, 10, 10, 10), generator=source),
    )
    draw = draw_augmentation(recipe, 3, 2, (True, True, True), source)
    patches, truth = apply_augmentation(
        images.to(device), labels.to(device), draw, (6, 6, 6), (1.0, 1.0, 1.5), "edge", ((1, 2),)
    )
    return patches, truth


def test_augmentation_is_the_same_and_needs_no_float64(both, no_double):
    both.same(augmented)
    with no_double.pretend:
        found = augmented(no_double.device)
    close(found, augmented(CPU))


def searched(device):
    """Steps of a bilevel search in its three phases: the weights and the architecture after them."""
    torch.manual_seed(0)
    space, layout = MacroSpace(2, 2), Layout(2, ((1, 1), (2, 2)), filters=2, blocks=2)
    net = SuperNet(1, 2, space, layout, part=2).to(device)
    chosen = Search(warmup_epochs=1, cell_epochs=1, network_epochs=1, layers=2, scales=2, budget_gmac=1e-4)
    bilevel, losses = Bilevel(net, chosen, 1, Budget(cost_table(space, layout, 1, 2, (8, 8)), 2)), []
    source = torch.Generator().manual_seed(1)
    while bilevel.step < bilevel.total_steps:
        batches = [
            (torch.randn(2, 1, 8, 8, generator=source).to(device), torch.randint(2, (2, 8, 8), generator=source))
            for _ in range(2)
        ]
        losses.append(bilevel.advance(*(lambda x=x, y=y: F.cross_entropy(net(x), y.to(device)) for x, y in batches)))
    return losses, list(net.parameters()), net.edge_weights(), str(net.best_cells())


def close(found, expected):
    """Check that sums in float32 are those in float64, but for their last digits."""
    torch.testing.assert_close(
        tree_map_only(torch.Tensor, lambda x: x.cpu(), found),
        expected,
        rtol=1e-4,
        atol=1e-5,
        check_dtype=False,
        equal_nan=True,
    )


@pytest.mark.usefixtures("same_operators")
def test_a_search_finds_the_same(both):
    both.same(searched)


def test_no_search_needs_float64(no_double):
    with no_double.pretend:
        losses, weights, *_ = searched(no_double.device)
    close(losses, searched(CPU)[0])
    assert {weight.dtype for weight in weights} == {torch.float32}


def test_where_several_processes_cannot_train_together_they_are_refused(no_double):
    with no_double.pretend, pytest.raises(UserError, match="together on cpu or cuda, not on device 'pretend'"):
        start_fabric(FP32, Compute(str(no_double.device), devices=2))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    write_phantoms(root, 8, size=24)
    return root


@pytest.mark.slow
@pytest.mark.usefixtures("same_operators")
@pytest.mark.parametrize(
    "changes", [(), ("training.workers=1",), ("defence.method=free",), ("averaging.decay=0.9",)], ids=str
)
def test_a_whole_training_is_the_same(changes, data, both, tmp_path):
    """With reading ahead, augmentation, validation, averaging and the choice of the post-processing."""

    def work(device):
        out = tmp_path / device.type
        compute = Compute(str(device))
        train(data, out=out, recipe="dynunet", overrides=(*TINY, *changes), fold=Fold(seed=1), compute=compute)
        weights = {path.name: load_file(path) for path in sorted(out.rglob("*.safetensors"))}
        assert weights
        return weights, (out / "logs" / "ledger.csv").read_text()

    both.same(work)


@pytest.mark.slow
@pytest.mark.usefixtures("same_operators", "blank_pages")
def test_a_whole_search_is_the_same(data, both, tmp_path):
    more = ("search.candidates=2", "search.adversarial_eps=0.03")

    def work(device):
        out = tmp_path / device.type
        search(
            data, out=out, recipe="msnas-2d", strategy=Strategy(paths=(1,)), overrides=(*SEARCHED, *SLICES, *more),
            compute=Compute(str(device)),
        )  # fmt: skip
        return {path.name: path.read_text() for path in out.glob("*-1.json")}

    both.same(work)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*MONAI:UserWarning", "ignore:.*the run:UserWarning")
def test_a_run_that_is_open_on_an_accelerator_is_exported(data, both, tmp_path):
    run = train(data, out=tmp_path / "run", recipe="dynunet", overrides=TINY, compute=Compute("cpu"))
    with both.pretend:
        export(open_system(run, device=str(both.device)), out=tmp_path / "bundle", to="bundle")
    weights = torch.load(tmp_path / "bundle" / "models" / "model.pt", weights_only=True)
    assert {value.device.type for value in weights.values()} == {"cpu"}
