"""Priorities in units of the agent's mean error, which mean the same at any reward scale."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from scaled_rewards import scaled_demonstrations, scaled_env
from small_models import demo_priorities, own_rows
from stable_baselines3.common.noise import NormalActionNoise

from sb3_pgfd import DDPGfD
from sb3_pgfd.replay.priorities import RunningMean, agent_mean

MakeModel = Callable[..., DDPGfD]


# --- The functions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("smallest", [0.0, 1e-300])
def test_an_array_can_be_divided_by_any_running_mean(smallest: float) -> None:
    divisor = RunningMean().update(smallest)
    # Smaller numbers are 0 in single precision
    assert np.isfinite(np.array([0.0, 1e-38], dtype=np.float32) / np.float32(divisor)).all()


# --- The model --------------------------------------------------------------------------------------------------------


def test_an_update_divides_by_the_running_mean(make_model: MakeModel) -> None:
    # Networks that stand still, so that the errors are the same in both models and in all updates
    options: dict[str, Any] = dict(pretrain_steps=0, learning_rate=0.0, l2_coef=0.0, batch_size=32)
    buffer: dict[str, Any] = dict(relative_priorities=True, demo_bonus=0.5, priority_epsilon=0.125)
    relative = make_model(replay_buffer_kwargs=buffer, **options).learn(20)
    plain = make_model(replay_buffer_kwargs={"demo_bonus": 0.0, "priority_epsilon": 1e-30}, **options).learn(20)
    drawn, found, mean_then = [], [], relative.buffer._mean_error.mean
    for model in (relative, plain):
        # All weights alike, so that both draw the same
        ring, demos = model.buffer.ring, model.buffer.demonstrations
        ring.tree.update(np.arange(model.buffer.n_own), 1.0)
        demos.tree.update(demos.live_rows, 1.0)
        np.random.seed(3)
        drawn.append(model.buffer.sample_batch(model.batch_size))
        np.random.seed(3)
        model.train(1, model.batch_size)
        found.append(model.buffer.priorities[drawn[-1].indices])
    np.testing.assert_array_equal(drawn[0].indices, drawn[1].indices)
    errors, is_demo = found[1], drawn[0].is_demo.flatten().numpy()
    count = relative.buffer._mean_error.count
    mean = mean_then + (agent_mean(errors, drawn[0].weights.flatten().numpy(), is_demo) - mean_then) / count
    assert relative.buffer._mean_error.mean == pytest.approx(mean, rel=1e-5)
    np.testing.assert_allclose(found[0], errors / mean + 0.125 + 0.5 * is_demo, rtol=1e-4)
    # One for each update, and none where nobody asks
    assert (count, plain.buffer._mean_error.count) == (relative._n_updates, 0)


def test_pretraining_takes_the_mean_of_demonstrations(make_model: MakeModel) -> None:
    options: dict[str, Any] = dict(learning_rate=0.0, l2_coef=0.0, batch_size=64)
    buffer = {"relative_priorities": True, "demo_bonus": 0.0}
    model = make_model(pretrain_steps=30, replay_buffer_kwargs=buffer, **options).learn(0)
    assert model.buffer._mean_error.count == 30
    values = demo_priorities(model)[: model.buffer.n_demonstrations]
    # In units of their mean, which nothing but chance moves, as the networks stand still
    assert values.mean() == pytest.approx(1.0, rel=0.3)


def test_the_running_mean_is_saved_with_the_buffer(make_model: MakeModel, tmp_path: Path) -> None:
    model = make_model(replay_buffer_kwargs={"relative_priorities": True}).learn(30)
    model.save(tmp_path / "model")
    model.save_replay_buffer(tmp_path / "buffer")
    loaded = DDPGfD.load(tmp_path / "model", env=gym.make("PointToGoal-v0"), device="cpu")
    loaded.load_replay_buffer(tmp_path / "buffer")
    assert loaded.buffer.relative_priorities
    assert loaded.buffer._mean_error.mean == model.buffer._mean_error.mean > 0.0
    assert loaded.buffer._mean_error.count == model.buffer._mean_error.count
    loaded.learn(20)
    assert loaded.buffer._mean_error.count > model.buffer._mean_error.count


def test_it_makes_no_difference_to_a_fixed_share(make_model: MakeModel) -> None:
    states = []
    for relative in (False, True):
        model = make_model(replay_buffer_kwargs={"demo_fraction": 0.5, "relative_priorities": relative}).learn(30)
        states.append(model.policy.state_dict())
        assert model.buffer._mean_error.count == 0
    assert all(th.equal(value, states[1][name]) for name, value in states[0].items())


def test_errors_of_zero_are_no_divergence(make_model: MakeModel) -> None:
    # Demonstrations without rewards, and networks that are right about them
    options: dict[str, Any] = dict(demonstrations=scaled_demonstrations(0.0), learning_rate=0.0, l2_coef=0.0)
    model = make_model(replay_buffer_kwargs={"relative_priorities": True}, **options)
    with th.no_grad():
        for parameter in model.policy.parameters():
            parameter.zero_()
    model.learn(0)
    assert set(np.round(demo_priorities(model)[: model.buffer.n_demonstrations], 3)) == {1.0}


def learned(scale: float, steps: int, q_unit: float = 1.0, **options: Any) -> tuple[DDPGfD, float]:
    """
    :param scale: What rewards are multiplied with
    :param steps: Environment steps
    :param q_unit: What the parameters of the critic are multiplied with
    :return: A model, and the share of demonstrations in the last two thirds of its batches
    """
    model = DDPGfD(
        "MlpPolicy",
        scaled_env(scale),
        demonstrations=scaled_demonstrations(scale),
        action_noise=NormalActionNoise(np.zeros(1), np.full(1, 0.3)),
        buffer_size=1000,
        learning_starts=0,
        batch_size=32,
        seed=0,
        device="cpu",
        **{"pretrain_steps": 100, "policy_kwargs": {"net_arch": [16]}, **options},
    )
    with th.no_grad():
        for parameter in (*model.critic.parameters(), *model.critic_target.parameters()):
            parameter.mul_(q_unit)
    model.learn(steps // 3, log_interval=10**6)
    model._metrics.flush()
    model.learn(steps - steps // 3, log_interval=10**6, reset_num_timesteps=False)
    return model, model._metrics.flush()["demo_fraction"]


def test_demonstrations_have_the_same_share_at_another_reward_scale() -> None:
    (_, relative), (_, relative_small) = (
        learned(scale, 300, replay_buffer_kwargs={"relative_priorities": True}) for scale in (1.0, 1e-4)
    )
    (_, constant), (_, constant_small) = (learned(scale, 300) for scale in (1.0, 1e-4))
    assert 0.6 < relative_small / relative < 1.6
    assert constant_small / constant > 2.0
    # A bonus much larger than any error decides alone
    assert constant_small > 0.8


@pytest.mark.parametrize("relative", [False, True])
def test_in_another_unit_the_whole_run_is_the_same(relative: bool) -> None:
    # Exactly so for a linear critic whose weights and steps have that unit: a power of two rounds nothing
    runs = []
    for unit in (1.0, 2.0**-13):
        policy_kwargs: dict[str, Any] = {"net_arch": [], "optimizer_kwargs": {"eps": 1e-30}}
        rates: dict[str, Any] = {"learning_rate": 1e-2 * unit, "actor_learning_rate": 1e-2}
        options: dict[str, Any] = {"policy_kwargs": policy_kwargs, "l2_coef": 0.0}
        options["replay_buffer_kwargs"] = {"relative_priorities": relative}
        runs.append(learned(unit, 90, q_unit=unit, **rates, **options))
    (model, share), (other, other_share) = runs
    assert np.array_equal(own_rows(model, "actions"), own_rows(other, "actions")) == relative
    assert np.array_equal(model.buffer.priorities, other.buffer.priorities) == relative
    assert (share == other_share) == relative
