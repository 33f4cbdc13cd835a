"""What a model says of its options and demonstrations when it starts to learn."""

import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from clockwork import Clockwork
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from torch.optim import Adamax

from sb3_pgfd import A2CfD, DDPGfD, Demonstrations, DemonstrationsError, DemoReplayBuffer, SACfD, TD3fD
from sb3_pgfd.demonstrations import Episode
from sb3_pgfd.utils.memory import GIB, total_memory
from sb3_pgfd.utils.warning import OptionWarning

SMALL: dict[str, Any] = {"device": "cpu", "policy_kwargs": {"net_arch": [4]}}
OFF_POLICY: dict[str, Any] = {**SMALL, "buffer_size": 100, "batch_size": 4}


def clockwork_demonstrations(rewards: list[float]) -> Demonstrations:
    observations = np.arange(len(rewards) + 1, dtype=np.float32)[:, None]
    return Demonstrations.from_episodes(
        [Episode(observations, np.zeros((len(rewards), 1), np.float32), np.array(rewards), True)]
    )


def said(model: Any, n_steps: int = 4) -> list[str]:
    """:return: The warnings of ``learn``"""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.learn(n_steps)
    assert {warning.filename for warning in caught} <= {__file__}
    return [str(warning.message) for warning in caught if warning.category is OptionWarning]


# --- Without demonstrations ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", [DDPGfD, TD3fD, SACfD, A2CfD])
def test_a_model_without_demonstrations_says_so_once(algorithm: Any) -> None:
    model = algorithm("MlpPolicy", "PointToGoal-v0", **SMALL)
    expected = (
        f"{algorithm.__name__}: found no demonstrations: it learns from its own experience alone. Pass demonstrations=..., or "
        "call add_demonstrations() before learn()"
    )
    assert said(model) == [expected]
    assert said(model) == []


CHOSEN: list[tuple[Any, dict[str, Any], str]] = [
    (DDPGfD, {"bc_coef": 2.0}, "bc_coef=2.0, which"),
    (TD3fD, {"replay_buffer_kwargs": {"demo_fraction": 0.25}}, "demo_fraction=0.25, which"),
    (SACfD, {"bc_coef": 0.5}, "bc_coef=0.5, which"),
    (A2CfD, {"pretrain_steps": 7}, "pretrain_steps=7, which"),
    (TD3fD, {"bc_coef": 1.0, "critic_warmup_steps": 9}, "bc_coef=1.0, critic_warmup_steps=9, which"),
    # Own successes are no reason to pretrain
    (
        DDPGfD,
        {"bc_coef": 1.0, "pretrain_steps": 5, "replay_buffer_kwargs": {"keep_successes": True}},
        "pretrain_steps=5, which",
    ),
]


@pytest.mark.parametrize(("algorithm", "options", "message"), CHOSEN)
def test_options_that_need_demonstrations_are_refused_without(algorithm: Any, options: dict[str, Any], message: str) -> None:
    model = algorithm("MlpPolicy", "PointToGoal-v0", **SMALL, **options)
    with pytest.raises(DemonstrationsError, match=f"^{algorithm.__name__}: found no demonstrations, but {message}"):
        model.learn(4)


def test_switched_off_they_are_not(demonstrations: Demonstrations) -> None:
    off: dict[str, Any] = {"bc_coef": 0.0, "pretrain_steps": 0, "critic_warmup_steps": 0}
    assert (
        len(said(TD3fD("MlpPolicy", "PointToGoal-v0", replay_buffer_kwargs={"demo_fraction": None}, **off, **OFF_POLICY))) == 1
    )


def test_demonstrations_may_be_added_before_learning(demonstrations: Demonstrations) -> None:
    model = DDPGfD("MlpPolicy", "PointToGoal-v0", bc_coef=1.0, pretrain_steps=2, **OFF_POLICY)
    model.add_demonstrations(demonstrations)
    assert said(model) == []


def test_own_successes_are_cloned_and_drawn_where_the_user_asks_for_them() -> None:
    kept = {"keep_successes": True, "demo_fraction": 0.5}
    model = DDPGfD("MlpPolicy", "PointToGoal-v0", bc_coef=1.0, replay_buffer_kwargs=kept, **OFF_POLICY)
    assert len(said(model)) == 1


def test_a_model_that_goes_on_without_them_on_purpose_may(demonstrations: Demonstrations, tmp_path: Path) -> None:
    options: dict[str, Any] = {"bc_coef": 1.0, "pretrain_steps": 2, **OFF_POLICY}
    DDPGfD("MlpPolicy", "PointToGoal-v0", demonstrations, **options).learn(4).save(tmp_path / "model")
    env = gym.make("PointToGoal-v0")
    model = DDPGfD.load(tmp_path / "model", env=env, demonstrations_source=None)
    assert said(model) == []


def test_a_model_that_was_saved_before_it_learned_knows_what_was_chosen(tmp_path: Path) -> None:
    DDPGfD("MlpPolicy", "PointToGoal-v0", bc_coef=2.0, **OFF_POLICY).save(tmp_path / "model")
    with pytest.raises(DemonstrationsError, match=r"but bc_coef=2\.0, which"):
        DDPGfD.load(tmp_path / "model", env=gym.make("PointToGoal-v0")).learn(4)


# --- Options without effect ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("algorithm", "options", "expected"),
    [
        (DDPGfD, {"q_filter": True}, "q_filter=True has no effect: it needs bc_coef > 0"),
        (DDPGfD, {"n_steps": 1, "n_step_coef": 0.5}, "n_step_coef=0.5 has no effect: it needs n_steps > 1"),
        (TD3fD, {"replay_buffer_kwargs": {"demo_bonus": 0.5}}, "demo_bonus=0.5 has no effect: it needs demo_fraction=None"),
        (
            DDPGfD,
            {"replay_buffer_kwargs": {"max_success_transitions": 9}},
            "max_success_transitions=9 has no effect: it needs keep_successes=True",
        ),
        (
            DDPGfD,
            {"replay_buffer_kwargs": {"denoise_successes": True, "keep_successes": True}},
            "denoise_successes=True has no effect: it needs keep_successes=True and bc_coef > 0",
        ),
        (
            TD3fD,
            {"target_policy_noise": 0.0, "target_noise_clip": 0.3},
            "target_noise_clip=0.3 has no effect: it needs target_",
        ),
        (SACfD, {"ent_coef": 0.1, "target_entropy": -2.0}, 'target_entropy=-2.0 has no effect: it needs ent_coef="auto"'),
        (A2CfD, {"bc_coef": 0.0, "bc_decay": 0.9}, "bc_decay=0.9 has no effect: it needs bc_coef > 0"),
        (A2CfD, {"sde_sample_freq": 4}, "sde_sample_freq=4 has no effect: it needs use_sde=True"),
        (
            A2CfD,
            {"use_sde": True, "policy_kwargs": {"log_std_min": -3.0}},
            "log_std_min=-3.0 has no effect: it needs continuous actions and use_sde=False",
        ),
        (
            A2CfD,
            {"policy": ActorCriticPolicy, "actor_learning_rate": 1e-4},
            "actor_learning_rate=0.0001 has no effect: it needs a policy of this package",
        ),
        (
            A2CfD,
            {"use_rms_prop": True, "policy_kwargs": {"optimizer_class": Adamax}},
            "use_rms_prop=True has no effect: it needs policy_kwargs without optimizer_class",
        ),
    ],
)
def test_an_option_without_effect_is_named(
    algorithm: Any, options: dict[str, Any], expected: str, demonstrations: Demonstrations
) -> None:
    options = {"policy": "MlpPolicy", "pretrain_steps": 2, **(SMALL if algorithm is A2CfD else OFF_POLICY), **options}
    (found,) = said(algorithm(env="PointToGoal-v0", demonstrations=demonstrations, **options))
    assert found.startswith(expected)


@pytest.mark.parametrize(
    "options",
    [
        {"use_rms_prop": True, "actor_learning_rate": 1e-4, "policy_kwargs": {"log_std_min": -3.0, "log_std_init": -1.0}},
        {"use_sde": True, "sde_sample_freq": 4},
        {"sde_sample_freq": -1},
    ],
    ids=str,
)
def test_options_of_a2cfd_that_have_an_effect_are_not_named(options: dict[str, Any], demonstrations: Demonstrations) -> None:
    small = {**SMALL, "policy_kwargs": {"net_arch": [4], **options.pop("policy_kwargs", {})}}
    assert said(A2CfD("MlpPolicy", "PointToGoal-v0", demonstrations, pretrain_steps=2, **small, **options)) == []


def test_what_has_an_effect_is_not(demonstrations: Demonstrations) -> None:
    buffer = {"demo_bonus": 0.5, "relative_priorities": True, "keep_successes": True, "max_success_transitions": 9}
    options: dict[str, Any] = {"bc_coef": 1.0, "q_filter": True, "n_steps": 2, "n_step_coef": 0.5, "pretrain_steps": 2}
    model = DDPGfD("MlpPolicy", "PointToGoal-v0", demonstrations, replay_buffer_kwargs=buffer, **options, **OFF_POLICY)
    assert said(model) == []


def test_a_loaded_model_may_have_fewer_options_of_the_buffer(demonstrations: Demonstrations, tmp_path: Path) -> None:
    options: dict[str, Any] = {"pretrain_steps": 2, "replay_buffer_kwargs": {"demo_fraction": None, "demo_bonus": 0.5}}
    DDPGfD("MlpPolicy", "PointToGoal-v0", demonstrations, **options, **OFF_POLICY).learn(4).save(tmp_path / "model")
    given: dict[str, Any] = {"demonstrations": demonstrations, "replay_buffer_kwargs": {"demo_fraction": 0.5}}
    model = DDPGfD.load(tmp_path / "model", env=gym.make("PointToGoal-v0"), **given)
    assert said(model) == []
    assert model.buffer.demo_fraction == 0.5


def test_a_clone_that_has_been_trained_proposes_without_more_of_it(demonstrations: Demonstrations, tmp_path: Path) -> None:
    options: dict[str, Any] = {"proposals": True, "pretrain_steps": 2, **OFF_POLICY}
    TD3fD("MlpPolicy", "PointToGoal-v0", demonstrations, **options).learn(4).save(tmp_path / "model")
    given: dict[str, Any] = {"demonstrations": demonstrations, "pretrain_steps": 0}
    assert said(TD3fD.load(tmp_path / "model", env=gym.make("PointToGoal-v0"), **given)) == []


# --- Demonstrations --------------------------------------------------------------------------------------------------


def test_rewards_that_are_all_zero_are_named() -> None:
    dataset = clockwork_demonstrations([0.0, 0.0])
    (found,) = said(DDPGfD("MlpPolicy", Clockwork([0.0]), dataset, pretrain_steps=1, **OFF_POLICY))
    assert found.startswith("demonstrations: found no reward but 0, expected some that tell success from failure")
    assert (
        said(DDPGfD("MlpPolicy", Clockwork([0.0]), clockwork_demonstrations([0.0, 1.0]), pretrain_steps=1, **OFF_POLICY)) == []
    )


@pytest.mark.parametrize(
    ("q_range", "is_outside"), [((0.0, 2.0), True), ((1.0, 2.5), False), ((1.25, 2.5), True), ((0.0, np.inf), False)]
)
def test_returns_outside_of_their_range_are_named(q_range: tuple[float, float], is_outside: bool) -> None:
    # With gamma 0.5: 1 + 0.5 (2 + 0.5 * 2), 2 + 0.5 * 2 and 2 make 2.5, 3 and 2; here 2 + 0.5 = 2.5 and 1
    dataset = clockwork_demonstrations([2.0, 1.0])
    model = DDPGfD("MlpPolicy", Clockwork([0.0]), dataset, q_range=q_range, gamma=0.5, pretrain_steps=1, **OFF_POLICY)
    found = said(model)
    assert len(found) == is_outside
    if is_outside:
        assert found[0].startswith("q_range: found discounted returns of the demonstrations from 1 to 2.5, expected all in")


@pytest.mark.parametrize(("reward", "q_range", "is_outside"), [(1.0, (0.0, 1.0), True), (100.0, (0.0, 3.0), False)])
def test_returns_are_normalised_as_the_first_learn_will(reward: float, q_range: tuple[float, float], is_outside: bool) -> None:
    # The running returns are 0, 0 and the reward, so the variance is 2/9 of its square, but for SB3's count of 1e-4 before
    env = VecNormalize(DummyVecEnv([lambda: Clockwork([0.0])]), norm_obs=False, gamma=0.5)
    dataset = clockwork_demonstrations([0.0, 0.0, reward])
    model = DDPGfD("MlpPolicy", env, dataset, q_range=q_range, gamma=0.5, pretrain_steps=1, **OFF_POLICY)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.check_options_for_learning()
    assert model._vec_normalize_env is env
    assert env.ret_rms.var == 1.0, "looking changes nothing"
    found = [str(one.message) for one in caught if one.category is OptionWarning]
    assert len(found) == is_outside
    if is_outside:
        assert found[0].startswith("q_range: found discounted returns of the demonstrations from 0.53")
        assert f"to {1 / np.sqrt(2 / 9):.3g}" in found[0]


# --- What the replay buffer says -------------------------------------------------------------------------------------


def test_an_environment_that_never_reports_success_is_named_after_ten_episodes() -> None:
    options = {"replay_buffer_kwargs": {"keep_successes": True}, **OFF_POLICY}
    model = DDPGfD("MlpPolicy", Clockwork([1.0, 1.0]), learning_starts=100, **options)
    for expected in (0, 1, 0):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            # Nine episodes, and then nine more
            model.learn(18, reset_num_timesteps=False)
        found = [str(one.message) for one in caught if "keep_successes: found 10 episodes whose last info" in str(one.message)]
        assert len(found) == expected


def test_one_that_does_is_not() -> None:
    # Two steps to a time limit, without a success
    env = gym.make("PointToGoal-v0", max_episode_steps=2)
    options: dict[str, Any] = {"replay_buffer_kwargs": {"keep_successes": True}, "learning_starts": 100, **OFF_POLICY}
    assert len(said(DDPGfD("MlpPolicy", env, **options), 50)) == 1


def test_a_buffer_that_does_not_fit_into_memory_is_named() -> None:
    n_rows = int(total_memory()) // 16
    space = gym.spaces.Box(-1.0, 1.0, (1,))
    with pytest.warns(OptionWarning, match="buffer_size: found ") as caught, suppress(MemoryError):
        DemoReplayBuffer(n_rows, space, space, device="cpu")
    # s, s', a, r and steps_left of four bytes, a flag, and a weight in a tree that shrinks by 16
    row = 5 * 4 + 1 + 8 * 16 / 15
    message = str(caught[0].message)
    assert f"found {n_rows:,} transitions, which take {n_rows * row / GIB:,.1f} GiB when" in message
    assert f"expected at most {int(total_memory() / row):,}, as there are {total_memory() / GIB:,.1f} GiB of memory" in message
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        DemoReplayBuffer(1_000_000, space, space, device="cpu")
