# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
# ---

# %% [markdown]
# # Read the records of an attack with pandas
#
# `voxward attack` writes tables and a page. For questions of your own it also keeps every single result: one JSON file
# for each unit of work in `records/`. This notebook reads them into a table, groups them, and finds the figures of
# `robustness.csv` again.
#
# Put your own folder in place of `None`. Without one a small run is trained on phantoms and attacked, in under two
# minutes.

# %%
import json
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

import voxward

FOLDER = None  # the folder of an attack, such as "runs/first/attack"
CASES = 8
EPOCHS = 80
ATTACKS = ["fgsm-dice", "pgd-dice", "apgd-ce"]
EPS = ["2/255", "4/255", "8/255"]

# %%
if FOLDER is None:
    voxward.write_phantoms("phantoms", cases=CASES, size=24)
    small = ["network.options.filters=[8,16,16]", f"training.epochs={EPOCHS}", "training.workers=0"]
    run = voxward.train("phantoms", out="run", recipe="dynunet", overrides=small, fold=voxward.Fold(seed=1))
    few = [f"attacks=[{','.join(ATTACKS)}]", f"threat.eps=[{','.join(EPS)}]", "controls=[noise]"]
    FOLDER = voxward.attack(run, "phantoms", out="attacked", protocol="quick", overrides=few).out
folder = Path(FOLDER)

# %% [markdown]
# ## One row for each record
#
# A file holds `format`, `checksum` and a list of `records`. A record has the system, the case, the attack, the size
# of the change and its Dice for each class: `clean` without an attack, `adversarial` of the array that the attack
# computed, and `deployed` of the file that was written, read again and segmented by the whole system. That last one
# is what voxward's tables show. The docstring of `voxward.robustness.record.Record` explains every entry.

# %%
paths = sorted((folder / "records").rglob("*.json"))
entries = [entry for path in paths for entry in json.loads(path.read_text(encoding="utf-8"))["records"]]
records = pd.json_normalize(entries)
records[["model", "case", "attack", "kind", "eps", "deployed", "gradients", "seconds"]].head()

# %% [markdown]
# `kind` tells attacks from controls. `clean`, `clip` and `noise` are controls: no attack, and in no worst case.
#
# A class that is in neither truth nor mask has no Dice (`null`). The policy `ignore` leaves it out of the mean; a case
# without any class counts 1, because nothing was to be found and nothing was.


# %%
def mean_dice(scores):
    defined = [score for score in scores if score is not None]
    return sum(defined) / len(defined) if defined else 1.0


assert set(records["policy"]) == {"ignore"}
records = records[records["deployed"].notna()].copy()
records["dice"] = records["deployed"].map(mean_dice)
attacks = records[records["kind"] == "attack"]

# %% [markdown]
# ## Group by attack and eps

# %%
by_attack = attacks.groupby(["model", "attack", "eps"])["dice"].agg(["mean", "min", "count"])
by_attack.round(3)

# %% [markdown]
# These are the figures of `robustness.csv`. Its eps is read as text first, because older pandas round numbers in files:

# %%
written = pd.read_csv(folder / "robustness.csv", dtype={"eps": str}).astype({"eps": float})
written = written[written["kind"] == "attack"].set_index(["model", "attack", "eps"])["dice"]
apart = (by_attack["mean"] - written).abs().max()
print(f"largest difference from robustness.csv: {apart:.1g}")

# %% [markdown]
# ## The worst case
#
# A case is as robust as the strongest attack on it, so the lowest Dice is taken for each case, over all attacks and the
# unchanged volume, and the mean over cases only then. The mean of the strongest attack alone would be too high, because
# not every case falls to the same attack.

# %%
clean = records[records["attack"] == "clean"].set_index(["model", "case"])["dice"]
lowest = attacks.groupby(["model", "case", "eps"])["dice"].min()
lowest = lowest.clip(upper=clean.reindex(lowest.index.droplevel("eps")).to_numpy())
worst = lowest.groupby(["model", "eps"]).mean()
worst.round(3)

# %%
figure, axes = plt.subplots(figsize=(6, 4))
for (model, attack), rows in by_attack.reset_index().groupby(["model", "attack"]):
    axes.plot(255 * rows["eps"], rows["mean"], marker="o", label=f"{model}, {attack}")
for model, rows in worst.reset_index().groupby("model"):
    axes.plot(255 * rows["eps"], rows["dice"], color="black", linestyle="--", label=f"{model}, worst case")
    axes.axhline(clean[model].mean(), color="grey", linewidth=1)
axes.set(xlabel="eps, in 1/255 of the intensity range", ylabel="mean Dice of the written files", ylim=(0, 1))
axes.legend()
figure.savefig("dice-by-attack.png")

# %% [markdown]
# ## One row for each class
#
# `classes` names what the Dice in `deployed` are of, in this order.

# %%
by_class = attacks.explode(["classes", "deployed"]).astype({"deployed": float})
by_class.pivot_table(index=["model", "classes"], columns="eps", values="deployed", aggfunc="min").round(3)
