"""What a replay shows, to be read by a person."""

from collections.abc import Sequence

from sb3_pgfd.cli.tables import more, number, paragraph, table
from sb3_pgfd.demonstrations.inspection.replay import DRIFT_THRESHOLD, ReplayedEpisode

_MAX_EPISODES = 8


def replay_text(replayed: Sequence[ReplayedEpisode], env_name: str) -> str:
    """
    :param replayed: One episode or more
    :param env_name: Where they were played back
    """
    head = ["episode", "seed", "steps", "max drift", "final drift", f"> {DRIFT_THRESHOLD:g} at", "return", "recorded", "end"]
    rows = [head, *(_row(episode) for episode in replayed[:_MAX_EPISODES])]
    lines = [
        f"Replay in {env_name}; drift in standard deviations of the observation's component that differs most",
        *table(rows, left=(8,)),
        *more(len(replayed) - _MAX_EPISODES, "episodes"),
        *(line for note in _notes(replayed) for line in paragraph(note)),
    ]
    return "\n".join(lines)


def _row(episode: ReplayedEpisode) -> list[str]:
    return [
        str(episode.number),
        number(episode.seed, "{}", "?"),
        str(episode.n_steps),
        number(episode.largest_distance, "{:.3g}"),
        number(episode.final_distance, "{:.3g}"),
        number(episode.drift_step, "{}"),
        number(episode.replayed_return),
        number(episode.recorded_return),
        episode.replayed_end or "not played back",
    ]


def _notes(replayed: Sequence[ReplayedEpisode]) -> list[str]:
    played = [episode for episode in replayed if episode.reached_start]
    drifted = [episode for episode in played if episode.drift_step is not None]
    notes = [f"{len(played)} of {len(replayed)} episodes played back, {len(drifted) or 'none'} with drift."]
    notes += [
        f"Episode {episode.number} drifts from step {episode.drift_step} on, first in {episode.drift_component}."
        for episode in drifted[:1]
    ]
    notes += [
        f"Episode {episode.number} cannot be brought to its recorded start: "
        f"{'its seed is not known' if episode.seed is None else f'a reset with seed {episode.seed} leads elsewhere'}, "
        f"{episode.start_distance:.3g} standard deviations away."
        for episode in [episode for episode in replayed if not episode.reached_start][:1]
    ]
    notes += [
        f"Episode {episode.number} is recorded as {episode.recorded_end} and {episode.replayed_end} in the replay, after "
        f"{episode.n_steps} steps."
        for episode in [episode for episode in played if episode.replayed_end != episode.recorded_end][:1]
    ]
    return notes
