"""The texts of the table of scans, of their volumes, and of the viewer."""

from __future__ import annotations

CASES = {
    "heading": "The scans, worst first",
    "intro": "Each row is one scan. A Dice of 1 means that the segmentation is the same as the ground truth, and 0 "
    "that nothing of it was found. “Attacked” is the lowest value of all attacks of that size.",
    "written": "All figures are of the written image files, segmented as any other file would be.",
    "arrays": "The figures are of the computed arrays, not of written image files.",
    "folder": "Folder {name}",
    "caption": "Every scan, the one with the lowest attacked Dice first",
    "scan": "Scan",
    "system": "System",
    "look": "Look",
    "open": "Open",
    "open_label": "Open the viewer of scan {case}",
    "not_shown": "no volumes",
    "dice_clean": "Dice clean",
    "dice": "Dice attacked, {eps}",
    "attack": "Strongest attack",
    "no_attack": "none lowered it",
    "hd95_clean": "HD95 clean (mm)",
    "hd95": "HD95 attacked (mm)",
    "nsd_clean": "NSD clean",
    "nsd": "NSD attacked",
    "breaking": "Breaks at",
    "size": "Structure size",
    "none": "-",
    "small": "small",
    "medium": "medium",
    "large": "large",
    "explain_surface": "HD95 is how far the outlines are apart in mm (95th percentile; 0 is best). NSD is the "
    "share of the outline that lies within the tolerance (1 is best). Both are at the largest size of attack.",
    "explain_breaking": "“Breaks at” is the smallest change with which an attack that looks for it broke the scan.",
    "explain_size": "The size of a scan is that of the smallest structure in its ground truth. The scans are "
    "divided into thirds by it.",
    "group": "{name} (up to {size}, {count}): mean Dice {clean} clean, {attacked} attacked",
    "group_lead": "By structure size, at the largest attack:",
    "small_first": "Here the scans with the smallest structures lost the most.",
    "small_not_first": "Here the scans with the smallest structures did not lose the most.",
    "reason": "Not shown in the viewer ({count}): {reason}",
    "still": "The scan that was hurt most, as a still picture",
}

VOLUMES = {
    "patch": "The attacks changed single parts of the scans (mode patch), so that there are no whole volumes.",
    "old_folder": "{folder} holds no cases.json: an earlier version of voxward wrote it, and it does not say where "
    "the images lie. Attack again to see the scans.",
    "damaged": "{path} cannot be read: {error}.",
    "unknown_case": "cases.json does not list scan {case}.",
    "moved": "The file {path} is not there. If the dataset was moved, name its folder with --data.",
    "changed": "The image or label in {path} is not the one that was attacked: its content has changed since.",
    "unreadable": "A file cannot be read: {error}.",
    "shape": "A kept volume has {found} voxels and the image {shape}: they are not of the same scan.",
    "foreign": "The change is not shown: {path} differs from the image by more than the attack was allowed to.",
    "too_many": "Only the {most} scans that were hurt most have volumes beside the page. Use --embed none for all.",
    "no_place": "The volumes do not fit into this page.",
    "rounded": "To keep this page small, intensities are rounded to {steps} steps, and the change to {levels}.",
    "left_out": "To keep this page small, the change is shown for the largest attack only.",
    "not_worst": "The result of {shown} is shown, because that of the stronger {worst} was not kept.",
    "no_volume": "The attacked image was not kept, so the change cannot be shown.",
    "no_mask": "The attacked segmentation was not kept.",
    "nothing_kept": "Neither the attacked image nor its segmentation was kept (see “keep” of the protocol).",
    "channels": "The image has {count} channels. The first one ({name}) is shown.",
    "flat": "This is a single slice, so that there is no view in 3D.",
    "cut": "Only the part of the scan round the structures is shown: {size} of {shape} voxels.",
    "no_clean": "The clean segmentation was not kept for: {systems}.",
}
