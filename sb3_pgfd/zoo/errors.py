"""What a command says when it cannot do its work."""

import os
import sys
import traceback
from importlib.metadata import version

import gymnasium as gym

from sb3_pgfd.demonstrations import DemonstrationsError

TRACEBACK = "SB3_PGFD_TRACEBACK"
"""Name of the environment variable that asks for the whole traceback"""

INSTALL_ROBOTICS = "pip install sb3-pgfd[robotics]"
"""What brings gymnasium-robotics, and a mujoco that works with it"""

# What the RL Zoo, SB3 and environments raise for mistakes of a user
_MISTAKES = (AssertionError, ImportError, LookupError, OSError, TypeError, ValueError, gym.error.Error)


class CommandError(Exception):
    """What the user can mend. The message names what was found, what was expected and how to mend it."""


def expected_errors() -> tuple[type[BaseException], ...]:
    """
    :return: What a command may raise for a mistake of the user, or a network that is down
    """
    return (*_MISTAKES, CommandError, *_network_errors())


def _network_errors() -> tuple[type[BaseException], ...]:
    try:
        from huggingface_hub import errors
    except ImportError:
        return ()
    # The HTTP library depends on the version, and with it the class that its errors have in common
    libraries = [base for base in errors.HfHubHTTPError.__bases__ if base is not OSError]
    return (*libraries, errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled)


def report(error: BaseException, command: str) -> bool:
    """
    Print one line on standard error, if that tells enough. Errors from within the learning, and those without a message,
    need their traceback, and so does whoever sets ``SB3_PGFD_TRACEBACK``.

    :param error: What was raised
    :param command: Name of the command
    :return: Whether it was printed; if not it should be raised again
    """
    frames = traceback.extract_tb(error.__traceback__)
    text, explanation = " ".join(str(error).split()), explain(error)
    if isinstance(error, _network_errors()):
        text = f"the Hugging Face hub cannot be reached, or has no such thing: {text}"
        text += " (--no-hub needs no network)" if command == "benchmark" else ""
    is_ours = isinstance(error, (CommandError, DemonstrationsError))
    if os.environ.get(TRACEBACK) or any(frame.name == "learn" for frame in frames) or not (text or explanation):
        return False
    if not is_ours:
        text += f" ({type(error).__name__} in {frames[-1].filename}:{frames[-1].lineno}; {TRACEBACK}=1 shows all of it)"
    print(f"sb3-pgfd {command}: {explanation or text}", file=sys.stderr)
    return True


def explain(error: BaseException) -> str | None:
    """
    :param error: What was raised by an environment, or by what was raised because of it
    :return: The reason and the remedy, if they are known
    """
    cause: BaseException | None = error
    while cause is not None:
        frames = traceback.extract_tb(cause.__traceback__)
        is_bare = isinstance(cause, AssertionError) and not str(cause)
        if is_bare and frames and "gymnasium_robotics" in frames[-1].filename and _mujoco_is_too_new():
            return (
                f"found mujoco {version('mujoco')}, with which gymnasium-robotics {version('gymnasium-robotics')} cannot "
                f"make this environment, expected mujoco < 3.12: {INSTALL_ROBOTICS}"
            )
        cause = cause.__cause__ or cause.__context__
    return None


def _mujoco_is_too_new() -> bool:
    major, minor = version("mujoco").split(".")[:2]
    return (int(major), int(minor)) >= (3, 12)


def stop_writing() -> None:
    """Who reads the output has seen enough, as ``| head`` has. Python flushes once more when it exits."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
