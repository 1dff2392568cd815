"""The words of a model card."""

from __future__ import annotations

CARD = {
    "title": "Model card: {names}",
    "no_attack": "a model card says how robust a system is, and none of these folders has results of voxward attack: "
    "name one that has, or leave out the card",
    "about": "voxward {version} wrote this card on {date} (UTC) from what was measured. It knows nothing else.",
    "description": "Model description",
    "description_system": "{system} outlines {classes} in 3D medical images.",
    "description_kind": "It is a {kind}, with the fingerprint {fingerprint}.",
    "description_unknown": "Its fingerprint is {fingerprint}.",
    "use": "Intended use",
    "use_text": "Whoever publishes the model must say here what it is meant for, and for whom. These measurements "
    "allow no use in patients by themselves.",
    "licence": "The licence is not known to voxward. Add it to the fields above.",
    "data": "Evaluation data",
    "robustness": "Robustness",
    "require": "What must hold",
    "checks": "Checks of the figures",
    "limits": "Limits: what was not measured",
    "repeat": "How to repeat it",
    "metric_clean": "Mean Dice, unchanged scans",
    "metric_robust": "Mean Dice under the strongest attack, {size}",
    "metric_noise": "Mean Dice under random noise, {size}",
    "metric_failed": "{name} (not trustworthy: a check failed)",
    "task": "3D medical image segmentation",
    "dataset_unknown": "not recorded",
}
