"""Pickles: the tutorials' list of tuples, or, if the file is trusted, a replay buffer as SB3 saves it."""

from pathlib import Path

from sb3_pgfd.demonstrations.dataset import Demonstrations
from sb3_pgfd.demonstrations.editing import DoneMeans
from sb3_pgfd.demonstrations.errors import DemonstrationsError
from sb3_pgfd.demonstrations.formats import sb3_buffer
from sb3_pgfd.demonstrations.formats.content import starts_with
from sb3_pgfd.demonstrations.formats.pickled_tuples import from_tuples
from sb3_pgfd.demonstrations.formats.unpickling import unpickle


def recognizes(path: Path) -> bool:
    """:param path: Whether this is a pickle of protocol 2 to 5"""
    return starts_with(path, b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


def read_pickle(
    path: Path, done_means: DoneMeans | None = None, trusted: bool = False, scaled_actions: bool | None = None
) -> Demonstrations:
    """
    :param path: A pickled list of ``(state, action, reward, next_state, done)``, or what ``model.save_replay_buffer`` wrote
    :param done_means: What ``done`` of the tuples marks: ``"truncated"`` for a time limit, ``"terminated"`` for a terminal
        state
    :param trusted: Whether you wrote the file yourself. Objects such as a replay buffer are read from such files alone, as
        reading them can run any code that was put there
    :param scaled_actions: Of a replay buffer, see :func:`~sb3_pgfd.demonstrations.formats.sb3_buffer.read_buffer`
    :raises DemonstrationsError: If the file holds anything else, or ``done_means`` is not named for tuples
    """
    content = unpickle(path, trusted)
    if sb3_buffer.recognizes(content):
        return sb3_buffer.read_buffer(content, scaled_actions)
    if scaled_actions is not None:
        raise DemonstrationsError(
            f"found scaled_actions={scaled_actions} for what is no replay buffer, expected none: "
            "action_low and action_high map actions to environment units"
        )
    return from_tuples(content, done_means)
