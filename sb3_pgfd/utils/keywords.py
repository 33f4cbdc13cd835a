"""Arguments by name: which a function takes, and which one was meant."""

import difflib
import inspect
from collections.abc import Collection, Iterable, Mapping
from typing import Any


def keyword_defaults(cls: type) -> dict[str, Any]:
    """
    :param cls: Any class
    :return: Defaults of the arguments that its constructor takes by name, and those of its parents as long as it passes
        ``**kwargs`` on; ``inspect.Parameter.empty`` where there is none
    """
    defaults: dict[str, Any] = {}
    for base in cls.__mro__:
        if "__init__" not in vars(base):
            continue
        parameters = list(inspect.signature(vars(base)["__init__"]).parameters.values())[1:]
        for item in parameters:
            if item.kind in (item.POSITIONAL_OR_KEYWORD, item.KEYWORD_ONLY):
                defaults.setdefault(item.name, item.default)
        if not any(item.kind is item.VAR_KEYWORD for item in parameters):
            break
    return defaults


def accepted_keywords(cls: type) -> set[str]:
    """:return: Names of the arguments that the constructor of a class takes, see :func:`keyword_defaults`"""
    return set(keyword_defaults(cls))


def check_keywords(
    owner: str, given: Iterable[str], accepted: Collection[str], elsewhere: Mapping[str, Collection[str]] | None = None
) -> None:
    """
    :param owner: Who takes the arguments, for the message
    :param given: Names of arguments
    :param accepted: Names that are known
    :param elsewhere: Names that belong to something else, by the name of the argument that they go into
    :raises TypeError: If a name is unknown; the message says which one was meant
    """
    for name in given:
        if name in accepted:
            continue
        for place, names in (elsewhere or {}).items():
            if name in names:
                raise TypeError(f"{owner}: found the argument {name!r}, expected it in {place}: {place}=dict({name}=...)")
        known = {other: f"{other!r}" for other in accepted}
        for place, names in (elsewhere or {}).items():
            known |= {other: f"{other!r} in {place}" for other in names if other not in known}
        public = sorted(other for other in accepted if not other.startswith("_"))
        close = difflib.get_close_matches(name, known, n=1)
        meant = f"did you mean {known[close[0]]}?" if close else f"expected one of {', '.join(public)}"
        raise TypeError(f"{owner}: found the unknown argument {name!r}, {meant}")
