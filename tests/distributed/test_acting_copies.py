"""Copies of a policy that act elsewhere: they choose what the model would choose."""

import pickle
from typing import Any

import numpy as np
import pytest
import torch as th
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from benchmarks.logged_point import LoggedPoint, demonstrations
from sb3_pgfd import SACfD, TD3fD
from sb3_pgfd.common.acting import copy_to_act, own_noise, state_to_act
from sb3_pgfd.distributed.acting import ActingCopy, Request, Result


def make_model(algorithm: Any = TD3fD, **options: Any) -> Any:
    env = VecNormalize(DummyVecEnv([LoggedPoint, LoggedPoint]), norm_reward=False)
    if algorithm is TD3fD:
        options = {"proposals": False, "replay_buffer_kwargs": {"denoise_successes": False}, **options}
    networks = {"policy_kwargs": {"net_arch": [8]}, "batch_size": 8, "learning_starts": 0, "device": "cpu"}
    model = algorithm("MlpPolicy", env, demonstrations(), seed=0, **{"pretrain_steps": 5, **networks, **options})
    model.learn(20)
    return model


DENOISED = {"replay_buffer_kwargs": {"denoise_successes": True}}


@pytest.mark.parametrize(
    "options", [{}, {"proposals": True}, DENOISED, {"algorithm": SACfD}, {"algorithm": SACfD, **DENOISED}]
)
def test_a_copy_chooses_as_the_model_does(options: dict[str, Any]) -> None:
    model = make_model(action_noise=0.3, **options)
    assert model.env is not None
    # As Ray sends them
    acting, state = (pickle.loads(pickle.dumps(one)) for one in (copy_to_act(model), state_to_act(model)))
    with th.no_grad():
        for weights in acting.policy.parameters():
            weights.zero_()
    seen: list[np.ndarray] = []

    def step(actions: np.ndarray) -> Result:
        seen.append(actions)
        return Result(obs + 0.1, np.zeros(2), np.array([False, False]), [{}, {}], [{}, {}])

    obs = np.array([[0.5, 0.2], [-0.3, 1.0]], dtype=np.float32)
    block = ActingCopy(acting, own_noise(model.action_noise, 2), 2, 2).collect(Request(4, 2, (1, 2, 3), 0), state, obs, step)
    assert (block.sequence, len(block.steps), len(seen)) == (4, 2, 2)

    numpy, torch, _ = np.random.SeedSequence((1, 2, 3)).generate_state(3).tolist()
    np.random.seed(numpy)
    th.manual_seed(torch)
    normalize = model.get_vec_normalize_env()
    assert normalize is not None
    for number, (chosen, _) in enumerate(block.steps):
        model._last_obs = normalize.normalize_obs(obs + np.float32(0.1) * number)
        actions, stored = model._sample_action(0, model.action_noise, 2)
        np.testing.assert_allclose(chosen.actions, actions, rtol=1e-5)
        np.testing.assert_allclose(chosen.stored, stored, rtol=1e-5)
        if model._needs_policy_actions():
            assert chosen.without_noise is not None
            np.testing.assert_allclose(chosen.without_noise, model._policy_actions, rtol=1e-5)
        assert ("clone_share" in chosen.means) == bool(options.get("proposals"))


def test_a_copy_is_small_and_acts_at_random_before_learning_starts() -> None:
    model = make_model(pretrain_steps=0, gradient_steps=0)
    acting = copy_to_act(model)
    assert {"replay_buffer", "env", "demonstrations"}.isdisjoint(vars(acting))
    assert not any("optimizer" in vars(module) for module in acting.policy.modules())
    # The actor alone, as far as only the actor chooses
    assert {name.split(".")[0] for name in state_to_act(model)["policy"]} == {"actor"}

    def actions_of(seed: int) -> np.ndarray:
        def step(actions: np.ndarray) -> Result:
            return Result(np.zeros((2, 2), np.float32), np.zeros(2), np.array([False, False]), [{}, {}], [{}, {}])

        copy = ActingCopy(copy_to_act(model), None, 2, 2)
        obs = np.zeros((2, 2), np.float32)
        block = copy.collect(Request(0, 3, (seed,), model.num_timesteps + 4), state_to_act(model), obs, step)
        return np.stack([chosen.actions for chosen, _ in block.steps])

    first, again, other = actions_of(1), actions_of(1), actions_of(2)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first[:2], other[:2])
    # Two steps of two environments are random, the third is the policy's
    assert not np.array_equal(first[0, 0], first[0, 1])
    np.testing.assert_array_equal(first[2, 0], first[2, 1])
