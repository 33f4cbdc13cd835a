"""What all commands share: the environments that they know without being told, and how they show errors."""

import argparse
import difflib
import importlib
import importlib.util
import os
import re
import sys
import traceback
import warnings
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import version

import gymnasium as gym

from sb3_pgfd.demonstrations import DemonstrationsError
from sb3_pgfd.environments import metaworld
from sb3_pgfd.utils.files import install
from sb3_pgfd.utils.run_folders import UntrustedFileError

# The environment variable that asks for the whole traceback
_TRACEBACK = "SB3_PGFD_TRACEBACK"
# What the RL Zoo, SB3 and environments raise for mistakes of a user
_MISTAKES = (AssertionError, ImportError, LookupError, OSError, TypeError, ValueError, gym.error.Error)

# Installs gymnasium-robotics and a mujoco that works with it
_INSTALL_ROBOTICS = install("robotics")
_ROBOTICS = re.compile(r"(Adroit|AntMaze|Fetch|FrankaKitchen|HandManipulate|HandReach|PointMaze)")
# Raised on import of gymnasium-robotics if it is not installed, or mujoco is not
_BROKEN = (ImportError, gym.error.Error)
_format_warning = warnings.formatwarning


class CommandError(Exception):
    """A mistake that the user can mend. The message says what was found, what was expected and how to mend it."""


class EndedRunError(Exception):
    """
    A signal ended a run or a search. The message says how to go on, if something was saved.

    :param signum: The signal
    """

    def __init__(self, message: str, signum: int):
        super().__init__(message)
        self.signum = signum


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
    Print an error in one line on standard error. Errors from within the learning, but those of demonstrations, and errors
    without a message need their traceback instead, and ``SB3_PGFD_TRACEBACK`` asks for it.

    :return: Whether it was printed. If not, raise it again
    """
    frames = traceback.extract_tb(error.__traceback__)
    text, explanation = " ".join(str(error).split()), explain(error)
    from_learning = any(frame.name == "learn" for frame in frames) and not isinstance(error, DemonstrationsError)
    if os.environ.get(_TRACEBACK) or from_learning or not (text or explanation):
        return False
    if isinstance(error, _network_errors()):
        text = f"the Hugging Face hub cannot be reached, or does not have this: {text}"
    if not isinstance(error, (CommandError, DemonstrationsError, UntrustedFileError)):
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
                return f"{found}, expected mujoco < 3.12: {_INSTALL_ROBOTICS}"
        cause = cause.__cause__ or cause.__context__
    return None


def print_warnings_plainly() -> None:
    """Print warnings to the user without the line of code that they come from, which says nothing to him."""
    warnings.formatwarning = _plain


def _plain(message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None) -> str:
    if issubclass(category, UserWarning):
        return f"Warning: {message}\n"
    return _format_warning(message, category, filename, lineno, line)


def stop_writing() -> None:
    """Stop when the reader of the output is gone, as after ``| head``. Python flushes once more when it exits."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def check_device(device: str) -> None:
    """:raises CommandError: If PyTorch cannot use it. Without a GPU, SB3 takes the CPU for ``cuda``"""
    import torch as th

    try:
        if device != "auto" and th.device(device).type != "cuda":
            th.empty(0, device=device).sum()
    except (AssertionError, NotImplementedError, RuntimeError) as error:
        why = str(error).splitlines()[0]
        raise CommandError(f"--device: found {device!r}, expected auto, cpu, cuda or cuda:<number> ({why})") from error


def register_environments() -> None:
    """Register the environments of gymnasium-robotics and our tasks of Meta-World, if installed. It may be called again."""
    # A broken installation matters to its own environments only
    with suppress(*_BROKEN):
        _import_robotics()
    if importlib.util.find_spec("metaworld") is not None:
        metaworld.register()


def _import_robotics() -> None:
    with suppress(ImportError):
        # On import the package prints a note about rarely used environments, into every command's output
        importlib.import_module("farama_notifications").notifications.pop("gymnasium_robotics", None)
    import gymnasium_robotics

    gym.register_envs(gymnasium_robotics)


def require_installed(env_id: object) -> None:
    """:raises ImportError: If an environment is one of gymnasium-robotics or Meta-World, which is not installed or broken"""
    if not isinstance(env_id, str) or env_id in gym.registry:
        return
    if env_id in metaworld.TASKS:
        library = f"a task of Meta-World, which is not installed: {metaworld.INSTALL_BENCHMARK}"
        raise ImportError(f"{env_id}: found no such environment, it is {library}")
    if _ROBOTICS.match(env_id):
        try:
            _import_robotics()
        except _BROKEN as error:
            library = f"one of gymnasium-robotics, which cannot be imported ({error}): {_INSTALL_ROBOTICS}"
            raise ImportError(f"{env_id}: found no such environment, it looks like {library}") from error


def import_packages(names: Sequence[str]) -> None:
    """
    :param names: Of packages that register environments; they may lie in the current folder
    :raises ImportError: If there is no such package
    :raises CommandError: If it is the name of a file
    """
    find_in_current_folder()
    for name in names:
        if name.endswith(".py"):
            raise CommandError(f"--gym-packages: found {name}, expected the name of a module: {name.removesuffix('.py')}")
        importlib.import_module(name)


def require_registered(env_id: str, packages: Sequence[str] = ()) -> None:
    """
    :param packages: Import them first: they may register it
    :raises ImportError, CommandError: If there is no such environment, see also :func:`require_installed`
    """
    import_packages(packages)
    # `module:Env-v0` imports that module when the environment is made
    if env_id in gym.registry or ":" in env_id:
        return
    require_installed(env_id)
    close = difflib.get_close_matches(env_id, gym.registry, n=1)
    meant = f", perhaps {close[0]}" if close else ""
    raise CommandError(
        f"--env {env_id}: found no such environment, expected one that is registered{meant}; --gym-packages imports packages "
        "that register others"
    )


def add_control_options(group: argparse._ArgumentGroup) -> None:
    """:param group: Gets the options of a person's keys and sticks"""
    group.add_argument("--scale", type=float, help="part of the action range for a full deflection, in (0, 1] (1)")
    group.add_argument("--keys", nargs="+", type=_key_pair, metavar="LESS,MORE", help="two keys for each action dimension")
    group.add_argument("--axes", nargs="+", metavar="AXIS", help="an axis for each action dimension; -1 is axis 1 reversed")


def _key_pair(text: str) -> tuple[str, str]:
    less, comma, more = text.partition(",")
    if not (less and comma and more):
        raise argparse.ArgumentTypeError(f"found {text!r}, expected two keys with a comma between: left,right")
    return less, more


def find_in_current_folder() -> None:
    """Make modules in the current folder importable, as ``python -m`` does. An installed command does not."""
    if not {"", os.getcwd()} & set(sys.path):
        sys.path.insert(0, os.getcwd())
