"""Left and right in names, and the exchange of classes and output channels."""

import pytest

from voxward.core.errors import UserError
from voxward.core.labels import LabelSet
from voxward.core.sides import Sides, class_swaps, output_order, sides_of

BTCV = ("spleen", "rkid", "lkid", "gall", "eso", "liver", "sto", "aorta", "IVC", "veins", "pancreas", "rad", "lad")


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("kidney_left", "kidney_right"), ("left_kidney", "right kidney"), ("Left Kidney", "Right Kidney"),
        ("kidney_l", "kidney_r"), ("L_kidney", "R_kidney"), ("Hippocampus-L", "Hippocampus-R"),
        ("LKidney", "RKidney"), ("kidneyLeft", "kidneyRight"), ("leftkidney", "rightkidney"), ("Eye Lt", "Eye Rt"),
        ("lung_upper_lobe_left", "lung_upper_lobe_right"), ("rib_left_3", "rib_right_3"),
        ("Left-Hippocampus", "Right-Hippocampus"), ("ctx-lh-cuneus", "ctx-rh-cuneus"), ("lh.cortex", "rh.cortex"),
        ("left", "right"), ("L", "R"), ("LV", "RV"), ("Niere links", "Niere rechts"),
        ("A_Carotid_L", "A_Carotid_R"), ("Upper Left Canine", "Upper Right Canine"),
    ],
)  # fmt: skip
def test_names_that_differ_in_the_side_alone_are_a_pair(left, right):
    assert sides_of([right, "liver", left]) == Sides(((left, right),))


def test_pairs_stand_in_the_order_of_the_names_and_each_with_its_own_partner():
    assert sides_of(BTCV) == Sides((("lkid", "rkid"), ("lad", "rad")))
    ribs = [f"rib_{side}_{n}" for side in ("right", "left") for n in range(1, 13)]
    assert sides_of(ribs).pairs == tuple((f"rib_left_{n}", f"rib_right_{n}") for n in range(1, 13))


@pytest.mark.parametrize("name", ["kidney_left", "Left Atrium", "Parotid_L", "R_Parotid", "leftkidney", "lh.cortex"])
def test_a_class_of_one_side_is_single(name):
    assert sides_of([name, "liver"]) == Sides((), (name,))


@pytest.mark.parametrize(
    "names",
    [
        ("ventricle",), ("lesion",), ("l",), ("liver", "lung", "rib"), ("cleft lip", "bright spot"), ("leftover",),
        ("vertebrae_L1", "vertebrae_L5"), ("L5", "S1"), ("lesion_s", "lesion_m", "lesion_l"), ("T1 L",),
        ("both kidneys, left and right",), ("Anterior", "Posterior"), ("organ a", "organ b", "lesion"),
        ("WM-hypointensities", "Brain-Stem", "CSF"), ("prostate_pz", "prostate_tz"), ("all", "large"),
    ],
)  # fmt: skip
def test_other_names_have_no_side(names):
    assert sides_of(names) == Sides()


FIVE = LabelSet(("background", "liver", "kidney_left", "spleen", "kidney_right"), (0, 10, 20, 30, 40))
PAIR = (("kidney_left", "kidney_right"),)


def test_classes_and_outputs_are_exchanged_and_all_others_stay():
    assert class_swaps(FIVE, PAIR) == ((2, 4),)
    assert output_order(FIVE, PAIR) == (0, 1, 4, 3, 2)
    assert output_order(FIVE, ()) == (0, 1, 2, 3, 4)


@pytest.mark.parametrize(
    ("pairs", "fault"),
    [
        ((("kidney", "spleen"),), "'kidney' is no foreground class"),
        ((("background", "spleen"),), "'background' is no foreground class"),
        ((("liver", "spleen"), ("liver", "kidney_left")), "one pair only"),
    ],
)
def test_wrong_pairs_are_refused(pairs, fault):
    with pytest.raises(UserError, match=fault):
        class_swaps(FIVE, pairs)


def test_regions_are_exchanged_with_their_classes_or_refused():
    three = LabelSet(("background", "both", "left", "right"), (0, 1, 2, 3))
    whole = three.with_regions({"all": [1, 2, 3], "sides": [2, 3], "left": [2]})
    with pytest.raises(UserError, match=r"region 'left' has no partner.*\[2\] are \[3\]"):
        output_order(whole, (("left", "right"),))
    disjoint = three.with_regions({"l": [2], "r": [3], "m": [1]}, [2, 3, 1])
    places = {region.name: n for n, region in enumerate(disjoint.regions)}
    order = output_order(disjoint, (("left", "right"),))
    assert order[places["l"]] == places["r"]
    assert order[places["r"]] == places["l"]
    assert order[places["m"]] == places["m"]
