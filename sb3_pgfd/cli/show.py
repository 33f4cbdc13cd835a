"""``sb3-pgfd demos show``: print, plot, replay and film demonstrations."""

import argparse
import json
import sys
import textwrap
from collections.abc import Sequence
from contextlib import closing, redirect_stdout
from dataclasses import asdict
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from sb3_pgfd.cli.arguments import SOURCE, add_environment_options, add_load_options, load_options
from sb3_pgfd.cli.output import WIDTH, more, number, paragraph, table
from sb3_pgfd.demonstrations import Demonstrations, DemonstrationsError
from sb3_pgfd.demonstrations.environment import make_env, recorded_env
from sb3_pgfd.demonstrations.inspection.features import FeatureRanking, rank_pairs
from sb3_pgfd.demonstrations.inspection.plots import check_picture_path, plot_demonstrations
from sb3_pgfd.demonstrations.inspection.replay import DRIFT_THRESHOLD, ReplayedEpisode, check_video_path, replay, write_video
from sb3_pgfd.demonstrations.inspection.summary import ActionSummary, ObservationSummary, Range, Summary, summarize
from sb3_pgfd.demonstrations.recording.camera import CameraObservation
from sb3_pgfd.utils.files import refuse_existing
from sb3_pgfd.utils.screen import draw_without_screen
from sb3_pgfd.zoo.command_line import import_packages, register_environments, require_installed

# Frames per second if the environment does not say
_FPS = 30
# Rows of a table, and different discrete actions in a line; the rest is counted
_MAX_EPISODES, _MAX_REPLAYED, _MAX_COMPONENTS, _MAX_COUNTED, _MAX_RANKED = 5, 8, 10, 10, 6


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """:param subparsers: Subcommands of ``demos``"""
    parser = subparsers.add_parser("show", help="print a summary of demonstrations, with warnings")
    parser.add_argument("source", help=SOURCE)
    parser.add_argument("--plot", type=Path, metavar="FILE", help="plot returns, lengths, actions and states, e.g. to out.png")
    parser.add_argument("--replay", action="store_true", help="replay the actions and print how far observations drift")
    parser.add_argument("--video", type=Path, metavar="FILE", help="film the replay, e.g. to out.mp4")
    parser.add_argument("--video-episodes", type=int, default=3, metavar="N", help="film the first N episodes (3)")
    text = "rank pairs of positions, of N entries (3), by how much their difference helps a clone on held-out episodes"
    parser.add_argument("--features", type=int, nargs="?", const=3, metavar="N", help=text)
    parser.add_argument("--force", action="store_true", help="replace existing pictures and videos")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_environment_options(parser)
    add_load_options(parser)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> None:
    if args.plot is not None:
        check_picture_path(args.plot, args.force)
    if args.features is not None and args.features < 1:
        raise DemonstrationsError(f"--features: found {args.features}, expected at least 1 entry")
    if args.video is not None:
        check_video_path(args.video)
        refuse_existing(args.video, args.force)
        draw_without_screen()
    # Some libraries print a greeting on standard output, which is for the result
    with redirect_stdout(sys.stderr):
        import_packages(args.gym_packages)
        demonstrations = Demonstrations.load(args.source, **load_options(args))
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
        ranking = None if args.features is None else rank_pairs(demonstrations, args.features)
        if args.plot:
            plot_demonstrations(demonstrations, args.plot, space, args.force)
    files = {name: str(path) if path else None for name, path in (("plot", args.plot), ("video", args.video))}
    if args.json:
        result = {**asdict(summary), "replay": [episode.to_json() for episode in replayed], **files}
        result["features"] = None if ranking is None else asdict(ranking)
        print(json.dumps(result, allow_nan=False))
        return
    # Whoever asks for more has seen the summary; its end are the warnings
    shown = _summary_blocks(summary)
    blocks = [shown[0], shown[-1]] if replayed or ranking else shown
    blocks += [_replay_block(replayed, env_name)] if replayed else []
    blocks += [] if ranking is None else [_features_block(ranking)]
    blocks += [[f"{name}: {path}"] for name, path in files.items() if path]
    if args.video and args.video_episodes < summary.n_episodes:
        blocks[-1].append(f"  the first {args.video_episodes} of {summary.n_episodes} episodes, --video-episodes films more")
    print("\n\n".join("\n".join(lines) for lines in blocks))


def _make_env(demonstrations: Demonstrations, args: argparse.Namespace) -> gym.Env:
    register_environments()
    require_installed(args.env or demonstrations.metadata.get("env_id"))
    camera = demonstrations.metadata.get("camera")
    options: Any = dict(args.env_kwargs), None if camera is None and not args.video else "rgb_array"
    env = make_env(args.env, *options) if args.env is not None else recorded_env(demonstrations, *options)
    # As record(camera=...) does
    return env if camera is None else CameraObservation(env, camera)


def _film(demonstrations: Demonstrations, env: gym.Env, args: argparse.Namespace) -> Sequence[ReplayedEpisode]:
    episodes = range(min(args.video_episodes, demonstrations.n_episodes))
    with write_video(args.video, env.metadata.get("render_fps") or _FPS, args.force) as add_frame:
        replayed = replay(demonstrations, env, episodes, add_frame)
        if replayed and not any(episode.reached_start for episode in replayed):
            raise DemonstrationsError(
                f"{args.video}: found no episode among the first {len(replayed)} whose recorded start the environment can "
                "reach, expected at least one to film: see --replay"
            )
    return replayed


def _summary_blocks(summary: Summary) -> list[list[str]]:
    """:return: About 40 lines if there are no warnings"""
    heading = [
        f"{summary.source or 'demonstrations'}: {summary.n_episodes:,} episodes, {summary.n_transitions:,} transitions",
        f"  environment  {summary.env_id or 'unknown'}",
        f"  producer     {textwrap.shorten(summary.producer or 'unknown', WIDTH - 15, placeholder=' ...')}",
        f"  success      {number(summary.success_rate, '{:.0%} of the episodes', 'unknown')}",
        f"  ends         {summary.n_terminated:,} terminated, {summary.n_truncated:,} truncated",
    ]
    spreads = [["", "mean", "std", "min", "25 %", "median", "75 %", "max"]]
    for name, spread in (("length", summary.lengths), ("return", summary.returns)):
        keys = ("mean", "std", "min", "lower_quartile", "median", "upper_quartile", "max")
        spreads.append([name, *(number(spread[key]) for key in keys)])
    episodes = [["episode", "length", "return", "success", "end"]]
    for i, episode in enumerate(summary.episodes[:_MAX_EPISODES]):
        success = {None: "?", True: "yes", False: "no"}[episode.success]
        episodes.append([str(i), str(episode.length), number(episode.episode_return), success, episode.end])
    warnings = [line for warning in summary.warnings for line in paragraph(warning, "  * ")]
    return [
        heading,
        table(spreads, left=(0,)),
        [*table(episodes, left=(4,)), *more(summary.n_episodes - _MAX_EPISODES, "episodes")],
        _observations(summary.observations),
        _actions(summary.actions),
        ["Warnings", *warnings] if warnings else ["No warnings."],
    ]


def _observations(observations: Sequence[ObservationSummary]) -> list[str]:
    first = observations[0]
    if len(observations) == 1 and isinstance(first.low, list):
        rows = [["observation", "min", "max"], *_ranges(first.low, first.high)]
        lines = table(rows[: _MAX_COMPONENTS + 1])
        lines[0] += f"   {_kind(first)}"
        return [*lines, *more(len(rows) - 1 - _MAX_COMPONENTS, "components")]
    rows = [["observation", "min", "max", ""]]
    for item in observations[:_MAX_COMPONENTS]:
        rows.append([item.key or "", *_overall(item.low, item.high), f" {_kind(item)}"])
    lines = [*table(rows, left=(0, 3)), *more(len(observations) - _MAX_COMPONENTS, "keys")]
    if any(isinstance(item.low, list) and len(item.low) > 1 for item in observations):
        lines.append("  ... one range for each key, --json has that of each component")
    return lines


def _actions(actions: ActionSummary) -> list[str]:
    kind = f"   {_kind(actions, ', ' + (actions.space or 'action space unknown'))}"
    if actions.counts is not None:
        counts = [f"{action}: {count:,}" for action, count in actions.counts.items()]
        taken = paragraph("taken " + ", ".join(counts[:_MAX_COUNTED]), "    ")
        return [f"  actions{kind}", *taken, *more(len(counts) - _MAX_COUNTED, "actions")]
    rows = [["action", "min", "max", "low", "high", "at a bound"], *_ranges(actions.low, actions.high)]
    n_components = len(rows) - 1
    known = ((actions.space_low, "{:.4g}"), (actions.space_high, "{:.4g}"), (actions.saturated, "{:.1%}"))
    for i, row in enumerate(rows[1:]):
        row += [number(None if values is None else values[i], form) for values, form in known]
    if n_components > 1:
        rows = [*rows[: _MAX_COMPONENTS + 1], ["all", "", "", "", "", number(actions.saturated_overall, "{:.1%}")]]
    lines = table(rows)
    lines[0] += kind
    return [*lines, *more(n_components - _MAX_COMPONENTS, "components")]


def _ranges(low: Range, high: Range) -> list[list[str]]:
    if not isinstance(low, list) or not isinstance(high, list):
        return [["all", *_overall(low, high)]]
    return [[str(i), number(a), number(b)] for i, (a, b) in enumerate(zip(low, high, strict=True))]


def _overall(low: Range, high: Range) -> list[str]:
    return [number(float(np.min(low))), number(float(np.max(high)))] if np.size(low) else ["-", "-"]


def _kind(item: ObservationSummary | ActionSummary, end: str = "") -> str:
    return f"({item.dtype}, {'shape ' + 'x'.join(map(str, item.shape)) if item.shape else 'one number'}{end})"


def _features_block(ranking: FeatureRanking) -> list[str]:
    rows = [["error", "differences"], [number(ranking.error, "{:.3f}"), "none"]]
    for found in ranking.ranked[:_MAX_RANKED]:
        rows.append([number(found.error, "{:.3f}"), json.dumps(found.names())])
    lines = [
        "Error of small clones on held-out episodes, as a share of the actions' variance",
        *table(rows, left=(1,)),
        *more(len(ranking.ranked) - _MAX_RANKED, "proposals"),
    ]
    if ranking.n_left_out:
        lines += paragraph(
            f"{ranking.n_left_out} more pairs of positions were not tried, because they come less near each other."
        )
    if ranking.proposed is None:
        where = "come near each other" if not ranking.ranked else "help"
        others = {2: "; --features 2 looks in a plane", 3: "; --features 3 looks in space"}
        other = next((words for size, words in others.items() if size != ranking.size and size <= ranking.width), "")
        return [*lines, f"  No positions of {ranking.size} entries were found that {where}{other}."]
    kwargs = {"pairs": ranking.proposed.names(), "size": ranking.size, "scale": ranking.scale}
    return [
        *lines,
        "In the entry of a yaml file:",
        "  policy_kwargs:",
        "    features_extractor_class: sb3_pgfd.extractors.RelativePositions",
        f"    features_extractor_kwargs: {json.dumps(kwargs)}",
        "In Python, with `from sb3_pgfd.extractors import RelativePositions`:",
        "  policy_kwargs=dict(",
        "      features_extractor_class=RelativePositions,",
        f"      features_extractor_kwargs={kwargs!r},",
        "  )",
    ]


def _replay_block(replayed: Sequence[ReplayedEpisode], env_name: str) -> list[str]:
    rows = [["episode", "seed", "steps", "max drift", "final drift", f"> {DRIFT_THRESHOLD:g} at", "return", "recorded", "end"]]
    for episode in replayed[:_MAX_REPLAYED]:
        drifts = [number(value, "{:.3g}") for value in (episode.largest_distance, episode.final_distance)]
        first = [str(episode.number), number(episode.seed, "{}", "?"), str(episode.n_steps)]
        returns = [number(value) for value in (episode.replayed_return, episode.recorded_return)]
        rows.append([*first, *drifts, number(episode.drift_step, "{}"), *returns, episode.replayed_end or "not replayed"])
    return [
        f"Replay in {env_name}; drift in standard deviations of the observation's component that differs most",
        *table(rows, left=(8,)),
        *more(len(replayed) - _MAX_REPLAYED, "episodes"),
        *(line for note in _replay_notes(replayed) for line in paragraph(note)),
    ]


def _replay_notes(replayed: Sequence[ReplayedEpisode]) -> list[str]:
    """:return: How many episodes drift, and the first example of each problem"""
    drifts, starts, ends = [], [], []
    for episode in replayed:
        name = f"Episode {episode.number}"
        if not episode.reached_start:
            reason = "its seed is not known" if episode.seed is None else f"a reset with seed {episode.seed} leads elsewhere"
            away = f"{episode.start_distance:.3g} standard deviations away"
            starts.append(f"{name} cannot be brought to its recorded start: {reason}, {away}.")
        elif (episode.replayed_end, episode.n_steps) != (episode.recorded_end, episode.recorded_steps):
            recorded = f"{episode.recorded_end} after {episode.recorded_steps} steps"
            ends.append(f"{name} is recorded as {recorded}, but {episode.replayed_end} after {episode.n_steps} in the replay.")
        if episode.drift_step is not None:
            drifts.append(f"{name} drifts from step {episode.drift_step} on, first in {episode.drift_component}.")
    n = len(replayed)
    count = f"{n - len(starts)} of {n} episodes replayed, {len(drifts) or 'none'} with drift."
    return [count, *drifts[:1], *starts[:1], *ends[:1]]
