import warnings

import pytest
import torch
from lightning_fabric import Fabric

from tests.data.volumes import make_plan
from voxward.core.labels import LabelSet
from voxward.core.recipe import load_recipe
from voxward.nets.registry import create_network
from voxward.pipeline.precision import resolve_precision
from voxward.training import setup
from voxward.training.setup import TrainingCases, check_auxiliary, check_recipe, set_up, training_precision

CPU = torch.device("cpu")


def plan_of(edge):
    return make_plan(patch_size=(edge, 8, 8), window_size=(edge, 8, 8), source_size=(edge, 8, 8))


@pytest.fixture
def fast_bf16(monkeypatch):
    """A processor with bf16 instructions, whatever this one is."""
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True, raising=False)
    assert resolve_precision("auto", CPU) == "bf16"


@pytest.mark.usefixtures("fast_bf16")
@pytest.mark.parametrize(("edge", "wrong"), [(4, True), (8, False), (2, True)])
def test_auto_leaves_a_processor_s_wrong_bf16_gradients_alone_and_bf16_warns(edge, wrong):
    found = {}
    for asked in ("auto", "bf16", "fp32"):
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            recipe = load_recipe("rog", [f"training.precision={asked}"])
            found[asked] = (training_precision(recipe, plan_of(edge), CPU), bool(warned))
    assert found == {"auto": ("fp32" if wrong else "bf16", False), "bf16": ("bf16", wrong), "fp32": ("fp32", False)}


@pytest.mark.usefixtures("fast_bf16")
@pytest.mark.parametrize(("edge", "expected"), [(4, torch.float32), (8, torch.bfloat16)])
def test_the_network_computes_in_it(edge, expected, monkeypatch, tmp_path):
    """What Fabric was started with does not matter: the plan was not known then."""
    monkeypatch.setattr(setup, "validation_patches", lambda *_: ())
    fabric = Fabric(accelerator="cpu", devices=1, precision="bf16-mixed")
    plan, folder = plan_of(edge), setup.RunFolder(tmp_path)
    run = set_up(folder, load_recipe("rog"), plan, TrainingCases(tmp_path, ("a",), ()), 0, fabric)
    seen = []
    first = next(m for m in run.network.modules() if isinstance(m, torch.nn.Conv3d))
    first.register_forward_hook(lambda module, given, out: seen.append(out.dtype))
    run.network(torch.zeros(1, len(plan.channels), *plan.patch_size))
    with fabric.autocast():
        run.network.module(torch.zeros(1, len(plan.channels), *plan.patch_size))
    assert seen == [expected] * 2


@pytest.mark.parametrize(
    ("recipe", "network", "weights", "heads"),
    [
        ("resdsn-c2f-coarse", "resdsn", "[0.2, 0.4]", 2),
        ("resdsn-c2f-coarse", "resdsn", "[]", 2),
        ("resdsn-c2f-coarse", "unet-like", "[0.2, 0.4]", 0),
        ("brats-a", "brats-unet", "[1.0]", 4),
        ("rog", "rog", "[]", 0),
        ("rog", "rog", "[0.5]", 0),
    ],
)
def test_auxiliary_heads_and_their_weights_must_match(recipe, network, weights, heads):
    """Too few would fail at the first step, and weights without heads would silently do nothing."""
    asked = load_recipe(recipe, [f"network.name={network}", f"training.auxiliary={weights}"])
    built = create_network(network, 1, 2)
    if len(asked.training.auxiliary) == heads:
        return check_auxiliary(asked, built)
    with pytest.raises(ValueError, match=rf"each of the {heads} auxiliary heads of network '{network}', got"):
        check_auxiliary(asked, built)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("preparation.planner=rogg", r"unknown planner 'rogg'.*'rog'"),
        ("preparation.normalization=ctt", r"unknown normalization 'ctt'.*Known: auto, clip, ct, minmax, mr"),
        ("preparation.normalization=clip", r"clip must be \(low, high\) with normalization 'clip', got none"),
        ("inference.weights=gauss", r"inference.weights: unknown blending weights 'gauss'.*Known: constant, gaussian"),
        ("inference.placement=steps", r"inference.placement: unknown window placement 'steps'.*Known: count"),
        ("inference.combine=vote", "combine 'vote' needs weights 'constant', got 'inverse-distance'"),
        ("postprocessing.kind=organs", r"postprocessing.kind: unknown .*'organs'.*Known: lesion, none, organ, share"),
        ("postprocessing.classes={a: lesions}", r"postprocessing.classes.a: unknown .*'lesions'.*Known: lesion"),
        ("postprocessing.classes={b: lesion}", r"postprocessing.classes: unknown class 'b'.*Known: a"),
    ],
)
def test_a_name_that_no_registry_has_is_refused_with_the_legal_ones(change, message):
    with pytest.raises(ValueError, match=message):
        check_recipe(load_recipe("rog", [change]), LabelSet(("background", "a"), (0, 1)))


def test_an_objective_that_does_not_fit_the_classes_is_refused():
    recipe = load_recipe("rog", ["defence.method=pgd", "defence.objective=dlr"])
    check_recipe(recipe, LabelSet(("background", "a", "b"), (0, 1, 2)))
    with pytest.raises(ValueError, match="at least 3 classes"):
        check_recipe(recipe, LabelSet(("background", "a"), (0, 1)))
