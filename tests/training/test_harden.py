"""What a hardened run takes over, and what is refused before it begins."""

import pytest

from voxward.core.errors import UserError
from voxward.training.harden import refuse_idle


@pytest.mark.parametrize(
    ("method", "change", "follower"),
    [
        ("free", "defence.objective=dice-sharp", "pgd"),
        ("trades", "defence.objective = tsallis", "pgd"),
        ("free", "defence.start=reference", "pgd"),
        ("pgd", "defence.beta=3", "trades"),
    ],
)
def test_a_change_that_the_method_does_not_follow_is_refused(method, change, follower):
    """A user would believe that the network was hardened with it."""
    with pytest.raises(UserError, match=f"changes nothing, because only the method {follower} follows it"):
        refuse_idle(method, ["training.epochs=2", change])
    refuse_idle(follower, ["training.epochs=2", change])
    refuse_idle(method, [change, f"defence.method={follower}"])


def test_unknown_names_are_left_to_those_who_know_all_names():
    refuse_idle("free", ["defence.objective=dicee"])
    refuse_idle("fre", ["defence.start=reference"])
