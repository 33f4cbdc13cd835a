"""
Dicts of arrays, as other projects pickle them.

Path dicts, one for each episode (hand_dapg, mjrl, rlkit): ``observations`` (T rows, or T + 1), ``actions``, ``rewards``;
perhaps ``next_observations``, and ``terminated``, ``terminals`` or ``dones``, of which the last value counts.

Transition dicts, one for each step (SERL): ``observations``, ``actions``, ``rewards``, ``next_observations``, ``dones``, which
end an episode; perhaps ``masks``, which are 0 in a terminal state.

OpenAI-HER's ``.npz``: ``obs`` (T + 1 dicts for each episode), ``acs``, ``info``. It can only be read as Python objects.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sb3_pgfd.demonstrations.arrays import frozen
from sb3_pgfd.demonstrations.editing import DoneMeans
from sb3_pgfd.demonstrations.episode import Episode, Transitions, known_of_all
from sb3_pgfd.demonstrations.errors import DemonstrationsError
from sb3_pgfd.demonstrations.formats.checks import check_present, errors_naming, one_number
from sb3_pgfd.demonstrations.formats.successors import check_final_reward, from_steps
from sb3_pgfd.demonstrations.validation import Observations, as_dict

HER = frozenset(("obs", "acs", "info"))
_ENDS = ("terminated", "terminals", "dones")
_STEP = ("observations", "actions", "rewards", "next_observations")
# More levels of Dict observations than any environment has
_MAX_DEPTH = 8


def recognizes(content: Any) -> bool:
    """:param content: Whether this is a list of dicts with observations and actions"""
    return (
        isinstance(content, (list, tuple))
        and bool(content)
        and all(isinstance(item, Mapping) and {"observations", "actions"} <= item.keys() for item in content)
    )


def is_steps(dicts: Sequence[Mapping[str, Any]]) -> bool:
    """:return: Whether each dict is one step: then a reward is one number"""
    first = dicts[0]
    return first.keys() >= {*_STEP, "dones"} and np.ndim(_array("rewards", first["rewards"])) == 0


def read_steps(dicts: Sequence[Mapping[str, Any]], done_means: DoneMeans | None) -> Transitions:
    """
    :param dicts: One for each step
    :param done_means: What ``dones`` mark; None: what ``masks`` say
    :raises DemonstrationsError: If they do not fit together, or nothing says what ``dones`` mark
    """
    has_masks = "masks" in dicts[0]
    if not has_masks and done_means is None:
        raise DemonstrationsError(
            "found transition dicts without masks and done_means=None, expected 'truncated' or 'terminated': "
            "the file does not say whether `dones` mark a time limit or a terminal state"
        )
    names = (*_STEP, "dones", *(("masks",) if has_masks else ()))
    for number, record in enumerate(dicts):
        check_present(record, names, f"transition {number}: ")
    columns = {name: _stacked(name, [record[name] for record in dicts]) for name in names}
    arrays = {name: one_number(name, np.asarray(columns[name])) for name in names if name in ("rewards", "dones", "masks")}
    done = arrays["dones"] != 0
    if has_masks and done_means == "terminated" and (done & (arrays["masks"] != 0)).any():
        raise DemonstrationsError(
            "found done_means='terminated' and masks that deny it for some dones, expected one of both: leave it out"
        )
    terminal = done & (arrays["masks"] == 0 if done_means is None else done_means == "terminated")
    actions = np.asarray(columns["actions"])
    return Transitions.from_transitions(
        columns["observations"],
        actions,
        arrays["rewards"],
        columns["next_observations"],
        terminal,
        done & ~terminal,
        {"producer": "imported from transition dicts"},
    )


def read_paths(
    dicts: Sequence[Mapping[str, Any]], done_means: DoneMeans | None = None, final_reward: float | None = None
) -> Transitions:
    """
    :param dicts: One for each episode
    :param done_means: ``"terminated"`` or ``"truncated"``: how each ends, whatever it says
    :param final_reward: For paths without rewards, see :func:`sb3_pgfd.demonstrations.editing.edit`
    :raises DemonstrationsError: If they do not fit together
    """
    parts: dict[str, list[Any]] = {name: [] for name in ("observations", "actions", "rewards", "next_observations")}
    lengths, terminated, names = [], [], list[str]()
    for number, record in enumerate(dicts):
        with errors_naming(f"path {number}"):
            path = _path(record, final_reward)
            lengths.append(len(path["actions"]))
            ends = [record[name] for name in _ENDS if name in record]
            told = np.ravel(_array("ends", ends[0]))[-1:] if ends and done_means is None else done_means == "terminated"
            terminated.append(bool(np.any(told)))
        names = names or sorted(path)
        if sorted(path) != names:
            raise DemonstrationsError(f"path {number}: found {sorted(path)}, expected {names} as in the first")
        for name, array in path.items():
            parts[name].append(array)
    joined = {name: _joined(name, arrays) for name, arrays in parts.items() if arrays}
    ended = np.zeros(sum(lengths), dtype=bool)
    ended[np.cumsum(lengths) - 1] = True
    return from_steps(
        joined["observations"],
        np.asarray(joined["actions"]),
        np.asarray(joined["rewards"]) if "rewards" in joined else (final_reward or 0.0),
        np.repeat(terminated, lengths),
        ended,
        after=joined.get("next_observations"),
        metadata={"producer": "imported from path dicts"},
    )


def _path(record: Mapping[str, Any], final_reward: float | None) -> dict[str, Any]:
    observations, actions = _arrays("observations", record["observations"]), _array("actions", record["actions"])
    rewards = _array("rewards", record["rewards"]) if "rewards" in record else None
    check_final_reward(final_reward, rewards)
    n_steps = len(actions) if actions.ndim else 0
    if n_steps < 1:
        raise DemonstrationsError("found no transition, expected at least one")
    path = {"observations": observations, "actions": actions}
    if rewards is not None:
        path["rewards"] = one_number("rewards", np.atleast_1d(rewards))
    if "next_observations" in record:
        path["next_observations"] = _arrays("next_observations", record["next_observations"])
    elif all(array.ndim and len(array) == n_steps + 1 for array in as_dict(observations).values()):
        path |= {"observations": _rows(observations, slice(-1)), "next_observations": _rows(observations, slice(1, None))}
    for name, value in path.items():
        for key, array in as_dict(value, name).items():
            if array.ndim == 0 or len(array) != n_steps:
                raise DemonstrationsError(f"{key}: found shape {array.shape}, expected {n_steps} rows as of actions")
    return path


def read_her(path: Path, trusted: bool, final_reward: float | None) -> Transitions:
    """
    :param path: A ``.npz`` with ``obs``, ``acs`` and ``info``
    :param trusted: Whether Python objects may be read
    :param final_reward: The file holds no rewards, see :func:`sb3_pgfd.demonstrations.editing.edit`
    :raises DemonstrationsError: If it is not trusted, or they do not fit together
    """
    if not isinstance(trusted, bool):
        raise DemonstrationsError(f"found trusted={trusted!r}, expected True or False")
    if not trusted:
        raise DemonstrationsError(
            "found OpenAI-HER's demonstrations (acs, obs, info), which are Python objects: reading them can run any code that "
            "was put there. Nothing was executed. If you wrote this file yourself, pass trusted=True (--option trusted=true)"
        )
    check_final_reward(final_reward, None)
    with np.load(path, allow_pickle=True) as archive:
        content = {name: list(archive[name]) for name in HER}
    if len({len(values) for values in content.values()}) != 1 or not content["obs"]:
        raise DemonstrationsError(f"found {[len(values) for values in content.values()]} episodes, expected as many of each")
    episodes, successes = [], []
    for number, (observations, actions, infos) in enumerate(
        zip(*(content[key] for key in ("obs", "acs", "info")), strict=True)
    ):
        with errors_naming(f"episode {number}"):
            stacked, rows = _stacked("obs", list(observations)), _stacked("acs", list(actions))
            episodes.append(Episode(stacked, np.asarray(rows), np.zeros(len(actions)), terminated=False))
            last = infos[-1] if len(infos) else {}
            told = last.get("is_success") if isinstance(last, Mapping) else None
            successes.append(None if told is None else bool(np.ravel(told)[0]))
    transitions = Transitions.from_episodes(episodes, {"producer": "imported from OpenAI-HER's demonstrations"})
    return transitions.changed(episode_info=known_of_all({"success": successes}))


def _array(name: str, value: Any) -> np.ndarray:
    return frozen(value, None, name)


def _arrays(name: str, value: Any, depth: int = 0) -> Observations:
    """:return: One array; of a dict, one for each key, nested ones as ``"outer/inner"``"""
    if not isinstance(value, Mapping):
        return _array(name, value)
    if not value or depth > _MAX_DEPTH:
        raise DemonstrationsError(
            f"{name}: found {'an empty dict' if not value else 'a dict of dicts'}, expected arrays by key"
        )
    arrays: dict[str, np.ndarray] = {}
    for key, item in value.items():
        inner = _arrays(f"{name}[{key!r}]", item, depth + 1)
        arrays |= (
            {f"{key}/{rest}": array for rest, array in inner.items()} if isinstance(inner, Mapping) else {str(key): inner}
        )
    return arrays


def _rows(observations: Observations, rows: slice) -> Observations:
    if isinstance(observations, Mapping):
        return {key: array[rows] for key, array in observations.items()}
    return observations[rows]


def _stacked(name: str, values: Sequence[Any]) -> Observations:
    """:return: One row for each value"""
    return _combined(name, [_arrays(f"{name}: step {step}", value) for step, value in enumerate(values)], np.stack)


def _joined(name: str, parts: Sequence[Observations]) -> Observations:
    """:return: The rows of all parts"""
    return _combined(name, parts, np.concatenate)


def _combined(name: str, parts: Sequence[Observations], combine: Any) -> Observations:
    keys = [list(part) if isinstance(part, Mapping) else None for part in parts]
    if any(key != keys[0] for key in keys):
        raise DemonstrationsError(f"{name}: found different keys, expected the same in each")
    if keys[0] is not None:
        return {key: np.asarray(_combined(f"{name}[{key!r}]", [part[key] for part in parts], combine)) for key in keys[0]}
    start = 0 if combine is np.stack else 1
    shapes = sorted({np.asarray(part).shape[start:] for part in parts})
    if len(shapes) != 1:
        raise DemonstrationsError(f"{name}: found shapes {shapes}, expected one")
    return combine(parts)
