"""The words of the section that says how visible a change is."""

from __future__ import annotations

from collections.abc import Mapping

VISIBILITY: Mapping[str, str] = {
    "heading": "How visible is the change?",
    "title": "The worst attack on each scan: how visible it is, what it does, and what noise of its size does",
    "system": "system",
    "eps": "eps",
    "psnr": "PSNR (dB)",
    "ssim": "SSIM",
    "rms": "RMS",
    "dice": "Dice: worst attack",
    "noise": "Dice: sign noise",
    "gaussian": "Dice: Gaussian",
    "rician": "Dice: Rician",
    "reading": "Means over the scans; [95 % bootstrap interval over the scans].",
    "terms_linf": "eps is the largest change of a voxel.",
    "terms_l2": "eps is the root of the sum of the squared changes of all voxels.",
    "terms": "RMS is the root mean square of the change over all voxels. PSNR compares the RMS with the intensity "
    "range: the higher, the less visible. SSIM says how alike two pictures are to the eye: 1 is the same.",
    "noises_linf": "Sign noise changes every voxel by eps, up or down at random.",
    "noises_l2": "Sign noise changes every voxel by the same amount, up or down at random, and all together by eps.",
    "noises": "Gaussian and Rician noise have the same RMS as the attack.",
    "chart": "Dice over the strength of the change",
    "axis_range": "RMS of the change (n/255 of the intensity range)",
    "axis_hounsfield": "RMS of the change (HU)",
    "axis_raw": "RMS of the change (intensity)",
    # What a clinician reads. No figure tells whether a person sees a change, and so does no text.
    "told": "With the worst attack of {eps}, a changed scan differs from the unchanged one by a PSNR of {psnr} "
    "dB{ssim}.",
    "unchanged": "The attacks of {eps} changed no scan.",
    "alike": ", SSIM {ssim}",
    "harm": "It lowers the mean Dice of {system} from {clean} to {dice}.",
    "no_harm": "It does not lower the mean Dice of {system} ({clean} before, {dice} after).",
    "noise_harmless": "{noise} leaves {dice}: random changes do no such harm.",
    "noise_dice": "{noise} leaves {dice}.",
    "gaussian_name": "Gaussian noise of the same RMS",
    "rician_name": "Rician noise of the same RMS",
    "noise_name": "Random signs of the same eps",
    "rule": "Nobody was asked whether these changes can be seen, and the figures alone cannot tell: look at the scans "
    "in the viewer.",
    "more_systems_one": "The table has 1 more system.",
    "more_systems_many": "The table has {n} more systems.",
    # What is missing.
    "no_figures": "There are no such figures of {system}: {why}.",
    "no_attack": "No attack on {system} has finished, so there is no change to look at.",
    "unmeasured": "How visible the changes are is not known: the version of voxward that ran these attacks did not "
    "measure it. Run the attacks again into a new folder to have PSNR, SSIM and RMS.",
    "partly": "For {count} of {total} results it is not known how visible the change is; the figures are over the "
    "others.",
    "no_ssim": "There is no SSIM. It needs scikit-image when the attacks run: install it with pip install "
    '"voxward[report]", and run them again into a new folder. Scans of fewer than 3 by 3 voxels have none at all.',
    "no_noise": "{noise} was not measured: {name} is not among the controls of the protocol, or the folder is of a "
    "version that did not have it.",
    "no_noise_because": "{noise} was not measured: {reason}.",
}
