"""What A2CfD learns from demonstrations alone, before the first environment step, and the warm-up of its critic."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from clockwork import ACTIONS, clockwork, set_linear
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st
from parameter_groups import copies, learning_rate
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from sb3_pgfd import A2CfD, Demonstrations
from sb3_pgfd.a2cfd import MlpPolicy
from sb3_pgfd.common.demonstration_batches import DemonstrationBatches, discounted_returns
from sb3_pgfd.demonstrations import Episode

MakeModel = Callable[..., A2CfD]
GAMMA = 0.5


class AtSteps(BaseCallback):
    """Keeps the weights at the start and at each step."""

    def __init__(self) -> None:
        super().__init__()
        self.actors: list[list[th.Tensor]] = []
        self.critics: list[list[th.Tensor]] = []

    def _on_training_start(self) -> None:
        self._keep()

    def _on_step(self) -> bool:
        self._keep()
        return True

    def _keep(self) -> None:
        assert isinstance(self.model, A2CfD)
        self.actors.append(copies(self.model.policy, "actor"))
        self.critics.append(copies(self.model.policy, "critic"))


def same(first: list[th.Tensor], second: list[th.Tensor]) -> bool:
    return all(th.equal(one, other) for one, other in zip(first, second, strict=True))


def episode(rewards: list[float], terminated: bool, actions: list[float] | None = None) -> Episode:
    """In the states 0, 1, 2, ..."""
    states = np.arange(len(rewards) + 1, dtype=np.float32)[:, None]
    taken = np.array(actions or [0.5] * len(rewards), dtype=np.float32)[:, None]
    return Episode(states, taken, np.array(rewards), terminated)


# --- Targets ---------------------------------------------------------------------------------------------------------


def test_returns_are_discounted_within_each_episode() -> None:
    found = discounted_returns(np.array([1.0, 2.0, 4.0, 8.0, 16.0]), np.array([3, 1, 1]), 0.5)
    assert found.tolist() == [1 + 0.5 * 2 + 0.25 * 4, 2 + 0.5 * 4, 4.0, 8.0, 16.0]
    assert discounted_returns(np.array([1.0, 2.0]), np.array([2]), 0.0).tolist() == [1.0, 2.0]
    assert discounted_returns(np.array([1.0, 2.0]), np.array([2]), 1.0).tolist() == [3.0, 2.0]


@given(
    st.lists(st.lists(st.floats(-10.0, 10.0), min_size=1, max_size=6), min_size=1, max_size=4),
    st.sampled_from([0.0, 0.5, 1.0]),
)
def test_returns_are_sums_over_the_rest_of_the_episode(episodes: list[list[float]], gamma: float) -> None:
    rewards = np.array([reward for rewards in episodes for reward in rewards])
    found = discounted_returns(rewards, np.array([len(rewards) for rewards in episodes]), gamma)
    expected = [
        sum(gamma**k * reward for k, reward in enumerate(rewards[t:])) for rewards in episodes for t in range(len(rewards))
    ]
    assert found == pytest.approx(np.array(expected))


def make_batches(demonstrations: Demonstrations, weight: float = 0.0, bias: float = 0.0) -> DemonstrationBatches:
    """:return: Batches for a policy with V(s) = weight s + bias"""
    states = spaces.Box(-100.0, 100.0, (1,))
    policy = MlpPolicy(states, ACTIONS, lambda _: 1e-3, net_arch=[])
    set_linear(policy.value_net, weight, bias)
    return DemonstrationBatches(demonstrations, policy, GAMMA)


def test_a_truncated_episode_is_worth_what_its_last_state_is() -> None:
    demonstrations = Demonstrations.from_episodes([episode([1.0, 2.0, 4.0], True), episode([8.0, 16.0], False)])
    targets = make_batches(demonstrations, 3.0, 1.0).value_targets(np.array([0, 2, 3, 4, 3]))
    # The second episode ends in the state 2, with V(2) = 7
    assert targets.tolist() == [3.0, 4.0, 16.0 + 0.25 * 7.0, 16.0 + 0.5 * 7.0, 16.0 + 0.25 * 7.0]
    assert not targets.requires_grad


@pytest.mark.parametrize("terminated", [True, False])
def test_the_critic_regresses_the_returns_bootstrapped_where_truncated(
    make_model: MakeModel, attach: Callable[[A2CfD], A2CfD], recorder: Any, terminated: bool
) -> None:
    options: dict[str, Any] = dict(pretrain_steps=1, pretrain_learning_rate=0.0, gamma=GAMMA, demo_batch_size=200)
    options |= dict(demonstrations=Demonstrations.from_episodes([episode([8.0, 16.0], terminated)]))
    model = attach(make_model(env=clockwork([1.0])(), policy_kwargs={"net_arch": []}, **options))
    set_linear(model.policy.value_net, 2.0, 1.0)
    np.random.seed(0)
    rows = np.random.randint(0, 2, size=200)
    np.random.seed(0)
    model.learn(0)
    # V(0), V(1), V(2) = 1, 3, 5; the last one counts at a time limit
    errors = np.array([16.0 - 1.0, 16.0 - 3.0]) if terminated else np.array([16.0 + 0.25 * 5 - 1.0, 16.0 + 0.5 * 5 - 3.0])
    assert recorder.rows[-1]["pretrain/value_loss"] == pytest.approx((errors[rows] - 0.5).mean(), rel=1e-5)


def test_batches_are_drawn_from_all_demonstrations_alike(demonstrations: Demonstrations) -> None:
    np.random.seed(0)
    rows = make_batches(demonstrations).sample(20_000).rows
    counts = np.bincount(rows, minlength=len(demonstrations))
    assert counts.min() > 0.8 * 20_000 / len(demonstrations)
    assert counts.max() < 1.2 * 20_000 / len(demonstrations)


# --- Once, and before anything else ----------------------------------------------------------------------------------


def test_pretraining_is_over_when_the_first_callback_is_called(make_model: MakeModel) -> None:
    model, callback = make_model(pretrain_steps=7), AtSteps()
    before = copies(model.policy, "actor"), copies(model.policy, "critic")
    model.learn(1, callback)
    for first, found in zip(before, (callback.actors[0], callback.critics[0]), strict=True):
        assert not any(th.equal(one, other) for one, other in zip(first, found, strict=True))


def test_pretraining_makes_no_environment_step_and_counts_no_update(make_model: MakeModel) -> None:
    model = make_model(pretrain_steps=5).learn(0)
    assert (model.num_timesteps, model._n_updates, model._n_actor_updates) == (0, 0, 0)
    assert model._pretrained


def test_pretraining_happens_once_in_a_models_life(make_model: MakeModel, tmp_path: Path) -> None:
    class Counting(A2CfD):
        """Counts updates of pretraining."""

        count = 0

        def _pretrain_update(self) -> None:
            self.count += 1
            super()._pretrain_update()

    model = make_model(algorithm=Counting, pretrain_steps=5).learn(5)
    assert isinstance(model, Counting)
    assert model.learn(5).count == 5
    model.save(tmp_path / "model")
    loaded = Counting.load(tmp_path / "model", env=gym.make("PointToGoal-v0"), demonstrations=model.demonstrations)
    assert loaded.learn(5).count == 5
    before = make_model(algorithm=Counting, pretrain_steps=5)
    before.save(tmp_path / "before")
    untouched = Counting.load(tmp_path / "before", env=gym.make("PointToGoal-v0"), demonstrations=model.demonstrations)
    assert untouched.learn(5).count == 5, "it had not learned before it was saved"


def test_pretraining_is_logged(make_model: MakeModel, attach: Callable[[A2CfD], A2CfD], recorder: Any) -> None:
    attach(make_model(pretrain_steps=120)).learn(0)
    # About 50 points: one for every 120 // 50 = 2 updates
    assert recorder.column("pretrain/n_updates") == list(range(2, 121, 2))
    for name in ("value_loss", "bc_loss", "demo_log_likelihood"):
        values = recorder.column(f"pretrain/{name}")
        assert len(values) == 60
        assert np.isfinite(values).all()
    negative = [-value for value in recorder.column("pretrain/bc_loss")]
    assert recorder.column("pretrain/demo_log_likelihood") == pytest.approx(negative)
    assert not any(name.startswith("train/") for row in recorder.rows for name in row)


def test_cloning_and_regression_get_better_while_pretraining(
    make_model: MakeModel, attach: Callable[[A2CfD], A2CfD], recorder: Any
) -> None:
    attach(make_model(pretrain_steps=200, pretrain_learning_rate=1e-2)).learn(0)
    likelihood, loss = (np.array(recorder.column(f"pretrain/{name}")) for name in ("demo_log_likelihood", "value_loss"))
    assert likelihood[-5:].mean() > likelihood[:5].mean() + 1.0
    assert loss[-5:].mean() < loss[:5].mean() / 3


def test_the_critic_learns_the_returns_of_the_demonstrations(make_model: MakeModel, demonstrations: Demonstrations) -> None:
    model = make_model(pretrain_steps=400, pretrain_learning_rate=1e-2, gamma=0.95, demo_batch_size=32).learn(0)
    returns = discounted_returns(demonstrations.rewards, demonstrations.episode_lengths, 0.95)
    states: Any = demonstrations.observations
    with th.no_grad():
        values = model.policy.predict_values(th.as_tensor(np.array(states))).flatten().numpy()
    assert np.abs(values - returns).max() < 0.15
    assert np.corrcoef(values, returns)[0, 1] > 0.95


@pytest.mark.parametrize(("given", "expected"), [(3e-3, (3e-3, 3e-3)), (None, (2e-3, 1e-4))])
def test_pretraining_has_a_learning_rate_of_its_own(
    make_model: MakeModel, given: float | None, expected: tuple[float, float]
) -> None:
    model = make_model(
        learning_rate=lambda remaining: 2e-3 * remaining, actor_learning_rate=1e-4, pretrain_learning_rate=given
    )
    model.learn(0)
    assert [learning_rate(model.policy, name) for name in ("critic", "actor")] == pytest.approx(expected)
    model.learn(5)
    assert [learning_rate(model.policy, name) for name in ("critic", "actor")] == pytest.approx([0.0, 1e-4])


def test_schedules_begin_anew_for_the_pretraining_of_a_model_that_has_learned_before(
    make_model: MakeModel, demonstrations: Demonstrations, tmp_path: Path
) -> None:
    # The last rate of what it learned without demonstrations is 0
    model = make_model(demonstrations=None, learning_rate=lambda remaining: 1e-3 * remaining, actor_learning_rate=None)
    model.learn(5).save(tmp_path / "model")
    options: dict[str, Any] = dict(demonstrations=demonstrations, pretrain_learning_rate=None, device="cpu")
    loaded = A2CfD.load(tmp_path / "model", env=gym.make("PointToGoal-v0"), **options)
    before = copies(loaded.policy, "actor")
    loaded.learn(0)
    assert not same(before, copies(loaded.policy, "actor"))


def test_pretraining_can_be_left_out(make_model: MakeModel, attach: Callable[[A2CfD], A2CfD], recorder: Any) -> None:
    model, callback = make_model(pretrain_steps=0), AtSteps()
    before = copies(model.policy, "actor")
    attach(model).learn(20, callback)
    assert same(before, callback.actors[0])
    assert not any(name.startswith("pretrain/") for row in recorder.rows for name in row)


@pytest.mark.filterwarnings("ignore::tqdm.TqdmExperimentalWarning")
def test_a_progress_bar_shows_pretraining(make_model: MakeModel, capfd: pytest.CaptureFixture[str]) -> None:
    make_model(pretrain_steps=3).learn(2, progress_bar=True)
    captured = capfd.readouterr()
    assert "Pretraining" in captured.out + captured.err


def test_normalisation_takes_in_the_demonstrations_once_and_first(
    make_model: MakeModel, demonstrations: Demonstrations
) -> None:
    env = VecNormalize(DummyVecEnv([lambda: gym.make("PointToGoal-v0")]), gamma=0.9)
    model = make_model(env=env).learn(0)
    expected = RunningMeanStd(shape=(1,))
    expected.update(np.asarray(demonstrations.observations))
    # learn() resets the environment, which counts as one more observation
    expected.update(np.asarray(env.get_original_obs()))
    assert isinstance(env.obs_rms, RunningMeanStd)
    assert env.obs_rms.mean == pytest.approx(expected.mean)
    assert env.obs_rms.count == pytest.approx(expected.count)
    assert env.ret_rms.count == pytest.approx(len(demonstrations), abs=1e-3)
    count = env.obs_rms.count
    model.learn(0)
    assert env.obs_rms.count == pytest.approx(count + 1)


# --- Warm-up of the critic -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n_steps", "n_envs", "warmup", "held"), [(5, 1, 20, 20), (5, 1, 18, 20), (4, 3, 24, 24), (5, 1, 0, 0)]
)
def test_the_actor_is_held_while_the_critic_warms_up(
    make_model: MakeModel, n_steps: int, n_envs: int, warmup: int, held: int
) -> None:
    env, callback = make_vec_env("PointToGoal-v0", n_envs), AtSteps()
    # Bit for bit, also with momentum from pretraining: Adam would go on moving without a gradient
    model = make_model(env=env, n_steps=n_steps, critic_warmup_steps=warmup, ent_coef=0.1)
    model.learn(held + 2 * n_steps * n_envs, callback)
    moved = [not same(callback.actors[0], actor) for actor in callback.actors]
    # The weights at a step are those before the update that follows its rollout
    first = (held + n_steps * n_envs) // n_envs
    assert moved == [index > first for index in range(len(moved))]
    assert not same(callback.critics[0], callback.critics[n_steps + 1])
    assert model._n_held_steps == held
    assert model._n_updates - model._n_actor_updates == held // (n_steps * n_envs)


def test_nothing_about_the_actor_is_logged_while_it_is_held(
    make_model: MakeModel, attach: Callable[[A2CfD], A2CfD], recorder: Any
) -> None:
    attach(make_model(critic_warmup_steps=1000)).learn(40, log_interval=2)
    assert len(recorder.column("train/value_loss")) > 2
    assert recorder.column("train/policy_loss") == recorder.column("train/bc_weight") == []


def test_the_demonstration_term_begins_at_its_full_weight_when_the_warm_up_is_over(make_model: MakeModel) -> None:
    model = make_model(critic_warmup_steps=20, bc_decay=0.5).learn(20)
    assert model._n_actor_updates == 0
    assert model.learn(15)._n_actor_updates == 3


def test_the_warm_up_goes_on_where_a_saved_model_left_off(
    make_model: MakeModel, demonstrations: Demonstrations, tmp_path: Path
) -> None:
    make_model(critic_warmup_steps=20).learn(10).save(tmp_path / "model")
    options: dict[str, Any] = dict(demonstrations=demonstrations, device="cpu")
    loaded = A2CfD.load(tmp_path / "model", env=gym.make("PointToGoal-v0"), **options)
    actor = copy.deepcopy(copies(loaded.policy, "actor"))
    assert same(actor, copies(loaded.learn(10).policy, "actor"))
    assert not same(actor, copies(loaded.learn(5).policy, "actor"))
    shorter = A2CfD.load(tmp_path / "model", env=gym.make("PointToGoal-v0"), critic_warmup_steps=0, **options)
    assert shorter.learn(5)._n_actor_updates == 1
