"""The words of the verdict, and how a threat model is spelt out."""

from __future__ import annotations

VERDICT = {
    "heading": "What was found",
    "about": "An attack searches for the small change of a scan that harms the segmentation most. It looks for the "
    "worst case: it shows what small changes can do to a system that a hospital relies on, as an attacker could "
    "choose them. It does not say what happens by chance in everyday use.",
    "dice": "The Dice score says how well two outlines agree. 1: the same outline as the expert's. 0: no voxel in "
    "common. A structure that is found but has the name of another one counts as missed.",
    # The lines that are seen first.
    "headline_link": "more",
    "required_failed": "{k} of {n} requirements failed: {which}.",
    "required_failed_only": "The requirement failed: {which}.",
    "required_open": "{k} of {n} requirements could not be judged, and none failed.",
    "required_open_only": "The requirement could not be judged.",
    "required_passed": "All {n} requirements passed.",
    "required_passed_only": "The requirement passed.",
    "required_which": "{sentence} (measured: {value})",
    "checks_failed": "{k} of {n} checks of the figures failed: do not rely on them.",
    "checks_open": "{k} of {n} checks of the figures could not be made, and none failed.",
    "checks_passed": "All {n} checks of the figures passed.",
    "no_attack_folder": "No attack was measured. This page says nothing about how robust a system is: voxward attack "
    "measures that.",
    "nothing": "Nothing was measured here yet, so nothing can be said.",
    "no_figures": "No verdict on {system}: {why}.",
    # What sets systems apart.
    "compared_one": "Compared with '{first}' on the 1 scan that both were attacked on, '{system}' {attacked}, and "
    "{clean}. One scan has no interval, so this is an example.",
    "compared_many": "Compared with '{first}' over the {n} scans that both were attacked on, '{system}' {attacked}, "
    "and {clean}.",
    "compared_attacked": "under attack at {size}",
    "compared_clean": "without an attack",
    "compared_gained": "gained {value}{interval} of mean Dice {where}",
    "compared_lost": "lost {value}{interval} of mean Dice {where}",
    "compared_interval": " [{low}, {high}]",
    "compared_equal": "has the same mean Dice {where}",
    "compared_unsure": "is not distinguishable from it {where} ({value} [{low}, {high}])",
    "compared_how": "In brackets stands the 95 % interval of the mean difference over the scans. Where it holds 0, "
    "these scans do not tell the two systems apart: not distinguishable.",
    # What the system does without an attack, and under the strongest one.
    "scans_one": "1 scan",
    "scans_many": "{n} scans",
    "of_dataset": "{scans} of {dataset}",
    "clean": "On {scans}, {system} has a mean Dice of {dice} over {classes} when nothing is changed.",
    "clean_patch": "On one window of each scan ({scans}), the bare network of {system} has a mean Dice of {dice} over "
    "{classes} when nothing is changed.",
    "patch": "The deployed pipeline was not attacked: it may be more or less robust than its bare network.",
    "classes_more_one": "1 more class",
    "classes_more_many": "{n} more classes",
    "attacked": "Changes of {change}, chosen by {chooser}, lower that to {dice}{interval}.",
    "unharmed": "Changes of {change}, chosen by {chooser}, leave it at {dice}{interval}.",
    "chooser_planned": "{chooser} of the {n} that were planned",
    "not_ended": "This attack has not ended: {finished} of {total} units of work are finished. What is missing may "
    "do more harm.",
    "chooser_one": "one attack ({names})",
    "chooser_many": "the strongest of {n} attacks",
    "interval": " (95 % interval {low} to {high})",
    "lost_one": "{k} of {of} scans breaks: its Dice ends below {limit}, half of the mean of the unchanged scans.",
    "lost_many": "{k} of {of} scans break: their Dice ends below {limit}, half of the mean of the unchanged scans.",
    "lost_none": "No scan breaks: no Dice ends below {limit}, half of the mean of the unchanged scans.",
    "lost_single": "This scan breaks: its Dice ends below {limit}, half of what it was.",
    "lost_before_one": "1 of them is below it even when nothing is changed.",
    "lost_before_many": "{n} of them are below it even when nothing is changed.",
    "falling": "The attacks had not finished improving: {k} of {n} still lowered the Dice when their steps ended. The "
    "true worst case is probably lower than the figures here.",
    "unconverged": "The figures are not converged: {attack} with twice its budget lowers the Dice further, by {falls} "
    "on {scans}. The true worst case is lower than the figures here.",
    "few_one": "There is 1 scan only. It is an example, not a measurement.",
    "few_many": "There are {n} scans only. With fewer than 20 scans the mean is unsure, and the 95 % interval is often "
    "too narrow.",
    "fewer_one": "At {size} 1 of these scans was attacked, which has a Dice of {clean} when nothing is changed.",
    "fewer_many": "At {size} {n} of these scans were attacked, which have a mean Dice of {clean} when nothing is "
    "changed.",
    "no_attack": "No attack has finished on this system, so nothing can be said about how robust it is.",
    "no_attack_certified": "It was not attacked. What can be proven of it under noise stands further below.",
    "no_attack_corrupted": "It was not attacked. What corruptions do to it stands further below, and the worst one is "
    "{name}, with a mean Dice of {dice}.",
    "gradientless": "None of these attacks knew the inside of the system. Such attacks are weak: assume that a "
    "stronger one lowers the Dice further.",
    "erase": "Only {name} counts here. The attacks tried to make it vanish; other classes were not looked at.",
    "invent": "The attacks tried to make the system find {name} where there is none. The figures here are the volume "
    "that it marks as {name} outside the true {name}.",
    "invent_dice": "No Dice says how bad that is, so none is shown here, and no scan counts as broken. Elsewhere on "
    "this page the Dice is that of everything but {name}: it falls as that volume grows.",
    "phantom": "On {scans}, {system} marks {volume} as {name} where there is none, on average, when nothing is "
    "changed.",
    "phantom_attacked": "Changes of {change}, chosen by {chooser}, raise that to {volume}.",
    "phantom_unharmed": "Changes of {change}, chosen by {chooser}, leave it at {volume}.",
    "tile_phantom": "falsely marked as {name}, unchanged scans",
    "tile_phantom_attack": "falsely marked as {name} under attack, {size}",
    "column_phantom": "Mean volume that is falsely marked as {name} [95 % interval]",
    # Which scans fail.
    "failing_one": "The scan that breaks at {size}:",
    "failing_many": "The scans that break at {size}, worst first:",
    "failing_case": "{case} (from {clean} to {dice})",
    "failing_more_one": "and 1 more",
    "failing_more_many": "and {n} more",
    "failing_link": "see all scans",
    "empty_one": "On 1 scan the system finds next to nothing even when nothing is changed ({cases}). An attack can "
    "take little from it, so look at this scan first.",
    "empty_many": "On {n} scans the system finds next to nothing even when nothing is changed ({cases}). An attack can "
    "take little from them, so look at these scans first.",
    # Random noise.
    "noise": "Random noise of the same size",
    "gaussian": "Gaussian noise as strong in all as the worst attack",
    "rician": "Rician noise as strong in all as the worst attack",
    "noise_safe": "{noise} leaves {dice} ({side}; up to {limit} counts as no change): the system is stable against it.",
    "noise_lower": "{by} lower",
    "noise_higher": "{by} higher",
    "noise_same": "the same",
    "noise_hardly": "less than {by}",
    "stable": "The system is stable against random noise, where a change of up to {limit} counts as none: {parts}.",
    "stable_noise": "noise of the same size leaves {dice} ({side})",
    "stable_gaussian": "Gaussian noise as strong in all as the worst attack leaves {dice} ({side})",
    "stable_rician": "Rician noise as strong in all as the worst attack leaves {dice} ({side})",
    "noise_harm": "{noise} alone lowers the Dice from {clean} to {dice} ({side}; more than {limit} counts as harm): "
    "the system is not safe against random noise.",
    "noise_little": "{noise} alone lowers the Dice a little, from {clean} to {dice} ({side}; more than {limit} counts "
    "as harm): the system is not quite safe against random noise.",
    "noise_part": "A part of the fall under attack is that of plain noise.",
    "noise_stronger": "Random noise of the same size does more harm than the attacks, which might have chosen it. So "
    "the attacks are too weak, and the system is less robust than they make it look.",
    "noise_nothing": "{noise} leaves {dice}. This says nothing, because the system finds next to nothing even when "
    "nothing is changed.",
    "noise_scans_one": "{noise} leaves {dice} on average, but 1 scan breaks ({cases}): the system is not "
    "safe against random noise.",
    "noise_scans_many": "{noise} leaves {dice} on average, but {n} scans break ({cases}): the system is "
    "not safe against random noise.",
    "noise_rise": "{noise} does not lower the Dice, it rises from {clean} to {dice} ({side}; more than {limit} counts "
    "as a change): the segmentation changes with noise, but does not get worse.",
    "noise_none": "Random noise of the same size was not measured, so nothing can be said about it.",
    "poor": "Even when nothing is changed, this system outlines poorly. How robust such a system is matters little.",
    "noise_up_to": "Random noise was measured up to {size} only.",
    "noise_choice": "Random changes of the same size do no such harm: it takes changes that are chosen.",
    # The tiles and the table.
    "tile_clean": "unchanged scans",
    "tile_attack": "under attack, {size}",
    "tile_noise": "random noise, {size}",
    "tile_lost": "scans that break (Dice below {limit}), {size}",
    "tile_of": "{k} of {n}",
    "tile_over": "{label}, over {scans}",
    "cell_over": "{value} ({scans})",
    "cell_unconverged": "{value}; not converged",
    "column_size": "Largest change",
    "column_dice": "Mean Dice under attack [95 % interval]",
    "column_lost": "Scans that break (Dice below {limit})",
    "column_noise": "Random noise of this size",
    "column_gaussian": "Gaussian noise of equal RMS",
    "column_rician": "Rician noise of equal RMS",
    "table": "The figures of {system} at each size of the change",
    "unchanged": "none",
    # Checks that failed.
    "banner_one": "Do not rely on the figures of {system}: a check failed.",
    "banner_many": "Do not rely on the figures of {system}: {n} checks failed.",
    "banner_found": "What was found: {text}.",
    # Requirements.
    "require": "What must hold",
    "require_none": "The protocol requires nothing, so nothing was judged as passed or failed. Whether these figures "
    "are good enough is for you to say.",
    "require_unknown": "The folder does not say how robustness was measured, so no requirement could be judged.",
    "require_system": "{system}: {sentence}",
    "require_value": "Measured: {value}.",
    "require_missing": "There are no records of it.",
    "require_unfinished": "Other results of this folder are not there yet, so this does not count as passed.",
    "require_single": "An interval needs records of at least two scans.",
    "require_doubt": "A check of this system failed, so this line cannot be relied on.",
    "require_left_one": "1 scan failed. It might be the worst one, so nothing counts as passed.",
    "require_left_many": "{n} scans failed. They might be the worst ones, so nothing counts as passed.",
    "require_open_one": "1 scan has no results of this size yet. It might be the worst one, so this does not count as "
    "passed.",
    "require_open_many": "{n} scans have no results of this size yet. They might be the worst ones, so this does not "
    "count as passed.",
    "passed": "passed",
    "failed": "failed",
    "open": "not measured",
    "figure_clean_dice": "mean Dice without an attack",
    "figure_robust_dice": "mean Dice under the strongest attack at {size}",
    "figure_robust_accuracy": "share of scans that keep at least half of the system's mean Dice at {size}",
    "figure_noise_dice": "mean Dice under random noise of size {size}",
    "figure_gaussian_dice": "mean Dice under Gaussian noise as strong in all as the worst attack at {size}",
    "figure_corrupted_dice": "mean Dice over all corruptions and severities",
    "figure_certified_dice": "certified median Dice under noise, within {size}",
    "figure_certified_mask": "certified lower bound of the Dice of the mask, at the threshold {size}",
    "figure_low": "lower end of the 95 % interval of the {figure}",
    "sign_>=": "{figure} at least {limit}",
    "sign_>": "{figure} above {limit}",
    "sign_<=": "{figure} at most {limit}",
    "sign_<": "{figure} below {limit}",
    # What was measured, and what was not.
    "measured": "What was measured",
    "not_measured": "What was not measured",
    "not_measured_more": "Open a line to read why it matters.",
    "measured_scans": "Scans: {n}.",
    "measured_scans_of": "Scans: {n} of {dataset}.",
    "measured_failed_one": "1 scan failed, and no figure is over it: {cases}.",
    "measured_failed_many": "{n} scans failed, and no figure is over them: {cases}.",
    "fewer_noise_one": "It was run on 1 of {of} scans.",
    "fewer_noise_many": "It was run on {n} of {of} scans.",
    "measured_missing_one": "1 scan has no results yet, and no figure is over it: {cases}.",
    "measured_missing_many": "{n} scans have no results yet, and no figure is over them: {cases}.",
    "measured_aside_one": "An earlier call attacked 1 more scan, which the last call did not ask for, and no figure is "
    "over it: {cases}.",
    "measured_aside_many": "An earlier call attacked {n} more scans, which the last call did not ask for, and no "
    "figure is over them: {cases}.",
    "measured_aside_sizes": "An earlier call attacked with other sizes, which the last call did not ask for, and no "
    "figure is of them: {sizes}.",
    "measured_seen_one": "The system was trained on 1 of these scans, so its Dice is better than on new ones: {cases}.",
    "measured_seen_many": "The system was trained on {n} of these scans, so their Dice is better than on new ones: "
    "{cases}.",
    "measured_failed_case": "{case} ({reason})",
    "measured_classes": "What is outlined: {classes}. The Dice is the mean over the classes.",
    "measured_class": "What is outlined: {classes}.",
    "size_share": "{size} ({share} of the intensity range)",
    "size_share_hu": "{size} ({share} of the intensity range, {hu} HU)",
    "measured_change": "What an attack may change: {change}. Sizes: {sizes}.",
    "measured_attacks_one": "Attack: {names}.",
    "measured_attacks_many": "Attacks: {names}. For each scan the most harmful one counts.",
    "measured_file": "The Dice is of a file: the changed scan was written in the scan's own number type, read again "
    "and segmented as any other file. Only the courses of the attacks are of the numbers that were computed.",
    "measured_array": "Every Dice is of the numbers that the attack computed. They were not written to a file and read "
    "again, which would round them.",
    "measured_volume": "The whole deployed pipeline was attacked, from the scan to the segmentation.",
    "measured_patch": "The bare network was attacked on one window of each scan, not the deployed pipeline.",
}

THREAT = {
    "linf_range": "each voxel by at most {size} of the intensity range",
    "linf_native": "each voxel by at most {size}",
    "linf_raw": "each voxel by at most {size} units of the stored intensity",
    "l2_range": "all voxels together by at most {size} of the intensity range (the root of the sum of the squares)",
    "l2_native": "all voxels together by at most {size} (the root of the sum of the squares)",
    "l2_raw": "all voxels together by at most {size} units of the stored intensity (the root of the sum of the "
    "squares)",
}

ABOUT = {
    "quoted": "'{name}'",
    "on": "{systems} on {data}",
    "kind_run": "The system '{system}' is a network that voxward trained. It is called after its folder.",
    "kind_ensemble": "The system '{system}' is an ensemble: the mean of several networks.",
    "kind_cascade": "The system '{system}' is a cascade: a first network finds the place, and a second one "
    "outlines there.",
    "kind_nnunet": "The system '{system}' is a network of nnU-Net.",
    "kind_bundle": "The system '{system}' is a bundle of MONAI.",
    "kind_blackbox": "The system '{system}' is a program whose inside is not known here.",
    "kind_unknown": "The system is called '{system}'.",
    "trained": "The folder of that name among those of this page was trained with the recipe {recipe} on {dataset}.",
    "unseen": "None of these scans was used to train it.",
    "unseen_told": "As its own files say, '{system}' was trained on none of these scans.",
    "seen_unknown": "It is not known whether '{system}' was trained on any of these scans.",
}
