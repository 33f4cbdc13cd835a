"""A2CfD without demonstrations is A2C."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from pick_zero import CHOICES, pick_zero
from stable_baselines3 import A2C
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy

from sb3_pgfd import A2CfD

MakeModel = Callable[..., A2CfD]


@pytest.mark.parametrize(("action_space", "n_envs"), [(CHOICES[0], 1), (CHOICES[0], 4), (CHOICES[1], 1), (CHOICES[2], 4)])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"gae_lambda": 0.9, "ent_coef": 0.1, "normalize_advantage": True, "n_steps": 8},
        {"use_rms_prop": True, "learning_rate": 1e-3},
        {"learning_rate": lambda remaining: 0.1 * remaining},
    ],
    ids=["defaults", "options", "rmsprop", "schedule"],
)
def test_it_makes_the_updates_that_a2c_makes(
    make_model: MakeModel, action_space: spaces.Space, n_envs: int, options: dict[str, Any]
) -> None:
    # Errors of less than 1, for which half of A2C's squared error is the Huber loss, and no gradient that is too long
    shared: dict[str, Any] = {"gamma": 0.8, "learning_rate": 0.05, "max_grad_norm": 1e9, "use_rms_prop": False, **options}
    nets: dict[str, Any] = {"net_arch": [16], "activation_fn": th.nn.ReLU}
    if not shared["use_rms_prop"]:
        nets["optimizer_class"] = th.optim.SGD
    ours = make_model(
        env=pick_zero(action_space, n_envs), demonstrations=None, policy_kwargs=nets, actor_learning_rate=None, **shared
    )
    # The last layers start near zero, which would let the first ones stay as they are
    for parameter in ours.policy.parameters():
        th.nn.init.normal_(parameter, std=0.2)
    other = A2C("MlpPolicy", pick_zero(action_space, n_envs), vf_coef=0.5, policy_kwargs=nets, device="cpu", seed=0, **shared)
    other.policy.load_state_dict(ours.policy.state_dict())
    start = {name: value.clone() for name, value in ours.policy.state_dict().items()}
    for model in (ours, other):
        model.set_random_seed(3)
        model.learn(60)
    found, expected = ours.policy.state_dict(), other.policy.state_dict()
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert th.allclose(found[name], value, rtol=1e-3, atol=1e-5), name
        assert not th.allclose(found[name], start[name], rtol=1e-3, atol=1e-5), name


@pytest.mark.parametrize("action_space", CHOICES, ids=str)
def test_choices_are_learned(make_model: MakeModel, action_space: spaces.Space) -> None:
    options: dict[str, Any] = dict(n_steps=16, actor_learning_rate=1e-2, learning_rate=1e-2, gamma=0.5, gae_lambda=0.9)
    model = make_model(env=pick_zero(action_space, 2), demonstrations=None, **options).learn(1200)
    returns, lengths = evaluate_policy(model, pick_zero(action_space), 10, return_episode_rewards=True, warn=False)
    assert np.sum(returns) > 0.09 * np.sum(lengths)


@pytest.mark.parametrize("n_envs", [1, 4])
def test_an_update_takes_all_steps_of_all_environments(make_model: MakeModel, n_envs: int) -> None:
    model = make_model(env=make_vec_env("PointToGoal-v0", n_envs), demonstrations=None, n_steps=10).learn(80)
    assert model._n_updates == model._n_actor_updates == 80 // (10 * n_envs)
    assert model.num_timesteps == 80


def test_nothing_about_demonstrations_is_logged_or_waited_for(
    make_model: MakeModel, attach: Callable[[A2CfD], A2CfD], recorder: Any
) -> None:
    options: dict[str, Any] = dict(demonstrations=None, pretrain_steps=100, critic_warmup_steps=1000, bc_coef=1.0)
    model = attach(make_model(**options)).learn(40, log_interval=2)
    assert model._n_actor_updates == model._n_updates == 8
    assert model._n_held_steps == 0
    names = {name for row in recorder.rows for name in row}
    assert "train/policy_loss" in names
    assert not any(name.startswith("pretrain/") for name in names)
    assert not names & {"train/bc_loss", "train/bc_weight", "train/demo_log_likelihood"}
