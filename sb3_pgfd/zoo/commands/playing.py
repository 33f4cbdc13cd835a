"""What is changed in the RL Zoo's commands that play a trained agent."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from sb3_pgfd.demonstrations.inspection.replay import check_video_path, write_video
from sb3_pgfd.utils.screen import has_screen
from sb3_pgfd.zoo.environments import require_registered
from sb3_pgfd.zoo.errors import CommandError
from sb3_pgfd.zoo.replacing import replaced
from sb3_pgfd.zoo.saved_models import own_statistics

# Frames per second of environments that do not say
_FPS = 30


class Filmed(VecEnvWrapper):
    """
    Hands on a picture at each reset and after each step. Those of several environments are side by side.

    :param venv: Made to render ``rgb_array``
    :param add_frame: Takes one picture after the other
    """

    def __init__(self, venv: VecEnv, add_frame: Callable[[np.ndarray], None]):
        super().__init__(venv)
        self.add_frame = add_frame

    def reset(self) -> VecEnvObs:
        observations = self.venv.reset()
        self._film()
        return observations

    def step_wait(self) -> VecEnvStepReturn:
        step = self.venv.step_wait()
        self._film()
        return step

    def _film(self) -> None:
        frame = self.venv.render()
        if frame is None:
            raise CommandError("--video: found an environment that draws no pictures, expected render_mode 'rgb_array'")
        self.add_frame(frame)


def check_env(options: argparse.Namespace) -> None:
    """:raises CommandError: If there is no such environment"""
    require_registered(str(getattr(options.env, "gym_id", options.env)), options.gym_packages)


def check_enjoy(options: argparse.Namespace) -> None:
    """
    A video needs no window.

    :raises CommandError: If there is to be a window, and no screen
    :raises DemonstrationsError: If the video's name has another ending than ``.mp4``
    """
    check_env(options)
    if options.video is not None:
        check_video_path(options.video)
        options.no_render = True
    elif not (options.no_render or has_screen()):
        raise CommandError(
            "found no screen to show the agent on (neither DISPLAY nor WAYLAND_DISPLAY is set), expected one: --video "
            "FILE.mp4 films it, --no-render prints the numbers alone"
        )


@contextmanager
def filmed(options: argparse.Namespace) -> Iterator[None]:
    """
    Let ``rl_zoo3.enjoy`` film what it plays.

    :param options: With ``video``: a path, or None
    """
    import rl_zoo3.enjoy

    with ExitStack() as stack:
        stack.enter_context(own_statistics(rl_zoo3.enjoy))
        create_test_env = rl_zoo3.enjoy.create_test_env

        def create(env_id: str, *, env_kwargs: dict[str, Any], **keywords: Any) -> VecEnv:
            if options.video is None:
                return create_test_env(env_id, env_kwargs=env_kwargs, **keywords)
            env = create_test_env(env_id, env_kwargs={**env_kwargs, "render_mode": "rgb_array"}, **keywords)
            fps = env.get_attr("metadata", 0)[0].get("render_fps") or _FPS
            return Filmed(env, stack.enter_context(write_video(options.video, fps, overwrite=True)))

        stack.enter_context(replaced(rl_zoo3.enjoy, "create_test_env", create))
        yield
    if options.video is not None:
        print(f"Video: {options.video}")


@contextmanager
def configured_environments(_: argparse.Namespace) -> Iterator[None]:
    """
    Make environments with the arguments that their run's hyperparameters give them. ``enjoy`` does; the Zoo's other
    commands know those of the training's command line only.
    """
    import rl_zoo3.utils

    def create(env_id: str, *, env_kwargs: dict[str, Any], hyperparams: dict[str, Any], **keywords: Any) -> VecEnv:
        env_kwargs = {**hyperparams.get("env_kwargs", {}), **env_kwargs}
        return create_test_env(env_id, env_kwargs=env_kwargs, hyperparams=hyperparams, **keywords)

    with own_statistics(rl_zoo3.utils):
        create_test_env = rl_zoo3.utils.create_test_env
        with replaced(rl_zoo3.utils, "create_test_env", create):
            yield
