"""Names of arguments: which a constructor takes, and which one was meant."""

import inspect
from typing import Any

import pytest

from sb3_pgfd.utils.keywords import accepted_keywords, check_keywords, keyword_defaults


class Base:
    """Takes what it takes."""

    def __init__(self, size: int, rate: float = 0.5):
        pass


class Passes(Base):
    """Passes on what it does not know."""

    def __init__(self, colour: str = "red", *args: Any, rate: float = 0.25, **kwargs: Any):
        super().__init__(*args, **{"rate": rate, **kwargs})


class Inherits(Passes):
    """Has no constructor of its own."""


class Closed(Passes):
    """Passes on nothing."""

    def __init__(self, shape: int, /, depth: int = 1):
        super().__init__(size=shape)


def test_keywords_are_followed_as_far_as_they_are_passed_on() -> None:
    assert accepted_keywords(Base) == {"size", "rate"}
    assert accepted_keywords(Passes) == accepted_keywords(Inherits) == {"colour", "size", "rate"}
    # A positional argument has no keyword
    assert accepted_keywords(Closed) == {"depth"}


def test_a_default_is_that_of_the_class_that_is_asked_first() -> None:
    assert keyword_defaults(Inherits) == {"colour": "red", "rate": 0.25, "size": inspect.Parameter.empty}
    assert keyword_defaults(Base)["rate"] == 0.5


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("rat", "Thing: found the unknown argument 'rat', did you mean 'rate'?"),
        ("depth", "Thing: found the argument 'depth', expected it in net_kwargs: net_kwargs=dict(depth=...)"),
        ("deepth", "Thing: found the unknown argument 'deepth', did you mean 'depth' in net_kwargs?"),
        ("xyzzy", "Thing: found the unknown argument 'xyzzy', expected one of rate, size"),
    ],
)
def test_an_unknown_argument_is_told_what_was_meant(name: str, message: str) -> None:
    with pytest.raises(TypeError) as error:
        check_keywords("Thing", ["size", name], {"size", "rate", "_private"}, {"net_kwargs": {"depth", "size"}})
    assert str(error.value) == message


def test_known_arguments_pass_also_where_another_place_has_the_same_name() -> None:
    check_keywords("Thing", ["size", "rate"], {"size", "rate"}, {"net_kwargs": {"size"}})
    check_keywords("Thing", [], set())
