"""What 20-iteration APGD costs beyond its 20 gradients: `python benchmarks/apgd_overhead.py [--recipe dynunet]`.

Alternately, in one process on the same patch: the attack, and 20 bare forward and input-gradient passes of the same
network with frozen parameters. Prints the ratio of each round and the median.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from torch.nn.functional import cross_entropy

import voxward

STEPS = 20


def bare(network: torch.nn.Module, patch: torch.Tensor, target: torch.Tensor) -> float:
    began = time.perf_counter()
    for _ in range(STEPS):
        leaf = patch.clone().requires_grad_()
        torch.autograd.grad(cross_entropy(network(leaf), target), leaf)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", default="dynunet", help="network: dynunet or rog")
    parser.add_argument("--size", type=int, nargs=3, default=(40, 56, 40))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--objective", default="dice")
    given = parser.parse_args()
    torch.manual_seed(0)
    network = voxward.create_network(given.recipe, 1, 3).eval().requires_grad_(False)
    patch = torch.rand(1, 1, *given.size)
    target = torch.randint(0, 3, (1, *given.size))
    attack = voxward.attacks.create(f"apgd-{given.objective}", steps=STEPS)
    model, threat = voxward.PatchModel(network), voxward.ThreatModel(8 / 255, bounds=((0.0, 1.0),))
    bare(network, patch, target)
    ratios = []
    for number in range(given.rounds):
        seconds = bare(network, patch, target)
        result = attack(model, patch, target, threat)
        ratios.append(result.seconds / seconds)
        print(f"round {number}: bare {seconds:.2f} s, {result.attack} {result.seconds:.2f} s, ratio {ratios[-1]:.3f}")
        assert result.gradients == STEPS
    print(f"{given.recipe}: median ratio {statistics.median(ratios):.3f}, {min(ratios):.3f} to {max(ratios):.3f}")


if __name__ == "__main__":
    main()
