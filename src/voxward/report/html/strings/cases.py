"""The texts of the table of scans, of their volumes, and of the viewer."""

from __future__ import annotations

CASES = {
    "heading": "The scans, worst first",
    "intro": "Each row is one scan: press its name to look at it. A Dice of 1 means that the segmentation is the same "
    "as the ground truth, and 0 that it has no voxel in common with it. “Dice at” a size is the lowest of all "
    "attacks of that size.",
    "written": "All figures are of the written image files, segmented as any other file would be.",
    "arrays": "The figures are of the computed arrays, not of written image files.",
    "folder": "Folder {name}",
    "caption": "Every scan, the one with the lowest attacked Dice first",
    "scan": "Scan",
    "system": "System",
    "open_label": "Open the viewer of scan {case}",
    "not_shown": "no volumes",
    "dice_clean": "Dice clean",
    "dice": "Dice at {eps}",
    "attack": "Strongest attack",
    "no_attack": "none lowered it",
    "hd95_clean": "HD95 clean (mm)",
    "hd95": "HD95 attacked (mm)",
    "nsd_clean": "NSD clean",
    "nsd": "NSD attacked",
    "breaking": "Smallest breaking change found",
    "breaking_mean": "Smallest breaking change found, mean",
    "scans": "Scans",
    "size": "Structure size",
    "none": "-",
    "small": "small",
    "medium": "medium",
    "large": "large",
    "explain_surface": "HD95 is how far the outlines are apart in mm (95th percentile; 0 is best); it has no "
    "value where a whole structure is missed or made up. NSD is the "
    "share of the outline that lies within the tolerance (1 is best). Both are at the largest size of attack.",
    "explain_breaking": "“Smallest breaking change found” is the smallest one with which the Dice fell below half of "
    "the mean of the unchanged scans, found by an attack that looks for it, or the smallest size of the other attacks "
    "that did so. A smaller one may exist.",
    "breaking_files": "It is the size of the change in a written image file that the system was given.",
    "breaking_arrays": "It is the size of a computed change, which a written image file may need more of.",
    "explain_size": "The size of a scan is that of the smallest structure in its ground truth. The scans are "
    "divided into thirds by it.",
    "group": "{name} (up to {size})",
    "groups_caption": "Means of the scans with small, medium and large structures",
    "groups_few": "Whether small structures fail first cannot be told: a group has only {few}.",
    "groups_same": "The three groups lose about the same at every size of attack.",
    "groups_differ": "The groups differ most at {eps}: there the scans with {most} structures lost the most, and those "
    "with {least} ones the least.",
    "reason": "Not shown in the viewer ({count}): {reason}",
    "intensity": "Units of intensity",
    "still_alt": "Slices of scan {case} in all planes: image, ground truth, clean segmentation, attacked "
    "segmentation and change. The Dice of {system} is {clean} clean and {attacked} under {attack}.",
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
    "other_channel": "The change is not shown: this system does not read the channel that is shown.",
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

VIEWER = {
    "keys_button": "Keys",
    "close": "Close",
    "key_step": "the slice before, the next slice",
    "key_layers": "show or hide image, ground truth, clean and attacked segmentation, change",
    "key_image": "change between the untouched and the attacked image",
    "key_blink": "change between the untouched scan with its segmentation and the attacked scan with its segmentation, "
    "again and again",
    "mouse_click": "Click or drag",
    "mouse_click_text": "move the cross; all planes follow",
    "mouse_wheel": "Wheel",
    "mouse_wheel_text": "the slices of the plane under the pointer; in 3D: nearer or further away",
    "mouse_right_drag": "Drag with the right button",
    "mouse_right_drag_text": "greys (window and level) from the part of the image that you mark; a right click resets "
    "them",
    "mouse_turn": "Drag in 3D",
    "mouse_turn_text": "turn the picture",
    "key_help": "show or hide this list",
    "key_close": "close the viewer",
    "system": "System",
    "change_size": "Attack",
    "layers": "Layers",
    "image": "Image",
    "image_short": "Image",
    "image_title": "The image itself, untouched or attacked",
    "image_clean": "Unchanged",
    "image_clean_title": "The image as it was taken",
    "image_attacked": "Attacked",
    "image_attacked_title": "The image that the attack made, in the same greys",
    "truth": "Ground truth",
    "truth_short": "Ground truth",
    "truth_title": "The ground truth, drawn as an outline",
    "clean": "Clean segmentation",
    "clean_short": "Clean segmentation",
    "clean_title": "What the system finds in the untouched image",
    "attacked": "Attacked segmentation",
    "attacked_short": "Attacked segmentation",
    "attacked_title": "What the system finds in the attacked image",
    "change": "Change",
    "change_short": "Change",
    "change_title": "What the attack added to the image",
    "blink": "Blink",
    "canvas": "The slices of the scan. The text below says which slice is shown; the keys are listed under Keys.",
    "previous": "Slice before",
    "next": "Next slice",
    "views": "Planes",
    "view_all": "All planes",
    "view_axial": "Axial",
    "view_coronal": "Coronal",
    "view_sagittal": "Sagittal",
    "view_render": "3D",
    "legend": "Colours of the structures",
}

VIEWER_SCRIPT = {
    "viewer_title": "Scan {case}",
    "viewer_loading": "The scan is loading.",
    "viewer_no_webgl": "This browser does not offer WebGL 2, which the viewer needs. Another browser, or hardware "
    "acceleration in the settings of this one, would show the scan.",
    "viewer_failed": "The scan cannot be shown: {reason}",
    "viewer_no_file": "the file {file} is not there. It belongs beside this page: copy the folder along with the page.",
    "viewer_no_layer": "There is no such layer for this scan: {layer}.",
    "viewer_no_blink": "The attacked scan was not kept, so that there is nothing to change to.",
    "viewer_blinking": "The untouched scan with its segmentation and the attacked scan with its segmentation take "
    "turns.",
    "viewer_no_attacked_image": "The attacked image was not kept.",
    "viewer_not_in_3d": "3D shows the segmentations only.",
    "viewer_image_clean": "Unchanged image",
    "viewer_image_attacked": "Attacked image",
    "viewer_caption_lines": "Outline: ground truth. Filled: segmentation.",
    "viewer_caption_both": "Both segmentations are shown: the clean one is the pale outline.",
    "viewer_caption_all": "Axial and coronal: the patient's right (R) is on the left. Sagittal: the patient's front "
    "(A) is on the right.",
    "viewer_caption_axial": "The patient's right (R) is on the left of the picture, and the front (A) is at the top.",
    "viewer_caption_coronal": "The patient's right (R) is on the left of the picture, and the head (S) is at the top.",
    "viewer_caption_sagittal": "The patient's front (A) is on the right of the picture, and the head (S) is at the "
    "top.",
    "viewer_caption_render": "3D shows the segmentations that are switched on, the clean one pale where both are. "
    "Image, ground truth and change are in the planes.",
    "viewer_union": "All structures taken as one: Dice {clean} clean, {attacked} attacked. What is found but has the "
    "name of another structure counts here.",
    "viewer_put_together": "The attacked image is put together here from the image and the change. The change is "
    "rounded to steps of {step} ({unit}).",
    "viewer_axial": "Axial",
    "viewer_coronal": "Coronal",
    "viewer_sagittal": "Sagittal",
    "viewer_slice": "{plane} slice {slice} of {slices}",
    "viewer_shown": "Shown: {layers}.",
    "viewer_nothing": "nothing",
    "viewer_none": "none",
    "viewer_attack": "{eps}: {attack}, Dice {dice}",
    "viewer_dice": "Dice {clean} clean, {attacked} under {attack}",
    "viewer_bar": "{unit} added to the image. Blue: darker; red: brighter. The strongest colour is the largest change "
    "of this scan, however small it is. To see whether you notice it, compare the unchanged and the attacked image.",
}
