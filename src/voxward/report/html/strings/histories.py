"""The words about how networks came about: trainings, hardenings, architecture searches, cross-validations."""

from __future__ import annotations

from collections.abc import Mapping

HISTORIES: Mapping[str, str] = {
    "heading": "For engineers: training and search",
    "lead": "How the networks came about. A loss is what a training makes smaller. The validation Dice is measured on "
    "scans that the network does not learn from, while it is trained.",
    # Trainings.
    "training": "Training: {name}",
    "recipe": "The recipe is {recipe}: {description}.",
    "recipe_only": "The recipe is {recipe}.",
    "data": "It was trained on the dataset {dataset}, without the scans of fold {fold} of {folds}. The seed is {seed}.",
    "data_all": "It was trained on all labelled scans of the dataset {dataset}. The seed is {seed}.",
    "length": "It took {minutes} minutes and {steps} steps.",
    "length_only": "It took {steps} steps.",
    "budget": "Its time budget was {minutes} minutes.",
    "ended": "The training has ended as planned.",
    "unfinished": "This training has not ended: it is at {progress}. What stands here is of an early state.",
    "best": "The highest validation Dice was {dice}, at step {step}.",
    "no_best": "The log holds no validation Dice.",
    "not_a_number": "{n} of {rows} validations gave no number for the loss or the Dice. Such points are left out of "
    "the charts.",
    "no_log": "There is no log of this training yet, so that no chart can be drawn.",
    "started": "It began with the weights of {start}.",
    "hardened": "It was hardened from {start}: trained further on attacked scans, by the method {method}, in which an "
    "attack may change every voxel by at most {eps} of the intensity range.",
    "defended": "It was trained on attacked scans from the beginning, by the method {method}, in which an attack may "
    "change every voxel by at most {eps} of the intensity range.",
    "hardened_noise": "It was hardened from {start}: trained further on noisy scans, by the method {method}. The "
    "standard deviation of the noise is {sigma} of the intensity range.",
    "defended_noise": "It was trained on noisy scans from the beginning, by the method {method}. The standard "
    "deviation of the noise is {sigma} of the intensity range.",
    "method": "{method} ({explained})",
    "free": "every step of the training also moves the change of the scan",
    "pgd": "an attack looks for the worst change before every step of the training",
    "trades": "the segmentation of the changed scan is drawn towards that of the clean one",
    "noise": "Gaussian noise is added to every scan before it is learnt from",
    "mixed": "half of the scans are clean, a quarter is attacked, and a quarter is corrupted as by a scanner; the "
    "segmentation of a changed scan is drawn towards that of the clean one",
    "hardened_here": "That run is on this page, too.",
    "hardening": "Before and after hardening, measured in {folder}",
    "hardening_other": "{folder} has results of systems with these names, but not of the weights and settings that lie "
    "here now, so that no table compares them.",
    "hardening_unknown": "{folder} has results of systems with these names. Whether they are of these runs cannot be "
    "checked: {reason}",
    "no_hardening": "No folder on this page measured both runs. So it is not shown what the hardening bought.",
    "scores": "Scores on the validation scans, without an attack",
    "scores_of": "Scores without an attack: {folder}",
    "scores_failed": "The scores cannot be shown: {reason}",
    # Charts.
    "step": "training step",
    "epoch": "epoch",
    "loss": "loss",
    "dice": "Dice",
    "rate": "learning rate",
    "entropy": "entropy, as a share of the largest",
    "gmacs": "billions of multiplications for one patch",
    "chart_loss": "{name}: loss of the training",
    "chart_dice": "{name}: Dice on validation scans during the training",
    "chart_rate": "{name}: learning rate",
    "chart_search_loss": "{name}: losses of the search",
    "chart_entropy": "{name}: how undecided the search is (0: decided)",
    "chart_cost": "{name}: expected cost of the network",
    "chart_folds": "{name}: Dice on validation scans during the trainings",
    "all": "all",
    "folds": "all trainings",
    "training_loss": "training",
    "validation_loss": "validation",
    "clean_loss": "training, clean scans",
    "validation_dice": "clean scans",
    "robust_dice": "attacked or noisy scans",
    "learning_rate": "learning rate",
    "weight_loss": "weights",
    "architecture_loss": "architecture",
    "operation_entropy": "operations",
    "input_entropy": "inputs of blocks",
    "path_entropy": "paths",
    "expected_gmac": "expected",
    # Searches.
    "search": "Architecture search: {name}",
    "search_length": "The search took {minutes} minutes and {epochs} epochs.",
    "search_unfinished": "This search has not ended: no network is chosen yet.",
    "no_search_log": "The log of this search is empty, so that no chart can be drawn.",
    "networks": "The networks that the search found",
    "drawing": "The network {name}: {paths} paths through {layers} layers and {scales} resolutions. Its operations are "
    "listed in architectures.json.",
    "drawing_title": "Network {name}",
    # Cross-validations.
    "validation": "Cross-validation: {name}",
    "finished_runs_one": "1 of {planned} trainings has ended and is scored.",
    "finished_runs_many": "{n} of {planned} trainings have ended and are scored.",
    "validation_unfinished": "This cross-validation has not ended. The scores of all scans are not known yet.",
    "validation_runs": "The trainings of the cross-validation",
    "validation_scores": "Scores of all scans, each by networks that have not seen it",
    "run": "training",
    "state": "state",
    "best_dice": "highest validation Dice",
    "fold_dice": "Dice on the scans of the fold",
    "scans": "scans",
    "minutes": "minutes",
    "steps": "steps",
    "state_scored": "ended and scored",
    "state_trained": "ended, not scored yet",
    "state_open": "not ended: {progress}",
    "state_none": "not begun",
}
