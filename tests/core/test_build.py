import pytest
from voxward.core.build import build

from voxward.core.registry import Registry


def _box(first, width: int = 1, height: int = 2):
    return first, width * height


SHAPES = Registry("shape", {"box": _box, "bag": lambda first, **options: (first, options), "point": lambda: None})


def test_a_member_gets_its_options():
    assert build(SHAPES, "box", {"width": 3}, "a") == ("a", 6)
    assert build(SHAPES, "bag", {"any": 3}, "a") == ("a", {"any": 3})


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("bix", {}, "unknown shape 'bix'. Did you mean 'box'"),
        ("box", {"depth": 1, "width": 2}, "shape 'box' has no option depth; it has: width, height"),
        ("box", {"first": 1}, "shape 'box' has no option first; it has: width, height"),
        ("box", {"width": "a", "height": "b"}, "shape 'box': can't multiply"),
    ],
)
def test_what_a_user_may_get_wrong_is_said(name, options, message):
    with pytest.raises(ValueError, match=message):
        build(SHAPES, name, options, "a")


def test_a_member_without_options_says_so():
    with pytest.raises(ValueError, match="shape 'point' has no option size; it has: none"):
        build(SHAPES, "point", {"size": 1})
