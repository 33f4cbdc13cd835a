"""Reading the RL Zoo's run folders without running what they name, and whom their owner must be before pickles are loaded."""

import ast
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class UntrustedFileError(PermissionError):
    """A file of another user that may run code when it is loaded."""


@dataclass(frozen=True)
class UnknownObject:
    """Stands for an object of a Python class that a file names. Nothing of that class is imported or called."""

    tag: str

    def __repr__(self) -> str:
        return f"an object {self.tag.removeprefix('tag:yaml.org,2002:')}"


def read_settings(path: Path) -> dict[str, Any]:
    """
    Read ``args.yml`` or ``config.yml`` of the RL Zoo without running anything that the file names.

    :param path: Path of a YAML file with a mapping, or with the ``OrderedDict`` that the Zoo writes
    :return: Its plain values and tuples, and an :class:`UnknownObject` for any other object
    :raises ValueError: If the file cannot be read or holds something else
    """
    # Comes with the extras `plots` and `zoo`
    import yaml

    class PlainLoader(yaml.SafeLoader):
        """Reads ordered dictionaries and tuples, and stands in for every other tag that a safe loader refuses."""

    def ordered_dict(loader: Any, node: Any) -> dict[Any, Any]:
        return dict(*loader.construct_sequence(node, deep=True))

    def as_tuple(loader: Any, node: Any) -> tuple[Any, ...]:
        return tuple(loader.construct_sequence(node, deep=True))

    python = "tag:yaml.org,2002:python/"
    PlainLoader.add_constructor(f"{python}object/apply:collections.OrderedDict", ordered_dict)
    PlainLoader.add_constructor(f"{python}tuple", as_tuple)
    PlainLoader.add_constructor(None, lambda loader, node: UnknownObject(node.tag))
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=PlainLoader)
    except (OSError, RecursionError, TypeError, ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path}: found a file that cannot be read ({reason}), expected YAML of the RL Zoo") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: found {type(content).__name__}, expected a mapping, as the RL Zoo writes")
    return content


def plain(value: Any, name: str) -> Any:
    """
    :param value: Of :func:`read_settings`, perhaps the Zoo's text for a mapping: ``"dict(norm_obs=True)"``
    :param name: Of the option, for the message
    :return: The value, such a text as a mapping
    :raises ValueError: If it holds an object, or a text that is more than names and plain values
    """
    if _holds_object(value):
        raise ValueError(f"{name}: found {value}, expected plain values: nothing that a run folder names is run")
    if not (isinstance(value, str) and value.strip().startswith("dict(")):
        return value
    try:
        call = ast.parse(value.strip(), mode="eval").body
        names = [item.arg for item in call.keywords] if isinstance(call, ast.Call) else [None]
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.args or None in names:
            raise ValueError("something else")
        return {str(item.arg): ast.literal_eval(item.value) for item in call.keywords}
    except (SyntaxError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{name}: found {value!r:.200} ({error}), expected dict(name=value) with plain values") from error


def _holds_object(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_holds_object, (*value.keys(), *value.values())))
    return any(map(_holds_object, value)) if isinstance(value, (list, tuple)) else isinstance(value, UnknownObject)


def require_trust(paths: Iterable[Path], trust: bool) -> None:
    """
    Refuse files that another user of this machine has written, because loading them can run code: SB3's models,
    ``VecNormalize`` statistics and replay buffers are pickles, and ``config.yml`` names classes. Files of the system's
    administrator count as one's own. Windows does not tell owners, so nothing is refused there.

    :param paths: What is to be loaded; those that do not exist are left out
    :param trust: Whether the user trusts them
    :raises UntrustedFileError: If one is another user's
    """
    if trust or not hasattr(os, "getuid"):
        return
    own = {0, os.getuid()}
    for path in paths:
        if path.is_file() and (owner := path.stat().st_uid) not in own:
            raise UntrustedFileError(
                f"{path}: found a file of the user {_user_name(owner)}, expected one of your own: loading it can run code. "
                "If you trust whoever wrote it, pass --trust (see docs/security.md)"
            )


def _user_name(number: int) -> str:
    try:
        import pwd

        return pwd.getpwuid(number).pw_name
    except (ImportError, KeyError):
        return str(number)
