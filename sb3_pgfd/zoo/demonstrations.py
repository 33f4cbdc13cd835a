"""Demonstrations that hyperparameters name: a path, a name, the id of a Minari dataset, or a mapping with options."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sb3_pgfd.demonstrations import Demonstrations, DemonstrationsError
from sb3_pgfd.demonstrations.formats import find
from sb3_pgfd.demonstrations.formats.minari import PREFIX


def resolve_demonstrations(named: Any, folders: Sequence[Path], origin: str) -> Any:
    """
    Make what hyperparameters name mean the same in every folder.

    :param named: A path, a name, an id, or a mapping with one of them as ``source`` and options of
        :meth:`Demonstrations.load`; None: there are none
    :param folders: What a relative path may be relative to, the first one where there is something counts
    :param origin: Who names it, for messages
    :return: The same with an absolute path; names and ids stay as they are
    :raises DemonstrationsError: If it names nothing that is there
    """
    if named is None:
        return None
    if isinstance(named, Mapping):
        if "source" not in named:
            raise DemonstrationsError(
                f"{origin}: demonstrations: found a mapping with {sorted(map(str, named))}, expected a 'source' among them: "
                "a path, a name or an id"
            )
        return {**named, "source": resolve_demonstrations(named["source"], folders, origin)}
    if not isinstance(named, (str, os.PathLike)):
        raise DemonstrationsError(
            f"{origin}: demonstrations: found {named!r:.200}, expected a path, the name of packaged demonstrations, the id of "
            "a Minari dataset, or a mapping with one of them as 'source' and options of Demonstrations.load"
        )
    path = Path(named).expanduser()
    for candidate in [folder / path for folder in folders]:
        if candidate.is_file() or candidate.is_dir():
            return os.path.abspath(candidate)
    try:
        find(named)
    except DemonstrationsError as error:
        is_relative = not path.is_absolute() and not str(named).startswith(PREFIX)
        looked = f". Looked in {' and in '.join(map(str, folders))}" if is_relative else ""
        raise DemonstrationsError(f"{origin}: demonstrations: {error}{looked}") from None
    return str(named)


def load_demonstrations(resolved: Any) -> Demonstrations | None:
    """
    :param resolved: By :func:`resolve_demonstrations`
    :return: What it names
    :raises DemonstrationsError: If it cannot be read, or an option is unknown
    """
    if resolved is None:
        return None
    return Demonstrations.load(**resolved) if isinstance(resolved, Mapping) else Demonstrations.load(resolved)
