"""Learning ends between two steps of the environment: signals wait, and a step that a callback ends is completed."""

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import FrameType
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import SubprocVecEnv, VecEnv, VecEnvWrapper

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class Interrupted(KeyboardInterrupt):
    """
    A signal ended learning between two steps.

    :param signum: The signal
    """

    def __init__(self, signum: int):
        super().__init__(f"learning was ended by {signal.Signals(signum).name}")
        self.signum = signum


class DeferredSignals:
    """
    A context in which signals wait until :meth:`check`. The second one ends the program at once. A signal that has a handler
    of the user's keeps it, and outside the main thread nothing changes.

    :param signals: Which ones
    """

    def __init__(self, signals: list[signal.Signals]):
        self.signals = signals
        self._pending: int | None = None
        self._replaced: dict[int, Any] = {}

    def __enter__(self) -> "DeferredSignals":
        if threading.current_thread() is threading.main_thread():
            for signum in self.signals:
                if signal.getsignal(signum) in (signal.SIG_DFL, signal.default_int_handler):
                    self._replaced[signum] = signal.signal(signum, self._receive)
        return self

    def __exit__(self, *exception: object) -> None:
        for signum, handler in self._replaced.items():
            signal.signal(signum, handler)

    def _receive(self, signum: int, frame: FrameType | None) -> None:
        if self._pending is not None:
            raise Interrupted(signum)
        self._pending = signum
        # An evaluation may take minutes. A signal that comes while something is printed cannot print, nor can one that comes
        # because the terminal is gone
        with suppress(RuntimeError, OSError, ValueError):
            name = signal.Signals(signum).name
            print(f"{name}: learning ends after this step, or this evaluation; once more ends it at once", file=sys.stderr)

    def check(self) -> None:
        """:raises Interrupted: If a signal came"""
        if self._pending is not None:
            raise Interrupted(self._pending)


class WholeSteps:
    """
    Stands between SB3's ``collect_rollouts`` and a callback, which SB3 calls after a step was taken and before it is stored.
    If the callback ends learning there, by False or by an exception, the step is completed first.

    :param callback: The callback
    :param finish: Completes a step, given the local variables of ``collect_rollouts``
    """

    def __init__(self, callback: BaseCallback, finish: Callable[[dict[str, Any]], None]):
        self._callback, self._finish = callback, finish
        self._locals: dict[str, Any] = {}
        self.raised = False
        """Whether the callback raised an exception, and not the environment or the model"""

    def update_locals(self, values: dict[str, Any]) -> None:
        """cf ``BaseCallback``"""
        self._locals = values
        self._callback.update_locals(values)

    def on_rollout_start(self) -> None:
        """cf ``BaseCallback``"""
        self._call(self._callback.on_rollout_start)

    def on_rollout_end(self) -> None:
        """cf ``BaseCallback``"""
        self._call(self._callback.on_rollout_end)

    def on_step(self) -> bool:
        """cf ``BaseCallback``"""
        go_on = False
        try:
            go_on = self._call(self._callback.on_step)
        finally:
            if not go_on:
                # The buffer refuses a step that is not finite: then it is the environment's fault
                raised, self.raised = self.raised, False
                self._finish(self._locals)
                self.raised = raised
        return go_on

    def _call(self, function: Callable[[], Any]) -> Any:
        self.raised = True
        result = function()
        self.raised = False
        return result


def walk_callbacks(callback: Any, path: str = "callback") -> Iterator[tuple[str, BaseCallback]]:
    """:return: A callback and those inside it, each with its place"""
    if isinstance(callback, BaseCallback):
        yield path, callback
        for name, value in vars(callback).items():
            if name != "parent":
                yield from walk_callbacks(value, f"{path}.{name}")
    elif isinstance(callback, (list, tuple)):
        for index, item in enumerate(callback):
            yield from walk_callbacks(item, f"{path}[{index}]")


def subprocesses(env: VecEnv | None) -> SubprocVecEnv | None:
    """:return: The environments in processes of their own under some wrappers, if they are"""
    while isinstance(env, VecEnvWrapper):
        env = env.venv
    return env if isinstance(env, SubprocVecEnv) else None


class _WatchedPipe:
    """
    The pipe to a process, which notices that the process has ended. By itself it would not where processes are forked,
    because each holds copies of the pipes of the others.
    """

    def __init__(self, pipe: Any, process: Any):
        self._pipe, self._process = pipe, process
        self.send, self.close, self.poll, self.fileno = pipe.send, pipe.close, pipe.poll, pipe.fileno

    def recv(self) -> Any:
        """:raises EOFError: If nothing comes any more"""
        while not self._pipe.poll(1.0):
            if not self._process.is_alive() and not self._pipe.poll():
                raise EOFError(f"{self._process.name} has ended")
        return self._pipe.recv()


def watch_processes(env: VecEnv | None) -> None:
    """Let the environments of a ``SubprocVecEnv`` be missed when their process ends."""
    processes = subprocesses(env)
    if processes is not None:
        both = zip(processes.remotes, processes.processes, strict=True)
        processes.remotes = tuple(pipe if isinstance(pipe, _WatchedPipe) else _WatchedPipe(pipe, one) for pipe, one in both)


def release_broken(env: VecEnv | None) -> str | None:
    """
    SB3's ``close()`` waits for ever for the answers of environments whose neighbour has died. After this it does not.

    :param env: Whose pipe broke
    :return: Which of its processes have ended and how; None if none has
    """
    processes = subprocesses(env)
    if processes is None:
        return None
    # A pipe breaks a moment before the process is gone
    for process in processes.processes:
        process.join(timeout=0.2)
    ended = {i: process.exitcode for i, process in enumerate(processes.processes) if process.exitcode is not None}
    if not ended:
        return None
    for process in processes.processes:
        process.terminate()
    for process in processes.processes:
        process.join()
    for remote in processes.remotes:
        remote.close()
    processes.waiting, processes.closed = False, True
    return ", ".join(f"environment {i} {_how(code)}" for i, code in ended.items())


def _how(exit_code: int) -> str:
    if exit_code < 0:
        return f"was killed by {signal.Signals(-exit_code).name}"
    return f"ended with code {exit_code}; its traceback is above" if exit_code else "ended"
