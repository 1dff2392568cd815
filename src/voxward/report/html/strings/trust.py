"""The words about trust: checks, threat model, cost, and what was not measured."""

from __future__ import annotations

TRUST = {"heading": "Can these figures be trusted?"}

CHECKS = {
    "complete_means": "Means over different scans cannot be compared. Let the attack finish before you use a figure.",
    "noise control_means": "Random noise, which no attack chose, already changes the Dice. So a fall under attack is "
    "partly that of plain noise.",
    "clip control_means": "Clipping the scan to the intensity range, which no attack chose, already changes the Dice. "
    "So a fall under attack is partly that of the clipping.",
    "larger eps_means": "More freedom made an attack weaker, which cannot be. The attacks are not strong enough, and "
    "the system may be less robust than it looks.",
    "eps 1_means": "Even when everything in the image may change, something of the segmentation is left. The attacks "
    "do not work on this system, so it only looks robust.",
    "white-box_means": "No attack knew the inside of the system. Stronger attacks exist.",
    "black-box_means": "Attacks that know less were stronger. The system hides its gradients from attacks, so it only "
    "looks robust.",
    "in the ball_means": "Changes were larger than allowed. The system looks worse than it is.",
    "deployed_means": "What was attacked is not what is deployed. The figures are about another system.",
    "model_means": "The attacks could not learn from this system as they should, so it may only look robust.",
    "gradients_means": "Attacks did not learn from the system's gradients, so it may only look robust.",
    "rounding_means": "The changes were rounded away when the file was written. The file was not attacked at all, so "
    "its Dice says nothing.",
    "clean_means": "The system finds nothing even when nothing is changed. There is nothing that an attack could take.",
    "other_means": "The figures may be wrong.",
}

GAPS = {
    "failed_one": "1 scan that failed",
    "failed_many": "{n} scans that failed",
    "failed_why_one": "It may be the worst one. The list of scans says why it failed.",
    "failed_why_many": "They may be the worst ones. The list of scans says why they failed.",
    "missing_one": "1 scan without results",
    "missing_many": "{n} scans without results",
    "missing_why_one": "The work stopped before it. Run the same command again to go on.",
    "missing_why_many": "The work stopped before them. Run the same command again to go on.",
    "other_data": "Other scans: other hospitals, scanners, protocols and patients",
    "other_data_why_one": "Every figure is of this one scan. A scan from elsewhere may fare worse.",
    "other_data_why_many": "Every figure is of these {n} scans. Scans from elsewhere may fare worse.",
    "few_one": "How much the figures vary from scan to scan: there is 1 scan only",
    "few_many": "How the figures would be on many scans: there are {n} scans only",
    "few_why_one": "One scan is an example, not a measurement. There is no interval.",
    "few_why_many": "With fewer than 20 scans the mean is unsure, and the 95 % interval is often too narrow.",
    "no_attack": "Any attack: none has finished",
    "no_attack_why": "Nothing can be said about robustness yet.",
    "larger": "Changes larger than {size}",
    "larger_why": "The Dice falls further as larger changes are allowed.",
    "norm_linf": "Changes that are measured in another way (norms other than linf)",
    "norm_linf_why": "Here every voxel may change a little. A few voxels that change a lot are another question.",
    "norm_l2": "Changes that are measured in another way (norms other than l2)",
    "norm_l2_why": "Here the sum over all voxels is limited. A small limit for every voxel is another question.",
    "corruptions": "Everyday faults of images: motion, blur, metal, another slice thickness, cropped or turned scans",
    "corruptions_why": "They are not chosen by an attacker, but they happen every day, and they can be larger than the "
    "changes here.",
    "noise": "Random noise",
    "noise_why": "Without it nobody can tell whether the choice of the changes does the harm, or their size.",
    "erase": "Attacks on other classes than {name}",
    "erase_why": "Another class may be easier to attack.",
    "white_box": "Attacks that know the inside of the system",
    "white_box_why": "They are much stronger than the attacks that were run. Assume that they lower the Dice further.",
    "black_box": "Attacks that do not know the inside of the system",
    "black_box_why": "They would show whether the system hides its gradients and so only looks robust.",
    "transfer": "Attacks that were made on another, similar system",
    "transfer_why": "They need no access to this system, and can get past a system that hides its gradients.",
    "converged": "How far the attacks get with more steps: {attacks} still lowered the Dice at the end",
    "converged_why": "The Dice fell by more than the tolerance in the last fifth of the steps. With more steps it "
    "falls further, so the true Dice is lower than the one shown.",
    "no_history": "Whether the attacks had come to rest",
    "no_history_why": "The records do not say how the Dice fell step by step. More steps may lower it further.",
    "restarts": "Other random starts of the attacks",
    "restarts_why": "Each attack began once. Further starts may find something worse.",
    "certificate": "A guarantee",
    "certificate_why": "Attacks show how bad it gets at least. A stronger attack may exist; only a certificate rules "
    "that out.",
    "patch": "The deployed pipeline: a window of each scan was attacked alone",
    "patch_why": "Resampling, overlapping windows, mirroring and post-processing change how far an attack gets.",
    "file": "The written file",
    "file_why": "A file rounds the changes to its number type, which can weaken an attack.",
    "gpu": "GPUs: everything ran on the processor (CPU)",
    "gpu_why": "A GPU rounds differently. Differences are small as a rule, but they were not measured.",
    "cpu": "Processors (CPU): everything ran on {devices}",
    "cpu_why": "A CPU rounds differently. Differences are small as a rule, but they were not measured.",
    "precision": "Other number types than {precisions} inside the network",
    "precision_why": "The same network in another number type can be more or less robust.",
    "clinic": "Whether a changed outline would change a diagnosis or a treatment",
    "clinic_why": "The Dice compares outlines. It does not know which errors matter to a patient.",
}
