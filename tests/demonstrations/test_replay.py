import json
from contextlib import closing
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from moviepy import VideoFileClip
from packaged_physics import start_tolerance

from demos.recipes import RECIPES
from sb3_pgfd import Demonstrations, DemonstrationsError
from sb3_pgfd.demonstrations import Episode, record
from sb3_pgfd.demonstrations.environment import recorded_env
from sb3_pgfd.demonstrations.inspection.replay import recorded_seed, replay, write_video
from sb3_pgfd.utils.files import packaged_demonstrations


class Drive(gym.Env):
    """A point that moves by its action, and by a drift that is not in the recording; four steps."""

    render_mode = "rgb_array"

    def __init__(self, drift: float = 0.0, limit: int = 4, goal: float = np.inf, as_dict: bool = False):
        box = spaces.Box(-np.inf, np.inf, (2,), np.float64)
        self.observation_space = spaces.Dict({"where": box, "clock": spaces.Discrete(9)}) if as_dict else box
        self.action_space = spaces.Box(-1, 1, (1,), np.float64)
        self.drift, self.limit, self.goal, self.as_dict = drift, limit, goal, as_dict

    def observe(self) -> Any:
        return {"clock": self.clock, "where": self.where.copy()} if self.as_dict else self.where.copy()

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.clock, self.where = 0, self.np_random.uniform(size=2)
        return self.observe(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.clock += 1
        self.where[0] += action[0]
        self.where[1] += self.drift
        action *= 0
        return self.observe(), float(self.where[0]), bool(self.where[0] > self.goal), self.clock == self.limit, {}

    def render(self) -> Any:
        return np.full((21, 33, 3), 50 * self.clock, dtype=np.uint8)


class Fails(Drive):
    def step(self, action: Any) -> Any:
        raise KeyError("joint 3")


def forward(observation: Any) -> np.ndarray:
    return np.array([0.5])


def drive(n_episodes: int = 3, **options: Any) -> Demonstrations:
    return record(forward, Drive(**options), n_episodes, seed=10)


CHAOTIC = {recipe.name for recipe in RECIPES if recipe.chaotic}


@pytest.mark.parametrize("name", sorted(packaged_demonstrations()))
def test_packaged_demonstrations_are_repeated(name: str):
    demonstrations = Demonstrations.load(name)
    replayed = replay(demonstrations, recorded_env(demonstrations), sorted({0, demonstrations.n_episodes - 1}))
    for episode in replayed:
        assert episode.seed == recorded_seed(demonstrations, episode.number)
        if start_tolerance(name) > 1e-6 and not episode.reached_start:
            # Another MuJoCo than the file's: a Fetch task begins elsewhere, and there is nothing to repeat
            continue
        assert episode.reached_start
        if name in CHAOTIC:
            # The last bits of another machine's physics grow where bodies hit each other
            assert episode.drift_step is None or episode.drift_step > 5
            continue
        assert episode.largest_distance is not None
        assert episode.largest_distance < 1e-3
        assert (episode.drift_step, episode.drift_component) == (None, None)
        assert episode.n_steps == demonstrations.episode_lengths[episode.number]
        assert episode.replayed_return == pytest.approx(episode.recorded_return, rel=1e-3, abs=1e-3)
        assert episode.replayed_end == episode.recorded_end


def test_a_dict_is_compared_key_by_key():
    replayed = replay(drive(as_dict=True), Drive(as_dict=True))
    assert [episode.largest_distance for episode in replayed] == [0, 0, 0]
    moved = replay(drive(as_dict=True), Drive(as_dict=True, drift=10.0))
    assert {episode.drift_component for episode in moved} == {"observations['where'][1]"}


def test_drift_is_measured_in_standard_deviations():
    demonstrations = drive()
    assert isinstance(demonstrations.observations, np.ndarray)
    deviation = demonstrations.observations[:, 1].std()
    # After k + 1 steps it is (k + 1) / 10 off
    replayed = replay(demonstrations, Drive(drift=0.1), threshold=0.25 / deviation)
    for episode in replayed:
        assert episode.reached_start
        assert episode.largest_distance == pytest.approx(0.4 / deviation)
        assert episode.final_distance == episode.largest_distance
        assert (episode.drift_step, episode.drift_component) == (2, "observations[1]")
        assert episode.replayed_return == pytest.approx(episode.recorded_return)


def test_the_recorded_seed_is_used():
    demonstrations = drive()
    assert [recorded_seed(demonstrations, number) for number in range(3)] == [10, 11, 12]
    chosen = demonstrations.select([2, 0])
    assert [(episode.seed, episode.reached_start) for episode in replay(chosen, Drive())] == [(12, True), (10, True)]


def test_another_start_is_reported_and_nothing_played_back():
    demonstrations = drive()
    lost = Demonstrations.from_episodes(
        [Episode(e.observations, e.actions, e.rewards, False) for e in (demonstrations.episode(k) for k in range(3))]
    )
    assert isinstance(demonstrations.observations, np.ndarray)
    for number, episode in enumerate(replay(lost, Drive())):
        start, _ = Drive().reset(seed=number)
        difference = np.abs(start - demonstrations.observations[4 * number]) / demonstrations.observations.std(axis=0)
        assert episode.start_distance == pytest.approx(difference.max())
        assert (episode.seed, episode.reached_start, episode.n_steps) == (None, False, 0)
        assert (episode.largest_distance, episode.replayed_return, episode.replayed_end) == (None, None, None)


def test_a_seed_that_is_not_known_may_be_guessed():
    demonstrations = drive()
    part = Demonstrations.from_episodes(
        [Episode(e.observations, e.actions, e.rewards, False) for e in (demonstrations.episode(k) for k in range(2))],
        {"seed": 10, "n_attempts": 3},
    )
    assert [(episode.seed, episode.largest_distance) for episode in replay(part, Drive())] == [(None, 0), (None, 0)]


def test_a_start_without_chance_needs_no_seed():
    class Fixed(Drive):
        def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
            return super().reset(seed=0)

    episode = record(forward, Fixed(), 1).episode(0)
    demonstrations = Demonstrations.from_episodes([Episode(episode.observations, episode.actions, episode.rewards, False)] * 2)
    assert [(e.seed, e.largest_distance) for e in replay(demonstrations, Fixed())] == [(None, 0), (None, 0)]


def test_single_precision_is_the_same_start():
    demonstrations = drive()
    episodes = [demonstrations.episode(k) for k in range(3)]
    rounded = Demonstrations.from_episodes(
        [Episode(np.asarray(e.observations, dtype=np.float32), e.actions, e.rewards, False, seed=e.seed) for e in episodes]
    )
    for episode in replay(rounded, Drive()):
        assert episode.reached_start
        assert episode.largest_distance is not None
        assert 0 < episode.largest_distance < 1e-6


def test_the_replay_stops_where_the_episode_is_over():
    early, never = replay(drive(1), Drive(limit=2))[0], replay(drive(1), Drive(limit=9))[0]
    assert (early.n_steps, early.recorded_end, early.replayed_end) == (2, "truncated", "truncated")
    assert (never.n_steps, never.replayed_end) == (4, "not over")
    solved = replay(drive(1), Drive(goal=-1.0))[0]
    assert (solved.n_steps, solved.recorded_end, solved.replayed_end) == (1, "truncated", "terminated")


def test_some_episodes_are_played_back():
    assert [episode.number for episode in replay(drive(), Drive(), [2, 0])] == [2, 0]


def test_constant_observations_differ_in_their_own_units():
    class Still(Drive):
        def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
            super().reset(seed=seed)
            self.where = np.array([0.0, 0.1])
            return self.observe(), {}

    assert replay(record(forward, Still(), 3), Still(drift=0.25))[0].largest_distance == pytest.approx(1.0)


def test_numbers_that_json_cannot_hold_become_none():
    class Nan(Drive):
        def step(self, action: Any) -> Any:
            return np.full(2, np.nan), float("nan"), False, True, {}

    replayed = replay(drive(1), Nan())[0]
    assert (replayed.largest_distance, replayed.drift_step) == (np.inf, 0)
    values = json.loads(json.dumps(replayed.to_json(), allow_nan=False))
    assert (values["largest_distance"], values["replayed_return"], values["drift_step"]) == (None, None, 0)


def test_discrete_actions_are_handed_over_as_numbers():
    demonstrations = record(lambda observation: 1, "FrozenLake-v1", 2, seed=3)
    assert [episode.largest_distance for episode in replay(demonstrations, gym.make("FrozenLake-v1"))] == [0, 0]


@pytest.mark.parametrize(
    ("demonstrations", "env", "message"),
    [
        (drive(1), Drive(as_dict=True), "observations: found one array"),
        (drive(1), gym.make("Pendulum-v1"), r"observations: found shape \(2,\)"),
        (record(lambda _: 1, "FrozenLake-v1", 1), gym.make("CliffWalking-v1"), None),
        (drive(1), Fails(), r"episode 0: found an environment that fails in step\(\) \(KeyError: 'joint 3'\)"),
    ],
)
def test_another_environment_is_refused_or_drifts(demonstrations: Demonstrations, env: gym.Env, message: str | None):
    if message is None:
        assert not replay(demonstrations, env)[0].reached_start
        return
    with pytest.raises(DemonstrationsError, match=message):
        replay(demonstrations, env)


def test_frames_are_those_of_every_state(tmp_path: Path):
    frames: list[np.ndarray] = []
    replay(drive(2), Drive(), on_frame=frames.append)
    assert [int(frame.max()) for frame in frames] == [0, 50, 100, 150, 200] * 2


def test_an_environment_that_draws_nothing_is_refused():
    with pytest.raises(DemonstrationsError, match=r"render_mode=None, expected an env made with 'rgb_array'"):
        replay(Demonstrations.load("Pendulum-v1"), gym.make("Pendulum-v1"), on_frame=print)


def test_a_video_has_every_frame(tmp_path: Path):
    path = tmp_path / "new" / "drive.mp4"
    with write_video(path, fps=10) as add_frame:
        replay(drive(2), Drive(), on_frame=add_frame)
    with VideoFileClip(str(path)) as clip:
        # Made even, and not squeezed
        assert clip.size == [34, 22]
        assert clip.fps == 10
        brightness = [round(float(frame.mean())) for frame in clip.iter_frames()]
    assert len(brightness) == 10
    assert np.abs(np.array(brightness) - [0, 50, 100, 150, 200] * 2).max() < 6


def test_a_video_is_whole_or_not_there(tmp_path: Path):
    path = tmp_path / "drive.mp4"
    with pytest.raises(DemonstrationsError, match="joint 3"), write_video(path, 10) as add_frame:
        replay(drive(1), Fails(), on_frame=add_frame)
    with pytest.raises(DemonstrationsError, match="no frame"), write_video(path, 10):
        pass
    assert list(tmp_path.iterdir()) == []
    path.write_text("mine")
    with pytest.raises(FileExistsError, match="--force"), write_video(path, 10):
        pass
    with (
        pytest.raises(DemonstrationsError, match=r"found the ending '.gif', expected '.mp4'"),
        write_video(tmp_path / "a.gif", 10),
    ):
        pass
    assert path.read_text() == "mine"


def test_a_time_limit_that_was_given_is_that_of_the_replay():
    recorded = record(lambda _: np.zeros(1, np.float32), gym.make("Pendulum-v1", max_episode_steps=230), 1)
    assert recorded.metadata["env_kwargs"] == {"max_episode_steps": 230}
    with closing(recorded_env(recorded)) as env:
        (episode,) = replay(recorded, env)
    assert (episode.n_steps, episode.recorded_steps) == (230, 230)
    assert episode.replayed_return == pytest.approx(episode.recorded_return)


def test_arguments_that_are_arrays_are_kept_as_numbers():
    demonstrations = drive(1).changed(metadata={"env_kwargs": {"goal": np.array([1.0, 2.0]), "size": np.float32(0.5)}})
    assert demonstrations.metadata["env_kwargs"] == {"goal": [1.0, 2.0], "size": 0.5}
