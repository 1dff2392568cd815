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
    "area": "The area below the curve of a system's Dice over the size of the change, from none to the largest, "
    "divided by the largest size. Between two measured sizes the curve is a straight line. Systems are ranked by it. "
    "1 is best.",
    "breaking eps": "The smallest change that was found to break a scan. In a ranking, its median over the scans. A "
    "smaller one may exist.",
    "vs first": "How much higher or lower the mean Dice under attack is than that of the first system of the ranking, "
    "at the largest size and over the scans that both were attacked on, with its 95 % interval.",
    "not distinguishable": "The 95 % interval of a difference holds 0, so the scans do not tell which of two systems "
    "is better.",
    "to break a scan": "To take its Dice below half of the mean Dice of the unchanged scans.",
    "white-box attack": "An attack that knows the inside of the system, and so its gradients.",
    "black-box attack": "An attack that sees only what the system answers.",
    "forward pass": "One segmentation of a whole scan by the system's networks.",
    "gradient": "One forward pass and the way back, which tells an attack how every voxel changes the result. It takes "
    "about as long as three forward passes.",
    "converged": "A figure is converged if the strongest attack with twice its budget hardly lowers it.",
    "fp32": "The network computes with numbers of 32 bits, which have about 7 decimal digits.",
    "bf16": "The network computes with numbers of 16 bits (bfloat16), which are faster and have about 3 decimal "
    "digits. So figures differ a little from those in fp32.",
    "control": "A change that no attack chose, such as random noise. It shows what is not the attack's doing.",
}
