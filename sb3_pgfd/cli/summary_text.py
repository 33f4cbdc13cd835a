"""What is found in demonstrations, to be read by a person."""

import textwrap
from collections.abc import Sequence

import numpy as np

from sb3_pgfd.cli.tables import WIDTH, more, number, paragraph, table
from sb3_pgfd.demonstrations.inspection.summary import ActionSummary, ObservationSummary, Range, Spread, Summary

# Rows of a table; the rest is counted
_MAX_EPISODES, _MAX_COMPONENTS = 5, 6
# Different discrete actions in a line
_MAX_COUNTED = 10


def summary_text(summary: Summary) -> str:
    """
    :param summary: Of demonstrations
    :return: About 40 lines, if there are no warnings
    """
    blocks = [
        _heading(summary),
        _spreads(summary),
        _episodes(summary),
        _observations(summary.observations),
        _actions(summary.actions),
        _warnings(summary.warnings),
    ]
    return "\n\n".join("\n".join(lines) for lines in blocks)


def _heading(summary: Summary) -> list[str]:
    producer = textwrap.shorten(summary.producer or "unknown", WIDTH - 15, placeholder=" ...")
    return [
        f"{summary.source or 'demonstrations'}: {summary.n_episodes:,} episodes, {summary.n_transitions:,} transitions",
        f"  environment  {summary.env_id or 'unknown'}",
        f"  producer     {producer}",
        f"  success      {number(summary.success_rate, '{:.0%} of the episodes', 'unknown')}",
        f"  ends         {summary.n_terminated:,} terminated, {summary.n_truncated:,} truncated",
    ]


def _spreads(summary: Summary) -> list[str]:
    rows = [["", "mean", "std", "min", "25 %", "median", "75 %", "max"]]
    rows += [["length", *_spread(summary.lengths)], ["return", *_spread(summary.returns)]]
    return table(rows, left=(0,))


def _spread(spread: Spread) -> list[str]:
    values = (spread.mean, spread.std, spread.min, spread.lower_quartile, spread.median, spread.upper_quartile, spread.max)
    return [number(value) for value in values]


def _episodes(summary: Summary) -> list[str]:
    rows = [["episode", "length", "return", "success", "end"]]
    for i, episode in enumerate(summary.episodes[:_MAX_EPISODES]):
        success = "?" if episode.success is None else "yes" if episode.success else "no"
        rows.append([str(i), str(episode.length), number(episode.episode_return), success, episode.end])
    return [*table(rows, left=(4,)), *more(summary.n_episodes - _MAX_EPISODES, "episodes")]


def _observations(observations: Sequence[ObservationSummary]) -> list[str]:
    first = observations[0]
    if len(observations) == 1 and isinstance(first.low, list):
        rows = [["observation", "min", "max"], *_ranges(first.low, first.high)]
        lines = table(rows[: _MAX_COMPONENTS + 1])
        lines[0] += f"   ({first.dtype}, {_shape(first.shape)})"
        return [*lines, *more(len(rows) - 1 - _MAX_COMPONENTS, "components")]
    rows = [["observation", "min", "max", ""]]
    for item in observations[:_MAX_COMPONENTS]:
        low, high = _overall(item.low, item.high)
        rows.append([item.key or "", number(low), number(high), f" ({item.dtype}, {_shape(item.shape)})"])
    return [*table(rows, left=(0, 3)), *more(len(observations) - _MAX_COMPONENTS, "keys")]


def _actions(actions: ActionSummary) -> list[str]:
    kind = f"   ({actions.dtype}, {_shape(actions.shape)}, {actions.space or 'action space unknown'})"
    if actions.counts is not None:
        counts = [f"{action}: {count:,}" for action, count in actions.counts.items()]
        dots = ", ..." if len(counts) > _MAX_COUNTED else ""
        return [f"  actions{kind}", *paragraph("taken " + ", ".join(counts[:_MAX_COUNTED]) + dots, "    ")]
    rows = [["action", "min", "max", "low", "high", "at a bound"], *_ranges(actions.low, actions.high)]
    n_components = len(rows) - 1
    for i, row in enumerate(rows[1:]):
        known = [
            None if values is None else values[i] for values in (actions.space_low, actions.space_high, actions.saturated)
        ]
        row += [number(known[0]), number(known[1]), number(known[2], "{:.1%}")]
    if n_components > 1:
        rows = [*rows[: _MAX_COMPONENTS + 1], ["all", "", "", "", "", number(actions.saturated_overall, "{:.1%}")]]
    lines = table(rows)
    lines[0] += kind
    return [*lines, *more(n_components - _MAX_COMPONENTS, "components")]


def _ranges(low: Range, high: Range) -> list[list[str]]:
    if not isinstance(low, list) or not isinstance(high, list):
        return [["all", *map(number, _overall(low, high))]]
    return [[str(i), number(a), number(b)] for i, (a, b) in enumerate(zip(low, high, strict=True))]


def _overall(low: Range, high: Range) -> tuple[float | None, float | None]:
    return (float(np.min(low)), float(np.max(high))) if np.size(low) else (None, None)


def _shape(shape: Sequence[int]) -> str:
    return f"shape {'x'.join(map(str, shape))}" if shape else "one number"


def _warnings(warnings: Sequence[str]) -> list[str]:
    if not warnings:
        return ["No warnings."]
    return ["Warnings", *(line for warning in warnings for line in paragraph(warning, "  * "))]
