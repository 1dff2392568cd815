"""What is said of the best weights of a training."""

from __future__ import annotations

import pytest

from voxward.runs.kept import Kept, PatchScores, kept_of, write_kept

HARDENED = Kept(40, PatchScores(0.8, 0.5), PatchScores(0.9, 0.1))


@pytest.mark.parametrize(
    ("kept", "text"),
    [
        (Kept(7, PatchScores(0.8123)), "best step 7: Dice 0.812 on the validation patches"),
        (Kept(7, PatchScores(0.8, 0.5)), "best step 7: Dice 0.800 on the validation patches, 0.500 on perturbed ones"),
        (
            HARDENED,
            "best step 40: Dice 0.800 on the validation patches, 0.500 on perturbed ones (before hardening: 0.900 and "
            "0.100)",
        ),
    ],
)
def test_it_is_said_in_words(kept, text):
    assert kept.text == text


@pytest.mark.parametrize(("robust", "gained"), [(0.11, True), (0.1, False), (0.05, False)])
def test_it_gains_where_the_dice_on_perturbed_patches_rises(robust, gained):
    assert Kept(40, PatchScores(0.95, robust), HARDENED.start).gained is gained
    assert Kept(40, PatchScores(0.95, robust)).gained


def test_folds_of_an_nnunet_are_named(tmp_path):
    assert kept_of(tmp_path) == {}
    for place in ("fold_0", "fold_3"):
        write_kept(tmp_path / place / "hardening" / "logs" / "kept.json", HARDENED)
    assert kept_of(tmp_path) == {"fold_0": HARDENED, "fold_3": HARDENED}


def test_a_run_has_no_name_and_a_changed_file_is_as_good_as_none(tmp_path):
    """It only informs: no training and no command may fail of it."""
    path = tmp_path / "logs" / "kept.json"
    write_kept(path, HARDENED)
    assert kept_of(tmp_path) == {"": HARDENED}
    path.write_text(path.read_text().replace("40", "41"))
    with pytest.warns(UserWarning, match=r"kept\.json.*left out"):
        assert kept_of(tmp_path) == {}
