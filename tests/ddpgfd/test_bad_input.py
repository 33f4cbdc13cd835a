"""What the constructor refuses, before anything is written: each message names what was found and what was expected."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from one_episode import one_episode
from stable_baselines3 import HerReplayBuffer
from stable_baselines3.common.buffers import ReplayBuffer

from sb3_pgfd import DDPGfD, Demonstrations
from sb3_pgfd.demonstrations import DemonstrationsError
from sb3_pgfd.demonstrations.dataset import Episode

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


OPTIONS: list[tuple[dict[str, Any], str]] = [
    ({"n_steps": 0}, "n_steps: found 0, expected a whole number >= 1"),
    ({"n_steps": 1.5}, "n_steps: found 1.5, expected a whole number >= 1"),
    ({"gamma": 1.5}, "gamma: found 1.5, expected 0 to 1"),
    ({"priority_exponent": -1}, r"priority_exponent \(alpha\): found -1, expected a number >= 0"),
    ({"priority_epsilon": 0}, r"priority_epsilon \(eps\): found 0, expected a number > 0"),
    ({"priority_epsilon": "1e-6"}, r"priority_epsilon \(eps\): found '1e-6', expected a number > 0"),
    ({"importance_exponent": None}, r"importance_exponent \(beta\): found None, expected a number >= 0 or a schedule"),
    ({"importance_exponent": -1}, r"importance_exponent \(beta\): found -1, expected a number >= 0 or a schedule"),
    ({"importance_exponent": "1"}, r"importance_exponent \(beta\): found '1', expected a number >= 0 or a schedule"),
    ({"actor_learning_rate": -1.0}, "actor_learning_rate: found -1.0, expected a number >= 0, a schedule or None"),
    ({"demo_bonus": -1}, r"demo_bonus \(eps_D\): found -1, expected a number >= 0"),
    ({"n_step_coef": -1}, r"n_step_coef \(lambda_1\): found -1, expected a number >= 0"),
    ({"l2_coef": -1}, r"l2_coef \(lambda_2\): found -1, expected a number >= 0"),
    ({"l2_coef": "1e-5"}, r"l2_coef \(lambda_2\): found '1e-5', expected a number >= 0"),
    ({"action_gradient_coef": float("nan")}, r"action_gradient_coef \(lambda_3\): found nan, expected a number >= 0"),
    ({"bc_coef": -1}, "bc_coef .*: found -1, expected a number >= 0"),
    ({"bc_coef": None}, "bc_coef .*: found None, expected a number >= 0"),
    ({"target_policy_noise": -0.1}, "target_policy_noise .*: found -0.1, expected a number >= 0"),
    ({"target_noise_clip": float("inf")}, "target_noise_clip .*: found inf, expected a number >= 0"),
    ({"pretrain_steps": -1}, "pretrain_steps: found -1, expected a whole number >= 0"),
    ({"pretrain_steps": 1e3}, "pretrain_steps: found 1000.0, expected a whole number >= 0"),
    ({"policy_delay": 0}, "policy_delay: found 0, expected a whole number >= 1"),
    ({"batch_size": 0}, "batch_size: found 0, expected a whole number >= 1"),
    ({"buffer_size": 0}, "buffer_size: found 0, expected a whole number >= 1"),
    ({"tau": 2.0}, "tau: found 2.0, expected 0 to 1"),
    ({"gamma": "0.9"}, "gamma: found '0.9', expected 0 to 1"),
    ({"q_range": (1, 0)}, r"q_range: found \(1, 0\), expected \(smallest, largest\) possible return"),
    ({"q_range": 5}, r"q_range: found 5, expected \(smallest, largest\) possible return"),
    ({"q_range": ("0", "1")}, r"q_range: found \('0', '1'\), expected \(smallest, largest\) possible return"),
    ({"demo_fraction": 2}, "demo_fraction: found 2, expected 0 to 1"),
    ({"optimize_memory_usage": True}, "optimize_memory_usage: found True, expected False"),
    ({"replay_buffer_class": HerReplayBuffer}, "found HerReplayBuffer, expected DemoReplayBuffer .* relabels goals"),
    ({"replay_buffer_class": ReplayBuffer}, "found ReplayBuffer, expected DemoReplayBuffer or a subclass"),
    ({"replay_buffer_class": "DemoReplayBuffer"}, "found DemoReplayBuffer, expected DemoReplayBuffer or a subclass"),
    ({"replay_buffer_kwargs": {"n_steps": 3}}, r"replay_buffer_kwargs: found \['n_steps'\], expected them as arguments"),
    (
        {"replay_buffer_kwargs": {"gamma": 0.9, "demonstrations": "Pendulum-v1"}},
        r"replay_buffer_kwargs: found \['demonstrations', 'gamma'\], expected them as arguments",
    ),
    ({"policy_kwargs": {"n_critics": 0}}, "n_critics: found 0, expected a whole number >= 1"),
    ({"policy_kwargs": {"n_critics": 1.5}}, "n_critics: found 1.5, expected a whole number >= 1"),
    ({"policy_kwargs": {"average_actor": "no"}}, "average_actor: found 'no', expected a number > 0 and <= 1, or None"),
    ({"policy_kwargs": {"average_actor": 0.0}}, "average_actor: found 0.0, expected a number > 0 and <= 1, or None"),
    ({"critic_warmup_steps": -1, "bc_coef": 1.0}, "critic_warmup_steps: found -1, expected a whole number >= 0"),
    ({"critic_warmup_steps": 10}, r"critic_warmup_steps: found bc_coef=0.0, expected a number > 0: without cloning"),
    ({"policy_kwargs": {"actor_dropout": 1.0}}, "actor_dropout: found 1.0, expected a number >= 0 and < 1"),
    ({"policy_kwargs": {"actor_dropout": -0.1}}, "actor_dropout: found -0.1, expected a number >= 0 and < 1"),
    ({"policy_kwargs": {"actor_dropout": "0.1"}}, "actor_dropout: found '0.1', expected a number >= 0 and < 1"),
    ({"relative_priorities": "no"}, "relative_priorities: found 'no', expected True or False"),
    ({"keep_successes": 1}, "keep_successes: found 1, expected True or False"),
    ({"q_filter": None}, "q_filter: found None, expected True or False"),
    ({"normalize_actor_loss": "false"}, "normalize_actor_loss: found 'false', expected True or False"),
    ({"pretrain_clone_only": "yes", "bc_coef": 1.0}, "pretrain_clone_only: found 'yes', expected True or False"),
    ({"pretrain_clone_only": True}, r"pretrain_clone_only: found bc_coef=0.0, expected a number > 0: without cloning"),
    ({"replay_buffer_kwargs": {"keep_successes": True}}, r"found \['keep_successes'\], expected them as arguments"),
]


@pytest.mark.parametrize(("options", "message"), OPTIONS, ids=lambda value: str(value)[:60])
def test_an_option_out_of_range_is_refused(make_model: MakeModel, options: dict[str, Any], message: str) -> None:
    refused(make_model, ValueError, message, **options)


@pytest.mark.parametrize(
    "options",
    [
        {"n_steps": np.int64(3)},
        {"q_range": [0.0, float("inf")]},
        {"importance_exponent": np.float64(0.5)},
        {"l2_coef": 0},
        {"relative_priorities": np.True_, "keep_successes": np.False_},
        {"pretrain_clone_only": True, "bc_coef": 0.1},
        {"policy_kwargs": {"actor_dropout": 0, "average_actor": 1}},
        {"demo_fraction": 0},
        {"replay_buffer_kwargs": {"handle_timeout_termination": False}},
    ],
    ids=str,
)
def test_unusual_but_meaningful_options_are_taken(make_model: MakeModel, options: dict[str, Any]) -> None:
    model = make_model(**options, pretrain_steps=2).learn(0)
    assert model._n_updates == 2


def test_discrete_actions_are_refused(make_model: MakeModel) -> None:
    refused(make_model, AssertionError, r"Box.* as action spaces but Discrete\(2\) was provided", env="CartPole-v1")


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (one_episode(observation_shape=(2,)), r"observations: found shape \(2,\) per step, expected \(1,\)"),
        (one_episode(action_shape=(2,)), r"actions: found shape \(2,\) per step, expected \(1,\)"),
        (one_episode(action_shape=(), action=1, dtype=np.int64), r"actions: found shape \(\) per step, expected \(1,\)"),
        (one_episode(action=2.5), r"actions: episode 0, step 0, component 0: found 2.5, expected a value in \[-2.0, 2.0\]"),
        (one_episode(observation_shape=(36, 36, 1)), r"observations: found shape \(36, 36, 1\) per step, expected \(1,\)"),
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


def test_a_missing_file_is_refused(make_model: MakeModel) -> None:
    message = (
        "nowhere.npz: found no such file, expected a file, a folder, .* the name of packaged demonstrations: .*Pendulum-v1"
    )
    refused(make_model, DemonstrationsError, message, demonstrations="nowhere.npz")


def test_a_folder_is_refused(make_model: MakeModel, tmp_path: Path) -> None:
    refused(make_model, DemonstrationsError, "found a folder with", demonstrations=tmp_path)


def test_what_is_no_source_of_demonstrations_is_refused(make_model: MakeModel) -> None:
    refused(
        make_model,
        DemonstrationsError,
        "found an object of type int, expected one of: a path, a name, Demonstrations",
        demonstrations=5,
    )


@pytest.mark.parametrize(("content", "found"), [(b"", "an empty file"), (b"s,a,r\n", "a file that begins with b's,a,r")])
def test_a_file_of_no_known_format_is_refused(make_model: MakeModel, tmp_path: Path, content: bytes, found: str) -> None:
    path = tmp_path / "demos.npz"
    path.write_bytes(content)
    refused(make_model, DemonstrationsError, f"demos.npz: found {found}.*, expected one of: ", demonstrations=str(path))


def test_demonstrations_of_another_environment_are_refused_by_its_name(make_model: MakeModel) -> None:
    message = r"observations: found shape \(2,\) per step, expected \(3,\).* recorded in MountainCarContinuous-v0"
    refused(make_model, DemonstrationsError, message, env="Pendulum-v1", demonstrations="MountainCarContinuous-v0")


def test_demonstrations_of_another_environment_of_the_same_shapes_are_a_warning(make_model: MakeModel) -> None:
    dataset = one_episode(env_id="Elsewhere-v3")
    with pytest.warns(UserWarning, match=r"found episodes of Elsewhere-v3, expected PointToGoal-v0"):
        make_model(demonstrations=dataset)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("env_id", ["PointToGoal-v0", None])
def test_demonstrations_of_this_or_an_unknown_environment_are_no_warning(make_model: MakeModel, env_id: str | None) -> None:
    assert make_model(demonstrations=one_episode(env_id=env_id)).buffer.n_demonstrations == 3


def test_observations_out_of_bounds_are_a_warning(make_model: MakeModel) -> None:
    observations = np.full((2, 1), 30.0, dtype=np.float32)
    dataset = Demonstrations.from_episodes([Episode(observations, np.zeros((1, 1), dtype=np.float32), np.zeros(1), True)])
    with pytest.warns(UserWarning, match=r"found observations .*from 30 to 30, outside the bounds of Box\(-1"):
        make_model(demonstrations=dataset)
