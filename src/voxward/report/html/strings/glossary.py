"""The words of the page that a reader may not know, each with a line."""

from __future__ import annotations

from collections.abc import Mapping

GLOSSARY: Mapping[str, str] = {
    "heading": "Words used on this page",
    "attack": "attack {name}",
}

TERMS: Mapping[str, str] = {
    "Dice": "How well two outlines agree. 1: the same outline as the expert's. 0: no voxel in common.",
    "HD95": "How far two outlines are apart in mm, without the worst 5 % of their points. 0 is best.",
    "NSD": "The share of two outlines that lies within the tolerance of each other. 1 is best.",
    "eps": "The largest change that an attack may make. 8/255 is 8/255 of the intensity range.",
    "RMS": "The root mean square of a change: its strength over all voxels together.",
    "PSNR": "The strength of a change against the intensity range, in dB. The higher, the weaker the change.",
    "SSIM": "How alike two pictures are in brightness, contrast and structure. 1 is the same picture.",
    "95 % interval": "How sure a mean is, judged from how much the scans differ from each other.",
    "to break a scan": "To take its Dice below half of the mean Dice of the unchanged scans.",
    "white-box attack": "An attack that knows the inside of the system, and so its gradients.",
    "black-box attack": "An attack that sees only what the system answers.",
    "forward pass": "One segmentation of a whole scan by the system's networks.",
    "gradient": "One forward pass and the way back, which tells an attack how every voxel changes the result. It takes "
    "about as long as three forward passes.",
    "converged": "A figure is converged if the strongest attack with twice its budget hardly lowers it.",
    "control": "A change that no attack chose, such as random noise. It shows what is not the attack's doing.",
}
