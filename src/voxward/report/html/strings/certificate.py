"""The words of the section and the table on certificates."""

from __future__ import annotations

from collections.abc import Mapping

CERTIFICATE: Mapping[str, str] = {
    "heading": "What is certain under noise?",
    "title": "Certificates by randomised smoothing: Dice of the system when noise is added to every scan it gets",
    "system": "system",
    "noise_column": "noise, sigma",
    "noise": "{noise} {sigma}",
    "noise_voxels": "voxels",
    "noise_gain": "gain",
    "noise_offset": "offset",
    "noise_gamma": "gamma",
    "noise_bias": "bias field",
    "runs": "n",
    "clean": "clean Dice",
    "median": "median",
    "at": "certified: R = {radius} sigma",
    "at_short": "R\n{radius} sigma",
    "mask_at": "mask: tau {tau}, R = {radius} sigma",
    "mask_at_short": "mask R\n{radius} sigma",
    "too_few": "too few runs",
    "needs": "too few runs at tau {tau}: even where all agree, a certificate needs at least {n} of a case "
    "(--set certificate.samples)",
    # What must stand beside the figures.
    "lead": "Whatever is changed in a scan within R = {radius} sigma, the median Dice of noisy runs of {system} stays "
    "at or above its certified value, {dice} ({scans}, with a confidence of {sure} for each; without noise "
    "and change the Dice is {clean}).",
    "scans_one": "of 1 scan",
    "scans_many": "the mean over {n} scans",
    "nothing": "{n} noisy runs of {system} are too few to certify anything at the radii that were asked for.",
    "mask_lead": "Within R = {radius} sigma, the mask that most noisy runs of {system} agree on has a Dice of at least "
    "{dice} (mean over the scans; confidence {sure} for each).",
    "randomised": "This certifies the randomised system, the median of noisy runs. It certifies neither one run "
    "without noise nor every single noisy run.",
    "median_note": "certified: a Dice that, with a confidence of {sure} for each case and radius, at least half of the "
    "noisy runs reach on every volume within R. It certifies the randomised system, the median of noisy runs, and not "
    "the system without noise",
    "mask_note": "mask: a lower bound of the Dice of the mask that most noisy runs agree on, within R; all certain "
    "voxels of a case hold at once with a confidence of {sure}. R is a Euclidean distance: noise in voxels and the "
    "change are measured as shares of each channel's intensity window, and voxels that are held at 0 do not change",
    "means": "noise in {noise}: R = {radius} sigma is {reading}",
    "reading": "{size} in all: 8/255 of the window in {count} voxels, or {each}/255 in each of all {voxels} voxels of "
    "a case",
    "not_linf": "A certificate in the Euclidean norm says nothing about a change of 8/255 in all voxels (l_inf)",
    "alone": "Noise in parameters certifies one kind of change alone, and not several kinds together",
    "tolerates": "Smoothing needs a system that tolerates noise: voxward harden --method noise trains one; compare the "
    "certificate before and after",
    "holds_one": "1 attack on the smoothed system (expectation over noise) did not get below what is certified; its "
    "median stayed above by {least}",
    "holds_many": "{n} attacks on the smoothed system (expectation over noise) did not get below what is certified; "
    "the nearest median stayed above by {least}",
    "not_attacked": "No attack has checked these certificates: --set certificate.attack_steps=100 adds one",
    "broken": "CERTIFICATE BROKEN: an attack of R = {radius} sigma on {system}, case {case}, leaves a median of "
    "{found}, or a mask below its bound (certified median {bound}). Something is wrong with the system, the noise or "
    "voxward: believe no certificate here",
    "mixed": "The noisy runs of {system}, case {case}, were computed on different kinds of machines ({machines}). "
    "These round differently, so that there is not one system that the certificate is of: run them again on one kind",
    "missing": "The certificate of {folder} is not finished: give the same command again.",
}
