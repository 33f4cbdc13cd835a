"""Trained agents of the RL Zoo: load, show, film."""

import argparse
import re
import shutil
import zlib
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import torch as th
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.utils import FloatSchedule, set_random_seed
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from sb3_pgfd.demonstrations.inspection.replay import check_video_path, write_video
from sb3_pgfd.demonstrations.recording.session import success_of
from sb3_pgfd.utils.files import refuse_existing
from sb3_pgfd.utils.run_folders import plain, read_settings, require_trust
from sb3_pgfd.utils.screen import has_screen, progress
from sb3_pgfd.wrappers import leave_demonstrations, tell_monitor
from sb3_pgfd.zoo.command_line import CommandError, check_device

_UUID = "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
TRUST_HELP = "load files of another user: models and their statistics can run code when they are loaded"


def saved_with(model_path: str | Path, what: Literal["vecnormalize", "replay_buffer"]) -> Path:
    """
    :return: Path of a model's own ``VecNormalize`` statistics or replay buffer, as opposed to those of the end of its run:
        ``rl_model_vecnormalize_1000_steps.pkl`` of the checkpoint ``rl_model_1000_steps.zip`` (SB3's name), and
        ``best_model_vecnormalize.pkl`` of ``best_model.zip``. There need not be a file
    """
    path = Path(model_path)
    checkpoint = re.fullmatch(r"(.+)_(\d+)_steps", path.stem)
    name = f"{checkpoint[1]}_{what}_{checkpoint[2]}_steps" if checkpoint else f"{path.stem}_{what}"
    return path.parent / f"{name}.pkl"


def pickles_of(model_path: str | Path, settings: Path) -> list[Path]:
    """
    :param settings: The folder ``<run>/<environment>`` of the model's run
    :return: Files that run code when a model is loaded: pickles, and the settings, which name classes
    """
    of_settings = (settings / name for name in ("config.yml", "args.yml", "vecnormalize.pkl"))
    return [Path(model_path), saved_with(model_path, "vecnormalize"), *of_settings]


def load_without_buffer(algorithm: type[BaseAlgorithm], path: str | Path, **options: Any) -> BaseAlgorithm:
    """
    Load a model that is to act and not to learn: without memory for a replay buffer and without schedules, which another
    Python version may not be able to read. ``options`` are further arguments of ``load``.
    """
    zero = FloatSchedule(0.0)
    custom: dict[str, Any] = {"learning_rate": 0.0, "lr_schedule": zero, "clip_range": zero}
    if issubclass(algorithm, OffPolicyAlgorithm):
        custom |= {"replay_buffer_class": None, "replay_buffer_kwargs": {}, "optimize_memory_usage": False}
        options["buffer_size"] = 1
    return algorithm.load(path, custom_objects=custom, **options)


def read_run(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """
    :return: Hyperparameters of a run and arguments of its environment, from its folder ``<run>/<environment>``
    :raises CommandError: If it needs an object, which is not made of what a file says
    """
    settings, arguments = (
        read_settings(path) if (path := folder / name).is_file() else {} for name in ("config.yml", "args.yml")
    )
    # The rest is for training
    names = ("normalize", "frame_stack", "env_wrapper", "vec_env_wrapper", "demonstrations")
    try:
        hyperparams = {name: plain(settings[name], name) for name in names if name in settings}
        # args.yml has the environment's arguments of the command line, which replaced those of the entry
        env_kwargs = plain(arguments.get("env_kwargs") or settings.get("env_kwargs"), "env_kwargs")
    except ValueError as error:
        raise CommandError(f"{folder}: {error}") from error
    normalize = hyperparams.get("normalize", False)
    # The Zoo prints them
    hyperparams["normalize_kwargs"] = normalize if isinstance(normalize, dict) else {"norm_obs": normalize}
    hyperparams["normalize"] = isinstance(normalize, dict) or bool(normalize)
    return hyperparams, env_kwargs or {}


@dataclass(frozen=True)
class Agent:
    """A trained model and the environment that it acts in."""

    model: BaseAlgorithm
    model_path: Path
    env: VecEnv
    env_kwargs: dict[str, Any]
    deterministic: bool


def add_agent_arguments(parser: argparse.ArgumentParser) -> None:
    """:param parser: Gets the arguments of :func:`load_agent` besides ``--env`` and ``--algo``, named as in the Zoo"""
    parser.add_argument("-f", "--folder", default="logs", help="log folder")
    parser.add_argument("-n", "--n-timesteps", type=int, default=1000, help="number of steps (default: 1000)")
    parser.add_argument("--exp-id", type=int, default=0, help="number of the run (default: 0: latest, -1: no run folder)")
    parser.add_argument("--load-best", action="store_true", help="the best model of the run, not the last one")
    parser.add_argument("--load-checkpoint", type=int, metavar="STEPS", help="the checkpoint after so many steps")
    parser.add_argument("--load-last-checkpoint", action="store_true", help="the last checkpoint")
    parser.add_argument("--n-envs", type=int, default=1, help="number of environments, each in its own process")
    parser.add_argument("--deterministic", action="store_true", help="deterministic actions (default, except in Atari games)")
    parser.add_argument("--stochastic", action="store_true", help="stochastic actions")
    parser.add_argument("--no-render", action="store_true", help="do not draw the environment")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto", help="of PyTorch")
    parser.add_argument("--num-threads", type=int, default=-1, help="of PyTorch (default: -1: its own)")
    parser.add_argument("--trust", action="store_true", help=TRUST_HELP)
    parser.add_argument("--verbose", type=int, default=1)


def _model_of_run(options: argparse.Namespace) -> tuple[str, str]:
    """:return: The path of the model, and the folder of its run: the newest that has one, if none is named"""
    from rl_zoo3.utils import get_model_path

    which = (options.load_best, options.load_checkpoint, options.load_last_checkpoint)
    folders = [path for path in Path(options.folder, options.algo).glob(f"{options.env}_*") if path.is_dir()]
    pattern = re.compile(rf"{re.escape(options.env)}_([0-9]+)(_{_UUID})?")
    runs = {int(match[1]): path for path in folders if (match := pattern.fullmatch(path.name))}
    # The newest may have a model, but no best one or no such checkpoint: an older one would be another agent
    goes_back = options.exp_id == 0 and bool(runs) and not any(which)
    newest_first = sorted(runs, reverse=True)
    wanted = newest_first if goes_back else newest_first[:1] if options.exp_id == 0 and runs else [options.exp_id]
    errors = []
    for number in wanted:
        place = number, options.folder, options.algo
        if number in runs:
            # The Zoo does not know the names that --uuid gives, but takes a folder for one without runs in it
            place = -1, str(runs[number].parent), runs[number].name
        try:
            _, model_path, run = get_model_path(*place, options.env, *which)
        except (AssertionError, ValueError) as error:
            errors.append(error)
            continue
        if errors:
            print(f"Newer runs have no model, as after a search or an early end: {errors[0]}")
        return model_path, run
    if options.load_checkpoint is not None and wanted[0] in runs:
        raise CommandError(_no_checkpoint(runs[wanted[0]], options.load_checkpoint)) from errors[0]
    others = sorted(str(path) for path in Path(options.folder).glob("*/*_[0-9]*") if path.is_dir())
    found = sorted(map(str, runs.values())) or others
    there = f"found the runs {', '.join(found[:8])}" if found else f"found no runs in {options.folder}"
    expected = (
        f"expected a model in {options.folder}/{options.algo}/{options.env}_<number>: see --algo, --env, --exp-id and -f"
    )
    raise CommandError(f"{errors[0]}: {there}, {expected}") from errors[0]


def _no_checkpoint(run: Path, wanted: int) -> str:
    steps = sorted(int(match[1]) for path in run.iterdir() if (match := re.fullmatch(r"rl_model_(\d+)_steps\.zip", path.name)))
    if not steps:
        return f"--load-checkpoint: found no checkpoints in {run}, expected some: train with --save-freq STEPS"
    return f"--load-checkpoint: found {wanted}, expected a checkpoint of {run}: {', '.join(map(str, steps))}"


def load_agent(options: argparse.Namespace, reward_log: str | None = None) -> Agent:
    """
    Load a model and make the environment of its run, with the wrappers and the ``VecNormalize`` statistics that belong to
    this model. The Zoo takes the statistics of the end of the run for checkpoints and the best model too.

    :param options: With the arguments of :func:`add_agent_arguments`, ``env``, ``algo`` and ``env_kwargs``, which may have
        the ``render_mode``
    :param reward_log: Folder for the returns of its episodes
    """
    from rl_zoo3.exp_manager import ExperimentManager
    from rl_zoo3.utils import ALGOS, create_test_env

    check_device(options.device)
    model_path, run = _model_of_run(options)
    print(f"Loading {model_path}")
    set_random_seed(options.seed)
    if options.num_threads > 0:
        th.set_num_threads(options.num_threads)
    folder, own = Path(run, options.env), saved_with(model_path, "vecnormalize")
    require_trust(pickles_of(model_path, folder), options.trust)
    hyperparams, run_kwargs = read_run(folder)
    env_kwargs = {**run_kwargs, **(options.env_kwargs or {})}
    with TemporaryDirectory() as temporary:
        if own.is_file():
            print(f"VecNormalize statistics: {own}")
            # The Zoo looks for a file of this name
            shutil.copy(own, Path(temporary, "vecnormalize.pkl"))
        env = create_test_env(
            options.env.gym_id,
            n_envs=options.n_envs,
            seed=options.seed,
            log_dir=reward_log,
            env_kwargs=env_kwargs,
            stats_path=temporary if own.is_file() else str(folder),
            hyperparams=hyperparams,
            should_render=not options.no_render,
        )
    base: Any = env.unwrapped
    if isinstance(base, DummyVecEnv):
        base.envs = [tell_monitor(one) for one in base.envs]
    model = load_without_buffer(ALGOS[options.algo], model_path, seed=options.seed, device=options.device)
    is_visual = ExperimentManager.is_atari(options.env.gym_id) or ExperimentManager.is_minigrid(options.env.gym_id)
    deterministic = not options.stochastic and (options.deterministic or not is_visual)
    return Agent(model, Path(model_path), leave_demonstrations(env), env_kwargs, deterministic)


def play(
    agent: Agent, n_timesteps: int, show: Callable[[list[dict[str, Any]]], Any], show_progress: bool = False
) -> list[dict[str, Any]]:
    """
    :param n_timesteps: Steps in each environment
    :param show: Called after the reset and after each step, with the last infos of the episodes that it ended. What can be
        drawn then is the beginning of the next ones
    :return: The infos of the last steps of all finished episodes, each with SB3's ``episode``
    """
    observations: Any = agent.env.reset()
    show([])
    state: Any = None
    starts, finished = np.ones(agent.env.num_envs, dtype=bool), []
    # Ctrl-C ends the show, and what was seen so far counts
    with suppress(KeyboardInterrupt):
        for _ in progress(range(n_timesteps), show_progress, "Steps", "step"):
            actions, state = agent.model.predict(observations, state, starts, deterministic=agent.deterministic)
            observations, _, starts, infos = agent.env.step(actions)
            ended = [info for info in infos if "episode" in info]
            finished += ended
            show(ended)
    return finished


def film(agent: Agent, n_timesteps: int, path: Path, show_progress: bool = False) -> list[dict[str, Any]]:
    """Play and write a video (``.mp4``) of all environments beside each other. See :func:`play`."""
    with _write_video(agent, path) as add_frame:
        finished = play(agent, n_timesteps, lambda ended: add_frame(_picture(agent.env)), show_progress)
    print(f"Video: {path}")
    return finished


def film_failures(agent: Agent, n_timesteps: int, path: Path, show_progress: bool = False) -> list[dict[str, Any]]:
    """
    Play, and write a video of the finished episodes without success; none if there are none. See :func:`play`.

    :param agent: With one environment
    :raises CommandError: If the environment does not report ``is_success`` or ``success``
    """
    # Compressed, because the frames of an episode may take a gigabyte
    frames: list[bytes] = []
    add_frame: Callable[[np.ndarray], None] | None = None
    n_failures = 0
    with ExitStack() as video:

        def keep_failure(ended: list[dict[str, Any]]) -> None:
            nonlocal n_failures, add_frame
            picture = _picture(agent.env)
            if ended:
                succeeded = success_of(ended[0])
                if succeeded is None:
                    raise CommandError(
                        "--failures: found neither 'is_success' nor 'success' in the last info of an episode, expected one of "
                        "them: sb3_pgfd.wrappers.ReportSuccess takes it from another key"
                    )
                if not succeeded:
                    n_failures += 1
                    add_frame = add_frame or video.enter_context(_write_video(agent, path))
                    for frame in frames:
                        add_frame(np.frombuffer(zlib.decompress(frame), np.uint8).reshape(picture.shape))
                frames.clear()
            frames.append(zlib.compress(picture.tobytes(), 1))

        finished = play(agent, n_timesteps, keep_failure, show_progress)
    print(f"{n_failures} of {len(finished)} episodes failed{f', video: {path}' if n_failures else ', no video'}")
    return finished


def _show(env: VecEnv) -> None:
    try:
        env.render("human")
    except ImportError as error:
        if error.name != "cv2":
            raise
        # SB3 shows pictures that environments draw with it
        raise CommandError(f"found {error}, expected OpenCV: pip install opencv-python, or --video FILE.mp4") from error


def _picture(env: VecEnv) -> np.ndarray:
    picture = env.render()
    if picture is None:
        raise CommandError("found an environment that draws no pictures, expected render_mode 'rgb_array'")
    return picture


def _write_video(agent: Agent, path: Path) -> AbstractContextManager[Callable[[np.ndarray], None]]:
    return write_video(path, agent.env.get_attr("metadata", 0)[0].get("render_fps") or 30, overwrite=True)


def enjoy(options: argparse.Namespace) -> None:
    """
    Show or film an agent, and print the returns of its episodes.

    :raises CommandError: If a window is needed and there is no screen, or ``failures`` cannot be filmed
    :raises FileExistsError: If there is a video of this name and ``force`` is not given
    :raises DemonstrationsError: If the video's name does not end with ``.mp4``
    """
    if options.n_envs < 1:
        raise CommandError(f"--n-envs: found {options.n_envs}, expected at least 1")
    if options.failures and (options.video is None or options.n_envs != 1):
        found = "no --video" if options.video is None else f"--n-envs {options.n_envs}"
        raise CommandError(f"--failures: found {found}, expected --video FILE.mp4 and one environment")
    if options.video is not None:
        check_video_path(options.video)
        refuse_existing(options.video, options.force)
        options.env_kwargs = {**(options.env_kwargs or {}), "render_mode": "rgb_array"}
    elif not (options.no_render or has_screen()):
        raise CommandError(
            "found no screen to show the agent on (neither DISPLAY nor WAYLAND_DISPLAY is set), expected one: --video "
            "FILE.mp4 films it, --no-render prints the numbers alone"
        )
    agent = load_agent(options, options.reward_log or None)
    if options.video is not None:
        record = film_failures if options.failures else film
        finished = record(agent, options.n_timesteps, options.video, options.progress)
    else:

        def show(ended: list[dict[str, Any]]) -> None:
            if not options.no_render:
                _show(agent.env)

        finished = play(agent, options.n_timesteps, show, options.progress)
    agent.env.close()
    if options.verbose > 0 and finished:
        _print_episodes(finished)
    elif options.verbose > 0:
        print(f"No episode has ended within {options.n_timesteps:,} steps: -n makes it longer")


def _print_episodes(finished: list[dict[str, Any]]) -> None:
    returns, lengths = ([float(info["episode"][key]) for info in finished] for key in ("r", "l"))
    for episode_return, length in zip(returns, lengths, strict=True):
        print(f"Episode Reward: {episode_return:.2f}\nEpisode Length {length:.0f}")
    successes = [success for success in map(success_of, finished) if success is not None]
    if successes:
        print(f"Success rate: {100 * np.mean(successes):.2f}%")
    print(f"{len(finished)} Episodes")
    print(f"Mean reward: {np.mean(returns):.2f} +/- {np.std(returns):.2f}")
    print(f"Mean episode length: {np.mean(lengths):.2f} +/- {np.std(lengths):.2f}")
