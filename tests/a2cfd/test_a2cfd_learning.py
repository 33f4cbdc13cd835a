"""Learning with A2CfD as a whole: reproducible, in every setting that SB3 allows, and with success."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from clockwork import Clockwork, set_linear
from stable_baselines3.common.callbacks import CheckpointCallback, EvalCallback, StopTrainingOnMaxEpisodes
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.logger import configure
from stable_baselines3.common.monitor import Monitor

from sb3_pgfd import A2CfD, Demonstrations
from sb3_pgfd.a2cfd import MlpPolicy
from sb3_pgfd.callbacks import EvaluateFirst
from sb3_pgfd.demonstrations import Episode, record

MakeModel = Callable[..., A2CfD]
EVERYTHING: dict[str, Any] = dict(
    ent_coef=0.01,
    gae_lambda=0.9,
    normalize_advantage=True,
    critic_warmup_steps=20,
    bc_coef=0.5,
    use_rms_prop=True,
    learning_rate=lambda remaining: 1e-3 * remaining,
    actor_learning_rate=None,
    policy_kwargs={"net_arch": [16, 8], "log_std_max": 0.0},
)


def same(first: A2CfD, second: A2CfD) -> bool:
    states = (model.policy.state_dict().values() for model in (first, second))
    return all(th.equal(one, other) for one, other in zip(*states, strict=True))


@pytest.mark.parametrize("options", [{}, EVERYTHING, {"demonstrations": None}])
@pytest.mark.parametrize("n_envs", [1, 3])
def test_the_same_seed_gives_the_same_parameters_bit_for_bit(
    make_model: MakeModel, options: dict[str, Any], n_envs: int
) -> None:
    first, second = (
        make_model(env=make_vec_env("PointToGoal-v0", n_envs), **options, pretrain_steps=20).learn(120) for _ in range(2)
    )
    assert same(first, second)


def test_another_seed_gives_other_parameters(make_model: MakeModel) -> None:
    assert not same(make_model(seed=1).learn(30), make_model(seed=2).learn(30))


@pytest.mark.parametrize(
    "options",
    [{"bc_coef": 0.0}, {"pretrain_steps": 0}, {"n_steps": 1, "normalize_advantage": True}, {"gamma": 0.0}, EVERYTHING],
    ids=lambda options: "-".join(options),
)
def test_learning_moves_all_networks_to_finite_numbers(make_model: MakeModel, options: dict[str, Any]) -> None:
    model = make_model(**options)
    before = {name: value.clone() for name, value in model.policy.state_dict().items()}
    model.learn(100)
    after = model.policy.state_dict()
    assert all(th.isfinite(value).all() for value in after.values())
    assert not any(th.equal(after[name], before[name]) for name in after)


def read_log(folder: Path) -> list[dict[str, float]]:
    with (folder / "progress.csv").open() as file:
        return [{name: float(text) for name, text in row.items() if text} for row in csv.DictReader(file)]


@pytest.mark.parametrize("with_demonstrations", [True, False])
@pytest.mark.parametrize("task", ["PointToGoal-v0", "CartPole-v1"])
def test_everything_promised_is_logged(make_model: MakeModel, tmp_path: Path, task: str, with_demonstrations: bool) -> None:
    options: dict[str, Any] = {} if task == "PointToGoal-v0" else {"demonstrations": balancing()}
    model = make_model(env=task, gamma=0.9, bc_coef=0.5, bc_decay=0.9, **options)
    if not with_demonstrations:
        model.demonstrations = None
        model.demonstrations_source = None
    model.set_logger(configure(str(tmp_path), ["csv"]))
    model.learn(200, log_interval=5)
    rows = read_log(tmp_path)
    names = "policy_loss value_loss entropy explained_variance learning_rate actor_learning_rate n_updates"
    expected = {f"train/{name}" for name in names.split()} | {"time/fps", "time/total_timesteps", "rollout/ep_rew_mean"}
    of_demonstrations = {"train/bc_loss", "train/bc_weight", "train/demo_log_likelihood"}
    last = rows[-1]
    assert expected <= last.keys()
    assert of_demonstrations & last.keys() == (of_demonstrations if with_demonstrations else set())
    assert ("train/std" in last) == (task == "PointToGoal-v0")
    assert all(np.isfinite(value) for row in rows for value in row.values())
    assert (last["train/learning_rate"], last["train/actor_learning_rate"]) == (1e-3, 1e-4)
    # Logs come between a rollout and its update
    assert last["train/n_updates"] == 200 / 5 - 1
    assert all(row["train/value_loss"] >= 0.0 for row in rows if "train/value_loss" in row)
    assert all(row["train/explained_variance"] <= 1.0 for row in rows if "train/explained_variance" in row)
    if task == "PointToGoal-v0":
        assert np.exp(-3.0) <= last["train/std"] <= np.exp(1.0)
    else:
        assert 0.0 < last["train/entropy"] <= np.log(2.0)


def balancing() -> Demonstrations:
    """A pole that is pushed to where it falls to."""
    return record(lambda observation: int(observation[2] + observation[3] > 0), gym.make("CartPole-v1"), 1)


def test_the_demonstration_term_is_logged_as_it_enters_the_loss(
    make_model: MakeModel, attach: Callable[[A2CfD], A2CfD], recorder: Any
) -> None:
    # Nothing moves: the likelihood of one demonstration is known
    rates: dict[str, Any] = dict(learning_rate=0.0, actor_learning_rate=0.0, pretrain_steps=0, demo_batch_size=4)
    env = Clockwork([3.0, 3.0, 3.0, 3.0, 3.0])
    demonstrations = record(lambda _: np.full(1, 0.5, np.float32), Clockwork([1.0]), 1)
    model = attach(make_model(env=env, demonstrations=demonstrations, bc_coef=0.5, bc_decay=0.1, gamma=0.0, **rates))
    for layer in (model.policy.action_net, model.policy.value_net):
        set_linear(layer, 0.0, 0.0)
    model.learn(15, log_interval=1)
    weights = recorder.column("train/bc_weight")
    # The largest advantage is 3 - 0
    assert weights == pytest.approx([1.5, 0.15])
    log_likelihood = -0.5 * (0.5 / np.exp(-1.0)) ** 2 + 1.0 - 0.5 * np.log(2 * np.pi)
    assert recorder.column("train/demo_log_likelihood") == pytest.approx([log_likelihood] * 2, rel=1e-5)
    assert recorder.column("train/bc_loss") == pytest.approx([-1.5 * log_likelihood, -0.15 * log_likelihood], rel=1e-5)


def test_entropy_and_deviation_are_those_in_the_agents_own_states(
    make_model: MakeModel, attach: Callable[[A2CfD], A2CfD], recorder: Any
) -> None:
    # Demonstrations are in the states 50 to 52, the agent stays between 0 and 4
    states, actions = np.array([[50.0], [51.0], [52.0]], np.float32), np.zeros((2, 1), np.float32)
    demonstrations = Demonstrations.from_episodes([Episode(states, actions, np.zeros(2), terminated=True)])
    rates: dict[str, Any] = dict(learning_rate=0.0, actor_learning_rate=0.0, pretrain_steps=0, policy_kwargs={"net_arch": []})
    model = attach(make_model(env=Clockwork([0.0] * 5), demonstrations=demonstrations, **rates))
    assert isinstance(model.policy, MlpPolicy)
    with th.no_grad():
        model.policy.action_net.weight.copy_(th.tensor([[0.0], [1.0]]))
        model.policy.action_net.bias.copy_(th.tensor([0.0, -20.0]))
    model.learn(5).dump_logs()
    # log sigma is -3 where the agent is, and 1 where demonstrations are
    assert recorder.rows[-1]["train/std"] == pytest.approx(np.exp(-3.0), rel=1e-5)
    assert recorder.rows[-1]["train/entropy"] == pytest.approx(-3.0 + 0.5 * np.log(2 * np.pi * np.e), rel=1e-5)


def test_nothing_about_updates_is_logged_before_the_first(
    make_model: MakeModel, attach: Callable[[A2CfD], A2CfD], recorder: Any
) -> None:
    attach(make_model(demonstrations=None)).learn(10, log_interval=1)
    assert recorder.column("train/n_updates") == [1]
    assert len(recorder.column("train/policy_loss")) == 1


def test_logging_can_be_left_to_callbacks(make_model: MakeModel, attach: Callable[[A2CfD], A2CfD], recorder: Any) -> None:
    silent: Any = None
    model = attach(make_model(demonstrations=None, n_steps=1))
    model.learn(400, log_interval=silent)
    assert recorder.rows == []
    # Sums are kept in the place of what was not logged
    assert max(len(kept) for kept in model._metrics._kept.values()) < 400 == model._n_updates


def test_callbacks_of_sb3_and_of_this_package_work(make_model: MakeModel, tmp_path: Path) -> None:
    paths: dict[str, Any] = dict(log_path=str(tmp_path), best_model_save_path=str(tmp_path))
    evaluation = EvalCallback(Monitor(gym.make("PointToGoal-v0")), n_eval_episodes=2, eval_freq=40, verbose=0, **paths)
    checkpoints = CheckpointCallback(40, str(tmp_path))
    model = make_model().learn(100, [evaluation, checkpoints, EvaluateFirst(evaluation)])
    assert np.load(tmp_path / "evaluations.npz")["timesteps"].tolist() == [0, 40, 80]
    best = A2CfD.load(tmp_path / "best_model", device="cpu")
    assert best.policy.state_dict().keys() == model.policy.state_dict().keys()
    assert A2CfD.load(tmp_path / "rl_model_80_steps", device="cpu").num_timesteps == 80


def test_a_callback_can_end_learning(make_model: MakeModel) -> None:
    model = make_model().learn(1000, StopTrainingOnMaxEpisodes(max_episodes=2))
    assert model.num_timesteps <= 40


def success_rate(model: A2CfD) -> float:
    env = make_vec_env("PointToGoal-v0", seed=100)
    returns, _ = evaluate_policy(model, env, n_eval_episodes=10, return_episode_rewards=True)
    return float(np.mean(np.array(returns) > 0.0))


def test_cloning_solves_the_task_and_learning_does_not_unlearn_it(make_model: MakeModel) -> None:
    options: dict[str, Any] = dict(demo_batch_size=32, gamma=0.95, critic_warmup_steps=100, bc_decay=0.99)
    model = make_model(pretrain_steps=300, pretrain_learning_rate=1e-2, **options)
    assert success_rate(model) == 0.0
    assert success_rate(model.learn(0)) == 1.0
    assert success_rate(model.learn(500)) == 1.0


def test_the_demonstration_term_alone_clones_too(make_model: MakeModel) -> None:
    # Steps in any direction are paid alike: what is learned is what was demonstrated
    env, demonstrations = (
        Clockwork([1.0] * 10),
        record(lambda _: np.full(1, 0.8, np.float32), Clockwork([1.0] * 10), 1),
    )
    rates: dict[str, Any] = dict(pretrain_steps=0, actor_learning_rate=1e-2, bc_coef=5.0, bc_decay=1.0)
    model = make_model(env=env, demonstrations=demonstrations, **rates)
    model.learn(800)
    actions, _ = model.predict(np.arange(10, dtype=np.float32)[:, None], deterministic=True)
    assert actions == pytest.approx(np.full((10, 1), 0.8), abs=0.1)


class Progress(gym.Wrapper):
    """Pays each step to the right, where the goal is."""

    def step(self, action: Any) -> Any:
        before = self.env.get_wrapper_attr("position")
        observation, _, terminated, truncated, info = self.env.step(action)
        return observation, float(10.0 * (observation - before)[0]), terminated, truncated, info


def test_a_task_is_learned_without_demonstrations(make_model: MakeModel) -> None:
    rates: dict[str, Any] = dict(learning_rate=1e-2, actor_learning_rate=1e-2)
    options: dict[str, Any] = dict(n_steps=16, gamma=0.5, normalize_advantage=True, **rates)
    model = make_model(env=make_vec_env(lambda: Progress(gym.make("PointToGoal-v0")), 4), demonstrations=None, **options)
    assert success_rate(model) == 0.0
    model.learn(4000)
    assert success_rate(model) == 1.0


def test_tensorboard_runs_have_the_name_of_the_class(make_model: MakeModel, tmp_path: Path) -> None:
    model = make_model(demonstrations=None, tensorboard_log=str(tmp_path))
    model.learn(5).learn(5)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["A2CfD_1", "A2CfD_2"]
