"""An SB3 algorithm that is saved, loaded and gone on with: its demonstrations, its gamma, and buffers of SB3's own."""

import math
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from point_to_goal import PointToGoal
from stable_baselines3 import DQN, SAC, TD3
from stable_baselines3.common.buffers import DictReplayBuffer, ReplayBuffer
from stable_baselines3.common.save_util import load_from_pkl
from stable_baselines3.common.vec_env import DummyVecEnv

from sb3_pgfd import DDPGfD, Demonstrations, DemonstrationsError
from sb3_pgfd.replay import DemoReplayBuffer
from sb3_pgfd.utils.warning import OptionWarning


def small() -> dict[str, Any]:
    """:return: Options of a model that learns in no time. SB3 changes the dict in it"""
    return {
        "policy_kwargs": {"net_arch": [4]},
        "buffer_size": 64,
        "batch_size": 4,
        "learning_starts": 5,
        "seed": 0,
        "device": "cpu",
    }


def on_our_buffer(demonstrations: Any, **options: Any) -> dict[str, Any]:
    kwargs = {"demonstrations": demonstrations, "demo_fraction": 0.5, **options}
    return {"replay_buffer_class": DemoReplayBuffer, "replay_buffer_kwargs": kwargs}


def buffer_of(model: Any) -> DemoReplayBuffer:
    assert isinstance(model.replay_buffer, DemoReplayBuffer)
    return model.replay_buffer


# --- A reference to demonstrations -----------------------------------------------------------------------------------


@pytest.mark.parametrize("as_mapping", [False, True])
def test_a_model_is_loaded_without_its_demonstrations(
    as_mapping: bool, tmp_path: Path, demonstrations: Demonstrations
) -> None:
    path = demonstrations.save(tmp_path / "demo.npz")
    named: Any = {"source": str(path), "n_episodes": 1} if as_mapping else str(path)
    model = SAC("MlpPolicy", "PointToGoal-v0", **on_our_buffer(named), **small())
    n_rows = int(demonstrations.episode_lengths[0]) if as_mapping else len(demonstrations)
    assert buffer_of(model).n_demonstrations == n_rows
    model.learn(10)
    model.save(tmp_path / "model")
    path.rename(tmp_path / "moved.npz")
    with pytest.warns(
        OptionWarning, match=r"demonstrations: .*demo\.npz: found no such file.* The model can act, but it cannot"
    ):
        loaded = SAC.load(tmp_path / "model", env=gym.make("PointToGoal-v0"))
    observation = np.zeros(1, dtype=np.float32)
    assert loaded.predict(observation, deterministic=True)[0] == model.predict(observation, deterministic=True)[0]
    with pytest.raises(
        DemonstrationsError, match=r"(?s)demo\.npz: found no such file.*load the model with replay_buffer_kwargs"
    ):
        loaded.learn(10)
    # As soon as the file is there again, it may
    (tmp_path / "moved.npz").rename(path)
    assert buffer_of(loaded.learn(10)).n_demonstrations == n_rows


def test_the_file_of_a_model_holds_a_reference_alone(tmp_path: Path, record: Callable[..., Demonstrations]) -> None:
    path = record(n_episodes=40).save(tmp_path / "demo.npz")
    reference, whole = ((tmp_path / f"{name}.zip") for name in ("reference", "dataset"))
    for named, file in ((str(path), reference), (Demonstrations.load(path), whole)):
        SAC("MlpPolicy", "PointToGoal-v0", **on_our_buffer(named), **small()).save(file)
    assert reference.stat().st_size < whole.stat().st_size - path.stat().st_size


def test_demonstrations_that_do_not_fit_are_refused_at_once(demonstrations: Demonstrations) -> None:
    with pytest.raises(DemonstrationsError, match="found shape"):
        SAC("MlpPolicy", "Pendulum-v1", **on_our_buffer(demonstrations), **small())


# --- gamma -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("algorithm", "gammas", "is_named"),
    [(SAC, (0.95, 0.99), 1), (TD3, (0.9, 0.95), 1), (SAC, (1, 0.95), 1), (SAC, (0.95, 0.95), 0)],
)
def test_another_gamma_than_the_models_is_named_once(
    algorithm: Any, gammas: tuple[float, float], is_named: int, demonstrations: Demonstrations
) -> None:
    own, of_buffer = gammas
    options = on_our_buffer(demonstrations, n_steps=3, gamma=of_buffer)
    model = algorithm("MlpPolicy", "PointToGoal-v0", gamma=own, **options, **small())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.learn(10)
        model.learn(10)
    found = [str(warning.message) for warning in caught if warning.category is OptionWarning]
    assert len(found) == is_named
    assert all(
        f"gamma: found {of_buffer} in the replay buffer, expected {own} as in {algorithm.__name__}" in text for text in found
    )


def test_with_one_step_the_models_gamma_counts(demonstrations: Demonstrations) -> None:
    buffer = buffer_of(SAC("MlpPolicy", "PointToGoal-v0", **on_our_buffer(demonstrations, gamma=0.5), **small()))
    # SB3's algorithms take their own gamma then
    assert buffer.sample(4).discounts is None


# --- Buffers of SB3 --------------------------------------------------------------------------------------------------


def steps(buffer: ReplayBuffer) -> int:
    """Store nine steps of two environments into a buffer of seven: both flags, and an interruption that no flag tells."""
    for number in range(9):
        observed = np.array([[number / 16], [number / 16 + 0.25]], dtype=np.float32)
        then = observed + (1 / 32 if number == 5 else 1 / 16)
        done = np.array([number == 3, number in (4, 6)])
        infos = [{"TimeLimit.truncated": False}, {"TimeLimit.truncated": number == 4}]
        pair: Any = (observed, then)
        if isinstance(buffer, DictReplayBuffer):
            pair = ({"position": observed, "goal": observed}, {"position": then, "goal": then})
        buffer.add(pair[0], pair[1], np.full((2, 1), number / 20, dtype=np.float32), np.array([number, -number]), done, infos)
    return 7


@pytest.mark.parametrize("handles_timeouts", [True, False])
@pytest.mark.parametrize("view", ["box", "dict"])
def test_transitions_of_a_plain_buffer_become_the_agents(view: str, handles_timeouts: bool) -> None:
    env = PointToGoal(view)
    spaces: tuple[Any, Any] = (env.observation_space, env.action_space)
    plain = (ReplayBuffer if view == "box" else DictReplayBuffer)(14, *spaces, device="cpu", n_envs=2)
    n_steps = steps(plain)
    options: dict[str, Any] = dict(keep_successes=True, handle_timeout_termination=handles_timeouts)
    ours = DemoReplayBuffer(40, *spaces, device="cpu", n_envs=2, **options)
    ours.add_replay_buffer(plain)
    assert ours.n_own == 2 * n_steps
    columns = ours.ring.take(np.arange(2 * n_steps))
    # Steps 2 to 8: those before were overwritten
    assert columns["rewards"].tolist() == [sign * number for number in range(2, 9) for sign in (1, -1)]
    np.testing.assert_allclose(columns["actions"][:, 0], np.repeat(np.arange(2, 9) / 20, 2))
    # A time limit in step 4, which may count as an end of the task; the last step is none
    of_second = [False, False, not handles_timeouts, False, True, False, False]
    assert columns["terminated"].reshape(-1, 2).T.tolist() == [[False, True, *[False] * 5], of_second]
    ends = columns["steps_left"].reshape(-1, 2).T == 0
    # By a flag, by the interruption after step 5, and with the last step
    assert [np.flatnonzero(end).tolist() for end in ends] == [[1, 3, 6], [2, 3, 4, 6]]
    # Going on, the next step begins an episode
    observed: Any = np.full((2, 1), 0.9, dtype=np.float32)
    observed = observed if view == "box" else {"position": observed, "goal": observed}
    ours.add(observed, observed, np.zeros((2, 1)), np.zeros(2), np.zeros(2, dtype=bool), [{}, {}])
    assert (ours.ring.take(np.arange(12, 14))["steps_left"] == 0).all()


def test_other_buffers_are_refused() -> None:
    env = PointToGoal()
    spaces = (env.observation_space, env.action_space)
    ours = DemoReplayBuffer(40, *spaces, device="cpu", n_envs=2)
    with pytest.raises(ValueError, match="found a ReplayBuffer, expected SB3's ReplayBuffer or DictReplayBuffer without opt"):
        ours.add_replay_buffer(ReplayBuffer(9, *spaces, optimize_memory_usage=True, handle_timeout_termination=False))
    with pytest.raises(ValueError, match="found a DemoReplayBuffer"):
        ours.add_replay_buffer(ours)
    with pytest.raises(ValueError, match="found n_envs=1, expected 2"):
        ours.add_replay_buffer(ReplayBuffer(9, *spaces))
    assert ours.n_own == 0


def test_an_empty_buffer_changes_nothing() -> None:
    env = PointToGoal()
    ours = DemoReplayBuffer(40, env.observation_space, env.action_space, device="cpu")
    for number in range(6):
        if number == 3:
            ours.add_replay_buffer(ReplayBuffer(9, env.observation_space, env.action_space, device="cpu"))
        states = np.array([[[number / 8]], [[(number + 1) / 8]]], dtype=np.float32)
        ours.add(states[0], states[1], np.zeros((1, 1)), np.zeros(1), np.array([number == 5]), [{}])
    assert ours.ring.take(np.arange(6))["steps_left"].tolist() == [5, 4, 3, 2, 1, 0]


def test_our_algorithms_say_that_a_plain_buffer_has_no_demonstrations(tmp_path: Path, demonstrations: Demonstrations) -> None:
    env = PointToGoal()
    plain = ReplayBuffer(9, env.observation_space, env.action_space)
    with (tmp_path / "plain.pkl").open("wb") as file:
        pickle.dump(plain, file)
    model = DDPGfD("MlpPolicy", "PointToGoal-v0", demonstrations, device="cpu")
    with pytest.raises(
        ValueError, match=r"found a ReplayBuffer, .* no demonstrations, so they would be gone\. .*add_replay_buffer"
    ):
        model.load_replay_buffer(tmp_path / "plain.pkl")
    assert model.buffer.n_demonstrations == len(demonstrations)


def test_the_recipe_for_an_existing_sac_with_an_existing_buffer(tmp_path: Path, demonstrations: Demonstrations) -> None:
    old = SAC("MlpPolicy", "PointToGoal-v0", gamma=0.95, **small()).learn(40)
    old.save(tmp_path / "sac")
    old.save_replay_buffer(tmp_path / "buffer")
    options = on_our_buffer(demonstrations, n_steps=3, gamma=0.95)
    model = SAC.load(tmp_path / "sac", env=DummyVecEnv([lambda: gym.make("PointToGoal-v0")]), device="cpu", **options)
    buffer_of(model).add_replay_buffer(load_from_pkl(tmp_path / "buffer"))
    assert (buffer_of(model).n_own, buffer_of(model).n_demonstrations) == (40, len(demonstrations))
    assert model.log_ent_coef is not None
    with th.no_grad():
        model.log_ent_coef.fill_(math.log(0.01))
    model.learn(20, reset_num_timesteps=False)
    assert model.num_timesteps == 60
    # Its learning rate moves it by at most 3e-4 in each of the 20 updates
    assert model.log_ent_coef.item() == pytest.approx(math.log(0.01), abs=0.01)
    assert buffer_of(model).n_own == 60


def test_dqn_takes_its_own_gamma() -> None:
    model = DQN("MlpPolicy", "CartPole-v1", replay_buffer_class=DemoReplayBuffer, gamma=0.9, **small())
    assert buffer_of(model.learn(20)).sample(4).discounts is None
