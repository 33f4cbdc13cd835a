"""What the constructor refuses, before anything is written: each message names what was found and what was expected."""

import copy
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from clockwork import Clockwork
from gymnasium import spaces
from one_episode import one_episode
from point_to_goal import PointToGoal
from stable_baselines3 import HerReplayBuffer, sac, td3
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv

from sb3_pgfd import DDPGfD, Demonstrations, TD3fD
from sb3_pgfd.demonstrations import DemonstrationsError, Episode
from sb3_pgfd.replay import DemoReplayBuffer

MakeModel = Callable[..., DDPGfD]


@pytest.fixture(autouse=True)
def _nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    yield
    assert list(work.iterdir()) == []


def refused(make_model: MakeModel, error: type[Exception], message: str, **options: Any) -> None:
    with pytest.raises(error, match=message):
        make_model(tensorboard_log="logs", verbose=0, **options)


# One of each kind, and each option that only DDPGfD checks
OPTIONS: list[tuple[dict[str, Any], str]] = [
    ({"n_steps": 1.5}, "n_steps: found 1.5, expected a whole number >= 1"),
    ({"pretrain_steps": -1}, "pretrain_steps: found -1, expected a whole number >= 0"),
    ({"batch_size": 0}, "batch_size: found 0, expected a whole number >= 1"),
    ({"buffer_size": 0}, "buffer_size: found 0, expected a whole number >= 1"),
    ({"tau": 2.0}, "tau: found 2.0, expected 0 to 1"),
    ({"gamma": "0.9"}, "gamma: found '0.9', expected 0 to 1"),
    ({"learning_rate": "1e-3"}, "learning_rate: found '1e-3', expected a number >= 0 or a schedule"),
    ({"learning_rate": None}, "learning_rate: found None, expected a number >= 0 or a schedule"),
    ({"policy_kwargs": {"optimizer_kwargs": {"weight_decay": 0.1}}}, "found weight_decay, expected it as l2_coef"),
    ({"actor_learning_rate": -1.0}, "actor_learning_rate: found -1.0, expected a number >= 0, a schedule or None"),
    ({"importance_exponent": "1"}, r"importance_exponent \(beta\): found '1', expected a number >= 0 or a schedule"),
    ({"n_step_coef": -1}, r"n_step_coef \(lambda_1\): found -1, expected a number >= 0"),
    ({"l2_coef": "1e-5"}, r"l2_coef \(lambda_2\): found '1e-5', expected a number >= 0"),
    ({"action_gradient_coef": float("nan")}, r"action_gradient_coef \(lambda_3\): found nan, expected a number >= 0"),
    ({"bc_coef": None}, "bc_coef .*: found None, expected a number >= 0"),
    ({"q_filter": "no"}, "q_filter: found 'no', expected True or False"),
    ({"q_range": (1, 0)}, r"q_range: found \(1, 0\), expected \(smallest, largest\) possible return"),
    ({"q_range": 5}, r"q_range: found 5, expected \(smallest, largest\) possible return"),
    (
        {"replay_buffer_class": HerReplayBuffer},
        "found HerReplayBuffer, expected DemoReplayBuffer .* her_ratio .* replaces goals",
    ),
    ({"replay_buffer_class": "DemoReplayBuffer"}, "found DemoReplayBuffer, expected DemoReplayBuffer or a subclass"),
    ({"replay_buffer_kwargs": {"demo_bonus": -1}}, r"demo_bonus \(eps_D\): found -1, expected a number >= 0"),
    ({"replay_buffer_kwargs": {"optimize_memory_usage": True}}, "optimize_memory_usage: found True, expected False"),
    ({"train_freq": 0}, "train_freq: found 0 steps, expected at least one"),
    (
        {"action_noise": 0.1, "env": Clockwork([1.0], action_space=spaces.Box(-1.0, 1.0, ())), "demonstrations": None},
        r"action_noise: found 0.1 and actions of shape \(\), expected 0, or actions of shape \(1,\)",
    ),
    ({"policy_kwargs": {"n_critics": 0}}, "n_critics: found 0, expected a whole number >= 1"),
    ({"policy_kwargs": {"average_actor": 0.0}}, "average_actor: found 0.0, expected a number > 0 and <= 1, or None"),
    ({"policy_kwargs": {"actor_dropout": 1.0}}, "actor_dropout: found 1.0, expected a number >= 0 and < 1"),
    ({"policy_kwargs": {"initial_q": float("inf")}}, "initial_q: found inf, expected a number"),
    ({"policy_kwargs": {"last_layer_bound": -1}}, "last_layer_bound: found -1, expected a number >= 0, or None"),
]


@pytest.mark.parametrize(("options", "message"), OPTIONS, ids=lambda value: str(value)[:60])
def test_an_option_out_of_range_is_refused(make_model: MakeModel, options: dict[str, Any], message: str) -> None:
    refused(make_model, ValueError, message, **options)


@pytest.mark.parametrize(
    "options",
    [
        {"n_steps": np.int64(3), "importance_exponent": np.float64(0.5), "l2_coef": 0},
        {"q_range": [0.0, float("inf")], "q_filter": np.True_, "bc_coef": 0.1},
        {"policy_kwargs": {"actor_dropout": 0, "average_actor": 1}, "replay_buffer_kwargs": None},
        {"replay_buffer_kwargs": {"handle_timeout_termination": False, "demo_fraction": 0}},
    ],
    ids=str,
)
def test_unusual_but_meaningful_options_are_taken(make_model: MakeModel, options: dict[str, Any]) -> None:
    model = make_model(**options, pretrain_steps=2).learn(0)
    assert model._n_updates == 2


# --- Unknown options --------------------------------------------------------------------------------------------------

UNKNOWN: list[tuple[dict[str, Any], str]] = [
    ({"gama": 0.9}, r"^DDPGfD: found the unknown argument 'gama', did you mean 'gamma'\?$"),
    ({"demo_fraction": 0.5}, r"DDPGfD: found the argument 'demo_fraction', expected it in replay_buffer_kwargs: replay"),
    ({"demo_fractoin": 0.5}, r"DDPGfD: .* 'demo_fractoin', did you mean 'demo_fraction' in replay_buffer_kwargs\?$"),
    ({"n_critics": 2}, r"DDPGfD: found the argument 'n_critics', expected it in policy_kwargs: policy_kwargs=dict\(n_crit"),
    (
        {"qqqqqq": 2},
        r"DDPGfD: found the unknown argument 'qqqqqq', expected one of action_gradient_coef, action_noise, .*verbose$",
    ),
    ({"policy_kwargs": {"layernorm": True}}, r"^policy_kwargs: found .* 'layernorm', did you mean 'layer_norm'\?$"),
    (
        {"policy_kwargs": {"her_ratio": 0.5}},
        r"^policy_kwargs: found the argument 'her_ratio', expected it in replay_buffer_kw",
    ),
    ({"policy_kwargs": {"gamma": 0.5}}, r"^policy_kwargs: found gamma, expected them as arguments of DDPGfD itself"),
    ({"replay_buffer_kwargs": {"demo_frac": 0.5}}, r"^replay_buffer_kwargs: .*'demo_frac', did you mean 'demo_fraction'\?$"),
    ({"replay_buffer_kwargs": {"n_critics": 2}}, r"^replay_buffer_kwargs: .* 'n_critics', expected it in policy_kwargs"),
    (
        {"replay_buffer_kwargs": {"n_steps": 3, "gamma": 0.9, "env": None, "demonstrations": None}},
        r"^replay_buffer_kwargs: found demonstrations, env, gamma, n_steps, expected them as arguments of DDPGfD itself",
    ),
    ({"replay_buffer_kwargs": {"n_envs": 2}}, r"^replay_buffer_kwargs: found the unknown argument 'n_envs'"),
]


@pytest.mark.parametrize(("options", "message"), UNKNOWN, ids=lambda value: str(value)[:60])
def test_an_unknown_or_misplaced_option_is_told_what_was_meant(
    make_model: MakeModel, options: dict[str, Any], message: str
) -> None:
    refused(make_model, TypeError, message, **options)


def test_options_of_a_buffer_of_ones_own_are_known(make_model: MakeModel) -> None:
    class Own(DemoReplayBuffer):
        """Has an option more."""

        def __init__(self, *args: Any, colour: str = "red", **kwargs: Any):
            super().__init__(*args, **kwargs)
            self.colour = colour

    options = {"replay_buffer_class": Own, "replay_buffer_kwargs": {"colour": "blue", "demo_fraction": 0.5}}
    assert make_model(**options).buffer.colour == "blue"  # type: ignore[attr-defined]  # see above
    message = "replay_buffer_kwargs: found the unknown argument 'color', did you mean 'colour'"
    refused(make_model, TypeError, message, replay_buffer_class=Own, replay_buffer_kwargs={"color": "blue"})


def test_options_of_an_algorithm_of_ones_own_are_known(make_model: MakeModel) -> None:
    class Own(DDPGfD):
        """Has an option more."""

        def __init__(self, *args: Any, colour: str = "red", **kwargs: Any):
            super().__init__(*args, **kwargs)
            self.colour = colour

    assert make_model(algorithm=Own, colour="blue").colour == "blue"  # type: ignore[attr-defined]  # see above
    refused(make_model, TypeError, "Own: found the unknown argument 'color', did you mean 'colour'", algorithm=Own, color=1)


def test_the_callers_dicts_are_left_as_they_were(make_model: MakeModel) -> None:
    given = {
        "policy_kwargs": {"net_arch": [8], "optimizer_kwargs": {"eps": 1e-5}, "features_extractor_kwargs": {}},
        "replay_buffer_kwargs": {"demo_bonus": 0.5},
    }
    before = copy.deepcopy(given)
    model = DDPGfD("MlpPolicy", "PointToGoal-v0", buffer_size=100, device="cpu", **given)  # type: ignore[arg-type]  # mixed
    model.learn(5)
    assert given == before
    for name, value in given.items():
        assert getattr(model, name) is not value


# --- Policies and actions ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", [td3.MlpPolicy, td3.CnnPolicy, sac.MlpPolicy])
def test_a_policy_of_another_algorithm_is_refused(make_model: MakeModel, policy: Any) -> None:
    message = (
        rf"policy: found <class '{policy.__module__}.{policy.__name__}'>, expected MlpPolicy, CnnPolicy, MultiInputPolicy"
    )
    refused(make_model, ValueError, message, policy=policy)


def test_what_is_no_policy_is_refused(make_model: MakeModel) -> None:
    refused(make_model, ValueError, "policy: found 5, expected MlpPolicy", policy=5)


@pytest.mark.parametrize("algorithm", [DDPGfD, TD3fD])
def test_an_action_component_of_no_width_is_refused(make_model: MakeModel, algorithm: Any) -> None:
    # Scaling it to [-1, 1] divides by zero, which put NaN into the buffer
    low, high = (np.array(bound, dtype=np.float32) for bound in ([-1.0, 0.5], [1.0, 0.5]))
    env = Clockwork([0.0], action_space=gym.spaces.Box(low, high))
    message = r"action_space: found component \[1\] with low=0.5 and high=0.5, expected finite bounds with low < high"
    refused(make_model, ValueError, message, env=env, demonstrations=None, algorithm=algorithm)


def test_discrete_actions_are_refused(make_model: MakeModel) -> None:
    refused(make_model, AssertionError, r"Box.* as action spaces but Discrete\(2\) was provided", env="CartPole-v1")


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (one_episode(observation_shape=(2,)), r"observations: found shape \(2,\) per step, expected \(1,\)"),
        (one_episode(action_shape=(2,)), r"actions: found shape \(2,\) per step, expected \(1,\)"),
        (one_episode(action=2.5), r"actions: episode 0, step 0, component 0: found 2.5, expected a value in \[-2.0, 2.0\]"),
    ],
)
def test_demonstrations_that_do_not_fit_the_spaces_are_refused(
    make_model: MakeModel, dataset: Demonstrations, message: str
) -> None:
    refused(make_model, DemonstrationsError, message, demonstrations=dataset)


def test_box_demonstrations_for_dict_observations_are_refused(make_model: MakeModel) -> None:
    env = gym.make("PointToGoal-v0", view="dict")
    message = r"observations: found one array, expected Dict\("
    refused(make_model, DemonstrationsError, message, policy="MultiInputPolicy", env=env)


def test_what_cannot_be_read_is_refused(make_model: MakeModel) -> None:
    message = (
        "nowhere.npz: found no such file, expected a file, a folder, .* the name of packaged demonstrations: .*Pendulum-v1"
    )
    refused(make_model, DemonstrationsError, message, demonstrations="nowhere.npz")
    message = "found an object of type int, expected one of: a path, a name, Demonstrations"
    refused(make_model, DemonstrationsError, message, demonstrations=5)


def test_demonstrations_of_another_environment_are_refused_by_its_name(make_model: MakeModel) -> None:
    message = r"observations: found shape \(2,\) per step, expected \(3,\).* recorded in MountainCarContinuous-v0"
    refused(make_model, DemonstrationsError, message, env="Pendulum-v1", demonstrations="MountainCarContinuous-v0")


def test_demonstrations_of_another_environment_of_the_same_shapes_are_a_warning(make_model: MakeModel) -> None:
    dataset = one_episode(env_id="Elsewhere-v3")
    with pytest.warns(UserWarning, match=r"found episodes of Elsewhere-v3, expected PointToGoal-v0"):
        make_model(demonstrations=dataset)


@pytest.mark.filterwarnings("error", "ignore:.*never leave")
@pytest.mark.parametrize("env_id", ["PointToGoal-v0", None])
def test_demonstrations_of_this_or_an_unknown_environment_are_no_warning(make_model: MakeModel, env_id: str | None) -> None:
    assert make_model(demonstrations=one_episode(env_id=env_id)).buffer.n_demonstrations == 3


def make_with_lambda() -> gym.Env:
    gym.register("Lambda-v0", lambda **kwargs: PointToGoal(**kwargs), max_episode_steps=20)
    return gym.make("Lambda-v0")


def test_a_spec_that_another_process_cannot_send_is_not_asked_for(make_model: MakeModel) -> None:
    with closing(SubprocVecEnv([make_with_lambda], start_method="fork")) as env:
        assert make_model(env=env).env is env
        assert env.env_method("reset", seed=0)


def test_observations_out_of_bounds_are_a_warning(make_model: MakeModel) -> None:
    observations = np.full((2, 1), 30.0, dtype=np.float32)
    dataset = Demonstrations.from_episodes([Episode(observations, np.zeros((1, 1), dtype=np.float32), np.zeros(1), True)])
    with pytest.warns(UserWarning, match=r"found observations .*from 30 to 30, outside the bounds of Box\(-1"):
        make_model(demonstrations=dataset)


def test_episodes_of_several_environments_are_refused_before_pretraining(make_model: MakeModel) -> None:
    model = make_model(train_freq=(1, "episode"), env=DummyVecEnv([PointToGoal] * 2))
    # It may be to act
    model.predict(np.zeros((2, 1), np.float32))
    with pytest.raises(ValueError, match="train_freq: found episodes with 2 environments, expected steps, or one environment"):
        model.learn(10)
    assert model._n_updates == 0
