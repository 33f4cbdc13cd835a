"""SACfD as a whole: options, acting, saving, and what it learns."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from stable_baselines3.common.evaluation import evaluate_policy

from sb3_pgfd import Demonstrations, DemoReplayBuffer, SACfD
from sb3_pgfd.replay.own_episodes import POLICY_ACTION
from sb3_pgfd.sacfd import MlpPolicy

MakeModel = Callable[..., SACfD]
STATES = np.linspace(-1.0, 1.0, 20, dtype=np.float32)[:, None]


def assert_acts_the_same(one: Any, other: Any) -> None:
    """:param one: A model or a policy"""
    for deterministic in (True, False):
        actions = []
        for acting in (one, other):
            th.manual_seed(0)
            actions.append(acting.predict(STATES, deterministic=deterministic)[0])
        np.testing.assert_array_equal(actions[0], actions[1])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"ent_coef": "automatic"}, ValueError, r"ent_coef: found 'automatic', expected a number >= 0, \"auto\""),
        ({"ent_coef": "auto_0"}, ValueError, "ent_coef: found 'auto_0'"),
        ({"ent_coef": -0.1}, ValueError, "ent_coef: found -0.1"),
        ({"target_entropy": "low"}, ValueError, "target_entropy: found 'low', expected a number or \"auto\""),
        ({"entropy_backup": "no"}, ValueError, "entropy_backup: found 'no', expected True or False"),
        ({"policy_delay": 0}, ValueError, "policy_delay: found 0"),
        ({"use_sde": True}, ValueError, "SACfD: found use_sde=True, expected none: .* SB3's SAC has gSDE"),
        ({"policy_kwargs": {"use_sde": True}}, ValueError, "SACfD: found use_sde=True"),
        ({"policy_kwargs": {"n_target_critics": 4}}, ValueError, "n_target_critics: found 4, .* from 1 to n_critics=3"),
        ({"policy_kwargs": {"log_std_init": 3.0}}, ValueError, "log_std_init: found 3.0"),
        ({"ent_coeff": 0.1}, TypeError, "did you mean 'ent_coef'"),
        ({"target_policy_noise": 0.1}, TypeError, "found the unknown argument 'target_policy_noise'"),
    ],
)
def test_options_out_of_range_are_refused(make_model: MakeModel, options: dict[str, Any], error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        make_model(**options)


@pytest.mark.parametrize("view", ["box", "dict", "image", "dict_image"])
def test_learning_works_on_every_kind_of_observation(
    make_model: MakeModel, record: Callable[..., Demonstrations], view: str
) -> None:
    policy = {"box": "MlpPolicy", "image": "CnnPolicy"}.get(view, "MultiInputPolicy")
    env = gym.make("PointToGoal-v0", view=view)
    model = make_model(policy, env, demonstrations=record(view, 1), pretrain_steps=2).learn(26)
    assert all(th.isfinite(value).all() for value in model.policy.state_dict().values())
    assert model._n_updates > 2


@pytest.mark.parametrize("ent_coef", ["auto_0.05", 0.02])
def test_a_model_comes_back_from_its_file_and_learns_the_same(
    make_model: MakeModel, demonstrations: Demonstrations, tmp_path: Path, ent_coef: Any
) -> None:
    model = make_model(ent_coef=ent_coef, learning_rate=1e-2).learn(30)
    model.save(tmp_path / "model")
    model.save_replay_buffer(tmp_path / "buffer")
    loaded = SACfD.load(tmp_path / "model", env=gym.make("PointToGoal-v0"), demonstrations=demonstrations, device="cpu")
    loaded.load_replay_buffer(tmp_path / "buffer")
    assert (loaded.ent_coef, loaded.target_entropy) == (ent_coef, -1.0)
    assert_acts_the_same(loaded, model)
    for one in (model, loaded):
        one.set_logger(model.logger)
        np.random.seed(1)
        th.manual_seed(1)
        one._update_learning_rates()
        one.train(10, 8)
    expected, found = (one.get_parameters() for one in (model, loaded))
    assert found.keys() == expected.keys()
    for name, value in expected["policy"].items():
        assert th.equal(found["policy"][name], value), name
    if ent_coef == "auto_0.05":
        assert th.equal(loaded.log_ent_coef, model.log_ent_coef)  # type: ignore[arg-type]
        assert "ent_coef_optimizer" in expected


def test_parameters_go_from_one_model_to_another(make_model: MakeModel) -> None:
    one, other = make_model(seed=1).learn(20), make_model(seed=2)
    other.set_parameters(one.get_parameters())  # type: ignore[arg-type]  # SB3 declares another type
    assert_acts_the_same(other, one)


def test_a_policy_comes_back_from_its_file_and_acts_the_same(make_model: MakeModel, tmp_path: Path) -> None:
    policy = make_model(policy_kwargs={"log_std_init": -1.0, "share_features_extractor": True}).learn(20).policy
    policy.save(str(tmp_path / "policy"))
    loaded = MlpPolicy.load(str(tmp_path / "policy"))
    assert loaded.log_std_init == -1.0
    assert loaded.share_features_extractor
    assert_acts_the_same(loaded, policy)


def test_the_mean_of_the_actors_acts_without_noise_and_the_last_one_explores(make_model: MakeModel) -> None:
    model = make_model(learning_rate=1e-2, policy_kwargs={"average_actor": 0.01}).learn(30)
    with th.no_grad():
        mean, last = (actor(th.tensor(STATES), deterministic=True) for actor in (model.policy.mean_actor, model.actor))
    np.testing.assert_allclose(model.predict(STATES, deterministic=True)[0], 2.0 * mean.numpy(), rtol=1e-5)
    assert not np.allclose(mean, last)
    drawn = np.stack([model.predict(STATES)[0] for _ in range(200)])
    with th.no_grad():
        deviation = model.policy.draw(th.tensor(STATES)).log_std.exp().numpy()
    # tanh is steepest at 0: the deviation of the actions is at most that of the Gaussian
    assert (drawn.std(axis=0) <= 2.0 * deviation * 1.25).all()
    assert (drawn.std(axis=0) > 0.0).all()


def test_own_successes_are_cloned_without_their_noise(make_model: MakeModel) -> None:
    class Watched(DemoReplayBuffer):
        seen: list[np.ndarray] = []  # noqa: RUF012

        def add(self, obs: Any, next_obs: Any, action: Any, reward: Any, done: Any, infos: Any) -> None:
            self.seen.append(np.array([obs, action, infos[0][POLICY_ACTION].reshape(1, 1)], dtype=np.float32))
            super().add(obs, next_obs, action, reward, done, infos)

    kwargs = {"denoise_successes": True}
    model = make_model(replay_buffer_class=Watched, replay_buffer_kwargs=kwargs, learning_rate=0.0, pretrain_steps=3)
    model.learn(15)
    observations, actions, intended = np.stack(Watched.seen[-15:]).transpose(1, 0, 2, 3)[..., 0]
    with th.no_grad():
        modes = model.actor(th.tensor(observations), deterministic=True).numpy()
    np.testing.assert_allclose(intended, modes, atol=1e-6)
    assert np.abs(actions - intended).max() > 0.01


def test_it_reaches_the_goal_where_one_demonstration_shows_the_way(
    make_model: MakeModel, record: Callable[..., Demonstrations]
) -> None:
    model = make_model(
        demonstrations=record("box", 1), pretrain_steps=200, learning_rate=3e-3, batch_size=32, gamma=0.9, q_range=(0.0, 1.0)
    )
    model.learn(300)
    returns, _ = evaluate_policy(model, gym.make("PointToGoal-v0"), 5, return_episode_rewards=True, warn=False)
    assert returns == [1.0] * 5


@pytest.mark.parametrize(
    ("saved", "wanted", "expected"),
    # The same word leaves what was learned; another one begins anew
    [(0.2, 0.01, 0.01), (0.2, 0.2, 0.2), ("auto_0.01", "auto_0.5", 0.5), ("auto_0.01", "auto_0.01", None)],
)
def test_another_entropy_coefficient_holds_after_loading(
    make_model: MakeModel, tmp_path: Path, saved: Any, wanted: Any, expected: float | None
) -> None:
    model = make_model(ent_coef=saved, learning_rate=0.1).learn(20)
    model.save(tmp_path / "model")
    loaded = SACfD.load(tmp_path / "model", ent_coef=wanted, device="cpu")

    def alpha(of: SACfD) -> float:
        return float(of.ent_coef_tensor if of.log_ent_coef is None else of.log_ent_coef.exp())

    assert loaded.ent_coef == wanted
    assert alpha(loaded) == pytest.approx(alpha(model) if expected is None else expected)


def test_an_entropy_coefficient_stays_learned_or_fixed(make_model: MakeModel, tmp_path: Path) -> None:
    make_model(ent_coef=0.2).save(tmp_path / "fixed")
    make_model(ent_coef="auto").save(tmp_path / "learned")
    with pytest.raises(ValueError, match=r"SACfD.load: found ent_coef='auto', expected a number as saved \(0.2\)"):
        SACfD.load(tmp_path / "fixed", ent_coef="auto")
    with pytest.raises(ValueError, match=r"SACfD.load: found ent_coef=0.2, expected auto, .* as saved \('auto'\)"):
        SACfD.load(tmp_path / "learned", ent_coef=0.2)
