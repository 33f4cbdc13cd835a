"""Learning as a whole: reproducible, in every setting that SB3 allows, and with success."""

import csv
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium.wrappers import TransformReward
from small_models import own_rows
from stable_baselines3.common.callbacks import CheckpointCallback, EvalCallback, StopTrainingOnMaxEpisodes
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.logger import configure
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.noise import NormalActionNoise, OrnsteinUhlenbeckActionNoise, VectorizedActionNoise

from sb3_pgfd import DDPGfD, Demonstrations

MakeModel = Callable[..., DDPGfD]
BEYOND_THE_PAPER: dict[str, Any] = dict(bc_coef=0.5, q_filter=True, q_range=(0.0, 1.0), actor_learning_rate=3e-4)
BEYOND_THE_PAPER |= dict(gradient_steps=2, policy_kwargs={"n_critics": 2, "layer_norm": True})
BEYOND_THE_PAPER |= dict(replay_buffer_kwargs={"demo_fraction": 0.5})


def parameters(model: DDPGfD) -> list[th.Tensor]:
    return list(model.policy.state_dict().values())


def same(first: DDPGfD, second: DDPGfD) -> bool:
    return all(th.equal(one, other) for one, other in zip(parameters(first), parameters(second), strict=True))


def noise(sigma: float = 0.2) -> NormalActionNoise:
    return NormalActionNoise(np.zeros(1), np.full(1, sigma))


@pytest.mark.parametrize("options", [{}, BEYOND_THE_PAPER])
def test_the_same_seed_gives_the_same_parameters_bit_for_bit(make_model: MakeModel, options: dict[str, Any]) -> None:
    first, second = (make_model(**options, pretrain_steps=10, action_noise=noise()).learn(60) for _ in range(2))
    assert same(first, second)
    np.testing.assert_array_equal(first.buffer.priorities, second.buffer.priorities)


def test_another_seed_gives_other_parameters(make_model: MakeModel) -> None:
    assert not same(make_model(seed=1).learn(30), make_model(seed=2).learn(30))


@pytest.mark.parametrize("n_envs", [1, 4])
@pytest.mark.parametrize("gradient_steps", [1, -1])
def test_updates_follow_the_number_of_environments(make_model: MakeModel, n_envs: int, gradient_steps: int) -> None:
    env = make_vec_env("PointToGoal-v0", n_envs=n_envs, seed=0)
    model = make_model(env=env, pretrain_steps=0, learning_starts=40, gradient_steps=gradient_steps).learn(80)
    # Updates follow each of the steps of all environments after the first 40 transitions
    assert model._n_updates == (80 - 40) // n_envs * (n_envs if gradient_steps == -1 else 1)
    assert model.buffer.n_own == 80


def test_vectorised_environments_and_action_noise_go_together(make_model: MakeModel) -> None:
    model = make_model(env=make_vec_env("PointToGoal-v0", n_envs=3), action_noise=noise()).learn(60)
    assert isinstance(model.action_noise, VectorizedActionNoise)
    assert model.num_timesteps == 60


@pytest.mark.parametrize(
    "action_noise", [noise(), OrnsteinUhlenbeckActionNoise(np.zeros(1), np.full(1, 0.2))], ids=["normal", "correlated"]
)
def test_action_noise_explores_within_the_bounds(make_model: MakeModel, action_noise: Any) -> None:
    model = make_model(action_noise=action_noise, learning_starts=1000).learn(60)
    taken = own_rows(model, "actions")
    with th.no_grad():
        wanted = model.actor(th.from_numpy(own_rows(model, "observations/"))).numpy()
    assert float(np.abs(taken - wanted).max()) > 0.1
    assert float(np.abs(taken).max()) <= 1.0


@pytest.mark.parametrize(
    "options",
    [
        {"demonstrations": None},
        {"replay_buffer_kwargs": {"demo_fraction": 0.5}},
        {"demonstrations": None, "replay_buffer_kwargs": {"demo_fraction": 0.5}},
        {"replay_buffer_kwargs": {"priority_exponent": 0.0}},
        {"n_steps": 1},
        {"buffer_size": 30},
        {"importance_exponent": lambda remaining: 1.0 - 0.5 * remaining},
        BEYOND_THE_PAPER,
    ],
    ids=lambda options: "-".join(options),
)
def test_learning_moves_all_networks_to_finite_numbers(make_model: MakeModel, options: dict[str, Any]) -> None:
    model = make_model(**options)
    before = {name: value.clone() for name, value in model.policy.state_dict().items()}
    model.learn(50)
    after = model.policy.state_dict()
    assert all(th.isfinite(value).all() for value in after.values())
    for name in ("actor.", "actor_target.", "critic.", "critic_target."):
        assert any(not th.equal(after[key], before[key]) for key in after if key.startswith(name))


def test_updates_can_wait_for_the_end_of_episodes(make_model: MakeModel) -> None:
    model = make_model(train_freq=(2, "episode"), gradient_steps=3, learning_starts=0, pretrain_steps=0).learn(90)
    # Episodes last 20 steps at most, so 90 steps hold at least two pairs; learning goes on until a pair is complete
    assert model._episode_num % 2 == 0
    assert model._n_updates == 3 * model._episode_num / 2 >= 6


def test_after_episodes_there_can_be_as_many_updates_as_steps(make_model: MakeModel) -> None:
    # SB3's algorithms count the steps of the rollout for gradient_steps=-1
    model = make_model(train_freq=(1, "episode"), gradient_steps=-1, learning_starts=0, pretrain_steps=0).learn(45)
    assert model._n_updates == model.num_timesteps


def test_callbacks_of_sb3_work(make_model: MakeModel, tmp_path: Path) -> None:
    evaluation = EvalCallback(
        Monitor(gym.make("PointToGoal-v0")),
        n_eval_episodes=2,
        eval_freq=40,
        log_path=str(tmp_path),
        best_model_save_path=str(tmp_path),
        verbose=0,
    )
    checkpoints = CheckpointCallback(40, str(tmp_path), save_replay_buffer=True)
    model = make_model().learn(100, [evaluation, checkpoints])
    assert len(np.load(tmp_path / "evaluations.npz")["results"]) == 2
    best = DDPGfD.load(tmp_path / "best_model", device="cpu")
    assert best.policy.state_dict().keys() == model.policy.state_dict().keys()
    assert (tmp_path / "rl_model_replay_buffer_80_steps.pkl").is_file()


def test_a_callback_can_end_learning(make_model: MakeModel) -> None:
    model = make_model().learn(1000, StopTrainingOnMaxEpisodes(max_episodes=2))
    assert model.num_timesteps <= 40


@pytest.mark.parametrize("options", [{"bc_coef": 0.5}, {"replay_buffer_kwargs": {"demo_fraction": 0.5}}, {"n_steps": 1}])
def test_everything_promised_is_logged(make_model: MakeModel, tmp_path: Path, options: dict[str, Any]) -> None:
    model = make_model(**options)
    model.set_logger(configure(str(tmp_path), ["csv"]))
    model.learn(60, log_interval=1)
    with (tmp_path / "progress.csv").open() as file:
        rows = [{name: float(text) for name, text in row.items() if text} for row in csv.DictReader(file)]
    train = [
        "actor_loss",
        "critic_loss",
        "q_mean",
        "demo_fraction",
        "priority_max",
        "is_weight_mean",
        "n_updates",
        "learning_rate",
    ]
    names = {f"train/{name}" for name in train}
    names |= {"rollout/ep_rew_mean", "rollout/ep_len_mean", "rollout/success_rate"}
    names |= {"time/episodes", "time/fps", "time/time_elapsed", "time/total_timesteps"}
    last = rows[-1]
    assert names <= last.keys()
    assert ("train/bc_loss" in last) == ("bc_coef" in options)
    assert ("train/critic_loss_n_step" in last) == ("n_steps" not in options)
    assert ("train/priority_mean" in last) == ("replay_buffer_kwargs" not in options)
    assert all(np.isfinite(value) for row in rows for value in row.values())
    assert last["train/n_updates"] <= model._n_updates


def test_nothing_about_updates_is_logged_before_the_first(
    make_model: MakeModel, attach: Callable[[DDPGfD], DDPGfD], recorder: Any
) -> None:
    attach(make_model(pretrain_steps=0, learning_starts=1000)).learn(60, log_interval=1)
    assert recorder.column("train/n_updates") == []
    assert recorder.column("train/critic_loss") == []
    assert recorder.column("time/total_timesteps")[-1] >= 40


def success_rate(model: DDPGfD) -> float:
    returns, _ = evaluate_policy(
        model, make_vec_env("PointToGoal-v0", seed=100), n_eval_episodes=10, return_episode_rewards=True
    )
    return float(np.mean(np.array(returns) > 0.0))


def test_a_sparse_task_is_learned_from_demonstrations(make_model: MakeModel, record: Callable[..., Any]) -> None:
    options: dict[str, Any] = dict(demonstrations=record("box", 5), pretrain_steps=0, batch_size=64, gamma=0.95)
    options |= dict(learning_rate=3e-3, action_noise=noise(0.1), policy_kwargs={"net_arch": [32, 32]}, learning_starts=100)
    model = make_model(**options)
    # The new policy hardly moves
    assert success_rate(model) == 0.0
    model.learn(1000)
    assert success_rate(model) >= 0.9


def test_a_discount_that_a_callback_changes_holds_from_the_next_update_on(make_model: MakeModel) -> None:
    model = make_model(n_steps=5, n_step_coef=0.5, gamma=0.99, pretrain_steps=0).learn(30)
    model.gamma, model.n_steps, model.n_step_coef = 0.5, 2, 0.25
    model.train(1, 8)
    # The 1-step return, then the one of up to two steps
    discounts = model.buffer.sample_batches(1, 64).discounts
    assert set(np.unique(discounts).tolist()) == {0.5, 0.25}
    assert model._return_coefs.flatten().tolist() == [1.0, 0.25]


@pytest.mark.parametrize(("step_reward", "is_told"), [(0.0, False), (-1.0, True)])
def test_demonstrations_with_rewards_of_another_scale_are_told(
    make_model: MakeModel, demonstrations: Demonstrations, step_reward: float, is_told: bool
) -> None:
    """They were recorded with 0 a step and 1 at the goal, which this environment may count from -1."""
    env = TransformReward(gym.make("PointToGoal-v0"), lambda reward: float(reward) + step_reward)
    model = make_model(env=env, demonstrations=demonstrations, learning_starts=1000)
    with warnings.catch_warnings(record=True) as given:
        warnings.simplefilter("always")
        model.learn(400)
    told = [warning for warning in given if "found a reward of 0 in every step before the end, expected -1" in str(warning)]
    assert len(told) == is_told
