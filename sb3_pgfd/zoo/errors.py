"""Errors of the commands, and how they are shown."""

import os
import sys
import traceback
from importlib.metadata import version

import gymnasium as gym

from sb3_pgfd.demonstrations import DemonstrationsError

# The environment variable that asks for the whole traceback
_TRACEBACK = "SB3_PGFD_TRACEBACK"

INSTALL_ROBOTICS = "pip install sb3-pgfd[robotics]"
"""Installs gymnasium-robotics and a mujoco that works with it"""

# What the RL Zoo, SB3 and environments raise for mistakes of a user
_MISTAKES = (AssertionError, ImportError, LookupError, OSError, TypeError, ValueError, gym.error.Error)


class CommandError(Exception):
    """A mistake that the user can mend. The message says what was found, what was expected and how to mend it."""


def expected_errors() -> tuple[type[BaseException], ...]:
    """:return: What a command may raise for a mistake of the user or a network that is down"""
    return (*_MISTAKES, CommandError, *_network_errors())


def _network_errors() -> tuple[type[BaseException], ...]:
    try:
        from huggingface_hub import errors
    except ImportError:
        return ()
    # Versions of the hub's library use different HTTP libraries, whose errors have these bases
    libraries = [base for base in errors.HfHubHTTPError.__bases__ if base is not OSError]
    return (*libraries, errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled)


def report(error: BaseException, command: str) -> bool:
    """
    Print an error in one line on standard error. Errors from within the learning and errors without a message need their
    traceback instead, and ``SB3_PGFD_TRACEBACK`` asks for it.

    :return: Whether it was printed. If not, raise it again
    """
    frames = traceback.extract_tb(error.__traceback__)
    text, explanation = " ".join(str(error).split()), explain(error)
    if os.environ.get(_TRACEBACK) or any(frame.name == "learn" for frame in frames) or not (text or explanation):
        return False
    if isinstance(error, _network_errors()):
        text = f"the Hugging Face hub cannot be reached, or does not have this: {text}"
    if not isinstance(error, (CommandError, DemonstrationsError)):
        text += f" ({type(error).__name__} in {frames[-1].filename}:{frames[-1].lineno}; {_TRACEBACK}=1 shows all of it)"
    print(f"sb3-pgfd {command}: {explanation or text}", file=sys.stderr)
    return True


def explain(error: BaseException) -> str | None:
    """:return: The reason and the remedy of an error that an environment raised or caused, if they are known"""
    cause: BaseException | None = error
    while cause is not None:
        frames = traceback.extract_tb(cause.__traceback__)
        is_bare = isinstance(cause, AssertionError) and not str(cause)
        if is_bare and frames and "gymnasium_robotics" in frames[-1].filename:
            mujoco, robotics = version("mujoco"), version("gymnasium-robotics")
            if [int(part) for part in mujoco.split(".")[:2]] >= [3, 12]:
                found = f"found mujoco {mujoco}, with which gymnasium-robotics {robotics} cannot make this environment"
                return f"{found}, expected mujoco < 3.12: {INSTALL_ROBOTICS}"
        cause = cause.__cause__ or cause.__context__
    return None


def stop_writing() -> None:
    """Stop when the reader of the output is gone, as after ``| head``. Python flushes once more when it exits."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
