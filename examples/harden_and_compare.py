# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
# ---

# %% [markdown]
# # Harden a network, and compare
#
# A run is trained on phantoms (synthetic volumes whose truth is known), hardened by adversarial training, and both
# runs are attacked in the same way on the same cases. The question is what the difference is worth, so it is computed
# case by case, with an interval.
#
# All of it takes about two minutes, which is far too short: read the last cell before you believe a figure.

# %%
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import voxward

CASES = 10  # phantoms to learn from
UNSEEN = 6  # other phantoms, which are attacked
EPOCHS = 100
HARDENING = 40  # epochs
METHOD = "pgd"  # or "free", which costs less for each step
EPS = ["2/255", "4/255", "8/255"]

# %% [markdown]
# ## Train, and harden
#
# The network is MONAI's DynUNet with few channels. `harden` begins with the trained weights and goes on with patches
# that an attack has changed by up to 8/255 of the intensity range. Nothing is written into the first run.

# %%
voxward.write_phantoms("phantoms", cases=CASES, size=24)
small = ["network.options.filters=[8,16,16]", f"training.epochs={EPOCHS}", "training.workers=0"]
run = voxward.train("phantoms", out="run", recipe="dynunet", overrides=small, fold=voxward.Fold(seed=1))

# %%
few = [f"training.epochs={HARDENING}", "defence.steps=2"]
hardened = voxward.harden(run, out="hardened", method=METHOD, eps=8 / 255, overrides=few)

# %% [markdown]
# ## Attack both
#
# The attacked cases come from another seed, so neither run has seen them. Both runs are attacked by the same attack
# with their own gradients: what is found against one of them says nothing about the other.

# %%
voxward.write_phantoms("unseen", cases=UNSEEN, seed=1, size=24)
found = voxward.attack(
    [run, hardened],
    "unseen",
    out="compared",
    protocol="quick",
    overrides=["attacks=[apgd-dice]", f"threat.eps=[{','.join(EPS)}]", "cases=null", "controls=[]"],
)
print(found.leaderboard.markdown())

# %% [markdown]
# ## The difference, case by case
#
# Some phantoms are easier than others, for both runs alike. That is why the two means are not compared, but the
# difference on each case: what makes a case easy is in both figures and drops out. The interval is the 95 % bootstrap
# interval: the cases are drawn again 2000 times, and the mean difference lies in it in 95 % of the draws.
#
# The worst case of an attack is never above the clean Dice, because to change nothing is allowed, too.


# %%
def worst(model):
    """Return the Dice of every case of a model: by size the lower one of attacked and clean, and clean at 0."""
    clean = {r.case: r.dice(deployed=True) for r in found.records if (r.model, r.attack) == (model, "clean")}
    dice = {0.0: clean}
    for record in found.records:
        if record.model == model and record.kind == "attack":
            lower = min(record.dice(deployed=True), clean[record.case])
            dice.setdefault(record.eps, {})[record.case] = lower
    return dice


def interval(values, draws=2000):
    """Return the ends of the 95 % bootstrap interval of a mean."""
    random = np.random.default_rng(0)
    means = random.choice(values, (draws, len(values))).mean(axis=1)
    return np.percentile(means, [2.5, 97.5])


before, after = worst("run"), worst("hardened")
differences = {}
for eps in sorted(before):
    differences[eps] = np.array([after[eps][case] - before[eps][case] for case in sorted(before[eps])])
    low, high = interval(differences[eps])
    sure = "the sign is clear" if low > 0 or high < 0 else "the interval holds 0: no difference is shown"
    print(f"eps {255 * eps:.0f}/255: {differences[eps].mean():+.3f} [{low:+.3f}, {high:+.3f}], {sure}")

# %%
sizes = [255 * eps for eps in differences]
middle = np.array([values.mean() for values in differences.values()])
ends = np.array([interval(values) for values in differences.values()])
figure, axes = plt.subplots(figsize=(6, 4))
axes.errorbar(sizes, middle, yerr=np.abs(ends - middle[:, None]).T, marker="o", capsize=4)
axes.axhline(0, color="grey", linewidth=1)
axes.set(xlabel="eps, in 1/255 of the intensity range", ylabel="Dice, hardened minus not hardened")
figure.savefig("difference.png")

# %% [markdown]
# voxward makes the same table by itself wherever a run and its hardened successor are attacked together, with what the
# hardening cost:

# %%
print(Path("compared/hardening-hardened.md").read_text(encoding="utf-8"))

# %% [markdown]
# ## What so short a training shows
#
# - **That the way works**, from a dataset to a paired comparison. Put in your own dataset, `minutes=60` for both
#   trainings, and `protocol="strong"`.
# - **Nothing about the method.** Networks of a few hundred steps have not converged. A low Dice cannot fall far, so a
#   weak network looks robust; and the hardened run was trained for longer, so that a gain on clean cases may be that
#   of more training. Train the first run as long as both together before you compare.
# - **One seed.** The interval is about other cases, not about other trainings. Two runs that differ only in the seed
#   may differ as much.
# - **A weak attack.** Ten steps of one attack give an upper bound of the Dice. A hardened network can make gradients
#   useless without being robust, which more attacks and a black box show (`protocol="strong"`, and the checks in
#   `compared/sanity.json`).
