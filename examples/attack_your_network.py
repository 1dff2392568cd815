# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
# ---

# %% [markdown]
# # Attack a network of your own
#
# You have a network in PyTorch and the code that prepares its volumes. This notebook brings such a network into
# voxward, attacks it through its whole pipeline (from the volume in its file to the mask that is saved), and draws
# how much of its Dice is left as the change of the volume grows.
#
# The network here is small and learns for under a minute on phantoms, synthetic volumes whose truth is known. It is no
# good network: it only has to find something that an attack can take away.

# %%
import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import nn

import voxward

CASES = 12  # phantoms: the first ones to learn from, the last ones to attack
ATTACKED = 3
STEPS = 400  # updates of the weights
WINDOW = [28, 24, 20]  # what the network sees at once, in voxels: a whole phantom
EPS = ["2/255", "4/255", "8/255", "16/255"]  # sizes of the change, as shares of the intensity range

# %% [markdown]
# ## Your network and your data
#
# Nothing in the next cells knows voxward, apart from the phantoms and two functions that read files. The intensities
# are brought to mean 0 and variance 1 over the whole volume, which is then extended by zeros on all sides to the size
# of the window. voxward will have to do just the same.

# %%
voxward.write_phantoms("phantoms", cases=CASES, size=24)
dataset = voxward.open_dataset("phantoms")
labels = dict(zip(dataset.labels.names, dataset.labels.values, strict=True))
labels


# %%
def missing(shape):
    """Return how many voxels are added at the beginning and the end of each axis."""
    gaps = [whole - size for whole, size in zip(WINDOW, shape, strict=True)]
    return [(gap // 2, gap - gap // 2) for gap in gaps]


def extended(array):
    pads = [size for pair in reversed(missing(array.shape[-3:])) for size in pair]
    return nn.functional.pad(array, pads)


def image_of(case):
    array = voxward.read_image(case.images).array.astype(np.float32)  # (channels, i, j, k)
    return extended(torch.from_numpy((array - array.mean()) / array.std()))[None]


def truth_of(case):
    return extended(torch.from_numpy(voxward.read_label(case.label).array.astype(np.int64)))[None]


def block(inputs, outputs):
    return nn.Sequential(nn.Conv3d(inputs, outputs, 3, padding=1), nn.InstanceNorm3d(outputs), nn.ReLU())


class SmallUNet(nn.Module):
    """Two resolutions, from images (b, 1, i, j, k) to logits (b, classes, i, j, k)."""

    def __init__(self, classes, width=8):
        super().__init__()
        self.fine = nn.Sequential(block(1, width), block(width, width))
        self.coarse = nn.Sequential(block(width, 2 * width), block(2 * width, 2 * width))
        self.joined = nn.Sequential(block(3 * width, width), block(width, width))
        self.head = nn.Conv3d(width, classes, 1)

    def forward(self, images):
        fine = self.fine(images)
        coarse = self.coarse(nn.functional.max_pool3d(fine, 2, ceil_mode=True))
        coarse = nn.functional.interpolate(coarse, size=fine.shape[2:], mode="trilinear")
        return self.head(self.joined(torch.cat([fine, coarse], 1)))


# %%
def loss_of(logits, truth):
    """Cross-entropy in which the background weighs less, and 1 - Dice of the classes that are there."""
    weight = torch.ones(len(labels))
    weight[0] = 0.2
    found = logits.softmax(1)
    wanted = nn.functional.one_hot(truth, len(labels)).movedim(-1, 1).float()
    both = (found * wanted).sum((0, 2, 3, 4))
    dice = 2 * both / (found + wanted).sum((0, 2, 3, 4))
    there = wanted.sum((0, 2, 3, 4)) > 0
    there[0] = False
    return nn.functional.cross_entropy(logits, truth, weight=weight) + 1 - dice[there].mean()


torch.manual_seed(0)
network = SmallUNet(len(labels))
optimizer = torch.optim.Adam(network.parameters(), 5e-3)
known = [(image_of(case), truth_of(case)) for case in dataset.cases[:-ATTACKED]]
for step in range(STEPS):
    image, truth = known[step % len(known)]
    loss = loss_of(network(image), truth)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
print(f"loss after {STEPS} steps: {float(loss.detach()):.2f}")

# %% [markdown]
# ## Say what lies around the network
#
# An attack changes the volume in its file, so voxward has to know the way from the file to the network and back. That
# is what the entries say: which normalisation, which labels, which window. `standard` is the normalisation of
# `image_of`, and `ijk` says that the axes are those of the file. A network that works at a fixed voxel size also
# needs `spacing`. All entries are in `docs/bring-your-own.md`.
#
# Then compare: the mask must be the one that your own code makes. If it is not, the entries are wrong, and what would
# be attacked is another system than yours.

# %%
system = voxward.network_system(
    network,
    channels=[{"name": "MRI", "normalization": "standard"}],
    labels=labels,
    orientation="ijk",
    window=WINDOW,
    padding="zero",
    name="my network",
)
case = dataset.cases[-1]
volume = voxward.read_image(case.images)
with torch.no_grad():
    mine = network(image_of(case)).argmax(1)[0].numpy()
added = missing(volume.shape)
mine = mine[tuple(slice(before, before + size) for (before, _), size in zip(added, volume.shape, strict=True))]
theirs = system.segment(volume).label
print(f"{np.mean(mine != theirs):.1%} of the voxels differ")

# %% [markdown]
# ## Attack it
#
# Three phantoms are attacked that the network has not learnt from. voxward cannot know which cases those are: it was
# not there when the network learnt. `Cases` names them, and the warning says that it is up to you.
#
# APGD raises the loss step by step, each time within the largest change eps that a voxel may have. The changed volume
# is written as a file of the same number type, read again and segmented; the Dice below is that of this mask.

# %%
found = voxward.attack(
    system,
    voxward.Cases("phantoms", ids=[case.id for case in dataset.cases[-ATTACKED:]]),
    out=voxward.Output("attacked", progress=voxward.ShowProgress()),
    protocol="quick",
    overrides=["attacks=[apgd-dice]", f"threat.eps=[{','.join(EPS)}]", "cases=null", "controls=[clip,noise]"],
)
print(found.report.markdown())

# %% [markdown]
# ## Dice over eps
#
# `noise` is a random change of the same largest size in every voxel. Where noise costs as much as the attack, the
# network is just fragile; where noise costs nothing and the attack nearly everything, it can be misled.

# %%
sizes = sorted({record.eps for record in found.records if record.kind == "attack"})
curves = {
    name: [np.mean([r.dice(deployed=True) for r in found.records if (r.attack, r.eps) == (name, eps)]) for eps in sizes]
    for name in ("apgd-dice", "noise")
}
clean = np.mean([record.dice(deployed=True) for record in found.records if record.attack == "clean"])
figure, axes = plt.subplots(figsize=(6, 4))
for name, curve in curves.items():
    axes.plot([0, *(255 * eps for eps in sizes)], [clean, *curve], marker="o", label=name)
axes.set(xlabel="eps, in 1/255 of the intensity range", ylabel="mean Dice of the written files", ylim=(0, 1))
axes.legend()
figure.savefig("dice-over-eps.png")

# %% [markdown]
# `attacked/report.html` is a page that says the same in words, with every volume in a viewer. Three cases and one
# attack of ten steps can show that a network is not robust. They can never show that it is: for that, take your own
# cases and `protocol="strong"`.
