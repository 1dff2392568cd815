import sys
from importlib.util import find_spec

import pytest
import torch

from voxward.core.recipe import Choice
from voxward.training.optim import create_optimizer


@pytest.mark.parametrize("choice", [Choice("adam", {"rate": 1}), Choice("rangers"), Choice("ranger", {"rate": 1})])
def test_wrong_optimizers_are_refused(choice):
    with pytest.raises(ValueError, match="optimizer"):
        create_optimizer(choice, torch.nn.Linear(1, 1))


def test_optimizer_takes_the_options():
    optimizer = create_optimizer(Choice("sgd", {"lr": 0.1, "momentum": 0.9}), torch.nn.Linear(1, 1))
    assert optimizer.param_groups[0]["momentum"] == 0.9


def test_ranger_without_its_package_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pytorch_optimizer", None)
    with pytest.raises(ImportError, match=r"pip install 'voxward\[ranger\]'"):
        create_optimizer(Choice("ranger"), torch.nn.Linear(1, 1))


class _FakePackage:
    """Notes what it is asked for."""

    @staticmethod
    def Ranger(parameters, **options):  # noqa: N802
        optimizer = torch.optim.SGD(parameters, lr=options["lr"])
        optimizer.asked = options
        return optimizer


def test_ranger_is_the_published_one(monkeypatch):
    monkeypatch.setitem(sys.modules, "pytorch_optimizer", _FakePackage)
    asked = create_optimizer(Choice("ranger", {"lr": 1e-4, "betas": [0.95, 0.999]}), torch.nn.Linear(1, 1)).asked
    assert asked == {
        "lr": 1e-4, "betas": (0.95, 0.999), "eps": 1e-5, "weight_decay": 0.0, "k": 6, "alpha": 0.5,
        "degenerated_to_sgd": True,
    }  # fmt: skip


def _ranger_by_hand(weights, gradients, lr, k=6, alpha=0.5, beta1=0.95, beta2=0.999, eps=1e-5):
    """The published algorithm, version 20.4.11, of one matrix."""
    weights, slow = weights.clone(), weights.clone()
    first, second = torch.zeros_like(weights), torch.zeros_like(weights)
    longest = 2 / (1 - beta2) - 1
    for step, gradient in enumerate(gradients, 1):
        gradient = gradient - gradient.mean(1, keepdim=True)
        first = beta1 * first + (1 - beta1) * gradient
        second = beta2 * second + (1 - beta2) * gradient**2
        length = longest - 2 * step * beta2**step / (1 - beta2**step)
        if length >= 5:
            ratio = (length - 4) / (longest - 4) * (length - 2) / length * longest / (longest - 2)
            size = ((1 - beta2**step) * ratio) ** 0.5 / (1 - beta1**step)
            weights = weights - lr * size * first / (second.sqrt() + eps)
        else:
            weights = weights - lr / (1 - beta1**step) * first
        if step % k == 0:
            slow = slow + alpha * (weights - slow)
            weights = slow.clone()
    return weights


@pytest.mark.skipif(find_spec("pytorch_optimizer") is None, reason="needs pytorch_optimizer")
def test_ranger_steps_as_published():
    layer = torch.nn.Linear(5, 3, bias=False).double()
    gradients = torch.randn(20, 3, 5, dtype=torch.float64)
    expected = _ranger_by_hand(layer.weight.detach(), gradients, lr=0.01)
    optimizer = create_optimizer(Choice("ranger", {"lr": 0.01}), layer)
    for gradient in gradients:
        layer.weight.grad = gradient.clone()
        optimizer.step()
    torch.testing.assert_close(layer.weight.detach(), expected)
