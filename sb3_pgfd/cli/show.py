"""``sb3-pgfd demos show``: look at demonstrations before learning from them."""

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import closing, redirect_stdout
from typing import Any

import gymnasium as gym

from sb3_pgfd.cli.arguments import add_environment_options, add_source_options, import_packages, picture_path, source_options
from sb3_pgfd.cli.replay_text import replay_text
from sb3_pgfd.cli.summary_text import summary_text
from sb3_pgfd.demonstrations import Demonstrations, DemonstrationsError
from sb3_pgfd.demonstrations.environment import make_env, recorded_env
from sb3_pgfd.demonstrations.inspection.plots import check_picture_path, plot_demonstrations
from sb3_pgfd.demonstrations.inspection.replay import ReplayedEpisode, check_video_path, replay, write_video
from sb3_pgfd.demonstrations.inspection.summary import summarize
from sb3_pgfd.utils.files import refuse_existing
from sb3_pgfd.utils.screen import draw_without_screen
from sb3_pgfd.zoo.environments import find_in_current_folder, register_environments, require_installed

# Frames per second of environments that do not say
_FPS = 30


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """:param subparsers: Where to add the command"""
    parser = subparsers.add_parser("show", help="print what is in demonstrations, and what is suspicious about them")
    parser.add_argument("source", help="a file, a folder, the name of packaged demonstrations or minari:ID")
    parser.add_argument(
        "--plot", type=picture_path, metavar="FILE", help="draw returns, lengths, actions and states, e.g. to out.png"
    )
    parser.add_argument("--replay", action="store_true", help="play the actions back, and say how far observations drift")
    parser.add_argument("--video", type=picture_path, metavar="FILE", help="film the replay, e.g. to out.mp4")
    parser.add_argument("--video-episodes", type=int, default=3, metavar="N", help="film the first N episodes (3)")
    parser.add_argument("--force", action="store_true", help="replace pictures and videos that are there")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_environment_options(parser)
    add_source_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """:param args: With the arguments above"""
    _check_outputs(args)
    if args.video is not None:
        draw_without_screen()
    # Libraries greet on standard output, which is for the result
    with redirect_stdout(sys.stderr):
        if args.gym_packages:
            find_in_current_folder()
            import_packages(args.gym_packages)
        demonstrations = Demonstrations.load(args.source, **source_options(args))
        result, texts = _look(demonstrations, args)
    print(json.dumps(result, allow_nan=False) if args.json else "\n\n".join(texts))


def _check_outputs(args: argparse.Namespace) -> None:
    """Before the work, so that nobody waits for a refusal."""
    if args.plot is not None:
        check_picture_path(args.plot, args.force)
    if args.video is not None:
        check_video_path(args.video)
        refuse_existing(args.video, args.force)


def _look(demonstrations: Demonstrations, args: argparse.Namespace) -> tuple[dict[str, Any], list[str]]:
    """:return: For programs and for people"""
    replayed: list[ReplayedEpisode] = []
    space, env_name = None, ""
    if args.replay or args.video or args.env:
        with closing(_make_env(demonstrations, args)) as env:
            space, env_name = env.action_space, env.spec.id if env.spec else args.env
            if args.video:
                replayed += _film(demonstrations, env, args)
            if args.replay:
                replayed += replay(demonstrations, env, range(len(replayed), demonstrations.n_episodes))
    summary = summarize(demonstrations, space)
    result = {**summary.to_json(), "replay": [episode.to_json() for episode in replayed], "plot": None, "video": None}
    texts = [summary_text(summary)]
    if replayed:
        texts.append(replay_text(replayed, env_name))
    if args.video:
        result["video"] = str(args.video)
        texts.append(f"video: {args.video}")
    if args.plot:
        result["plot"] = str(plot_demonstrations(demonstrations, args.plot, space, args.force))
        texts.append(f"picture: {args.plot}")
    return result, texts


def _make_env(demonstrations: Demonstrations, args: argparse.Namespace) -> gym.Env:
    register_environments()
    require_installed(args.env or demonstrations.metadata.get("env_id"))
    render_mode = "rgb_array" if args.video else None
    if args.env is not None:
        return make_env(args.env, dict(args.env_kwargs), render_mode)
    return recorded_env(demonstrations, dict(args.env_kwargs), render_mode)


def _film(demonstrations: Demonstrations, env: gym.Env, args: argparse.Namespace) -> Sequence[ReplayedEpisode]:
    episodes = range(min(args.video_episodes, demonstrations.n_episodes))
    with write_video(args.video, env.metadata.get("render_fps") or _FPS, args.force) as add_frame:
        replayed = replay(demonstrations, env, episodes, add_frame)
        if replayed and not any(episode.reached_start for episode in replayed):
            raise DemonstrationsError(
                f"{args.video}: found no episode among the first {len(replayed)} that can be brought to its recorded start, "
                "expected one to film: see --replay"
            )
    return replayed
