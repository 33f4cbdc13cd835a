"""What A2CfD's constructor refuses, before anything is written: messages name what was found and what was expected."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from clockwork import Clockwork
from gymnasium import spaces
from one_episode import one_episode
from pick_zero import CHOICES, pick_zero
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.td3.policies import TD3Policy

from sb3_pgfd import A2CfD, Demonstrations, DemonstrationsError
from sb3_pgfd.a2cfd import MlpPolicy
from sb3_pgfd.wrappers import InterventionWrapper

MakeModel = Callable[..., A2CfD]


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


# One of each kind
OPTIONS: list[tuple[dict[str, Any], str]] = [
    ({"gamma": 1.5}, "gamma: found 1.5, expected a number from 0 to 1"),
    ({"bc_decay": None}, "bc_decay: found None, expected a number from 0 to 1"),
    ({"bc_coef": float("nan")}, "bc_coef: found nan, expected a number from 0 to inf"),
    ({"ent_coef": "1e-3"}, "ent_coef: found '1e-3', expected a number from 0 to inf"),
    ({"vf_coef": -1}, "vf_coef: found -1, expected a number from 0 to inf"),
    ({"max_grad_norm": 0}, "max_grad_norm: found 0, expected a number > 0"),
    ({"n_steps": 0}, "n_steps: found 0, expected a whole number >= 1"),
    ({"pretrain_steps": 1e3}, "pretrain_steps: found 1000.0, expected a whole number >= 0"),
    ({"learning_rate": None}, "learning_rate: found None, expected a number >= 0 or a schedule"),
    ({"actor_learning_rate": "lin_1"}, "actor_learning_rate: found 'lin_1', expected a number >= 0, a schedule or None"),
    ({"pretrain_learning_rate": abs}, "pretrain_learning_rate: found <built-in function abs>, expected a number >= 0 or None"),
    ({"use_rms_prop": 1}, "use_rms_prop: found 1, expected True or False"),
    ({"use_sde": "no"}, "use_sde: found 'no', expected True or False"),
    ({"policy_kwargs": {"log_std_min": 1.0}}, "log_std_min, log_std_max: found 1.0, 1.0, expected min < max"),
    (
        {"policy_kwargs": {"log_std_init": 1.0}},
        "log_std_init: found 1.0, expected a number between log_std_min = -3 and log_std_max = 1",
    ),
    ({"policy": TD3Policy}, r'policy: found .*td3.policies.TD3Policy, expected one of "MlpPolicy", .* ActorCriticPolicy'),
    ({"policy": "LstmPolicy"}, "LstmPolicy unknown"),
]


@pytest.mark.parametrize(("options", "message"), OPTIONS, ids=lambda value: str(value)[:60])
def test_an_option_out_of_range_is_refused(make_model: MakeModel, options: dict[str, Any], message: str) -> None:
    refused(make_model, ValueError, message, **options)


@pytest.mark.parametrize(
    "options",
    [
        {"n_steps": np.int64(3)},
        {"gae_lambda": 0, "gamma": 0},
        {"gamma": 1, "bc_decay": 1},
        {"bc_coef": np.float64(0.5)},
        {"normalize_advantage": np.bool_(True)},
        {"pretrain_learning_rate": 1, "actor_learning_rate": 0},
        {"policy_kwargs": {"log_std_min": -20, "log_std_max": -19, "log_std_init": -19.1}},
    ],
    ids=str,
)
def test_unusual_but_meaningful_options_are_taken(make_model: MakeModel, options: dict[str, Any]) -> None:
    assert make_model(**options).learn(15)._n_updates >= 3


@pytest.mark.parametrize(
    ("action_space", "message"),
    [
        (
            spaces.Box(np.array([0.0, 1.0], np.float32), np.array([1.0, 1.0], np.float32)),
            "action_space: found low == high for component 1 of Box",
        ),
        (spaces.Box(np.zeros((2, 2), np.float32), np.eye(2, dtype=np.float32)), "low == high for component 0, 1 of Box"),
        (spaces.Box(0, 10, (1,), np.int64), r"action_space: found Box\(0, 10, .*, expected floats"),
        (spaces.Discrete(3, start=1), r"action_space: found Discrete\(3, start=1\), expected choices from 0"),
        (
            spaces.MultiDiscrete(np.full((2, 2), 3)),
            r"action_space: found MultiDiscrete\(\[\[3, 3\], \[3, 3\]\]\), expected one axis",
        ),
        (spaces.MultiDiscrete([2, 3], start=[0, 1]), "action_space: found MultiDiscrete.*, expected choices from 0"),
    ],
    ids=str,
)
def test_actions_that_it_cannot_draw_are_refused(make_model: MakeModel, action_space: spaces.Space, message: str) -> None:
    env = Clockwork([1.0], action_space=action_space)
    for policy in ("MlpPolicy", ActorCriticPolicy):
        refused(make_model, ValueError, message, policy=policy, env=env, demonstrations=None)


@pytest.mark.parametrize("box", [spaces.Box(-np.inf, np.inf, (2,)), spaces.Box(0.0, np.inf, (1,))], ids=str)
def test_actions_without_bounds_are_refused_by_sb3_and_by_the_policy(make_model: MakeModel, box: spaces.Box) -> None:
    message = "must have a finite lower and upper bound"
    refused(make_model, AssertionError, message, env=Clockwork([1.0], action_space=box), demonstrations=None)
    with pytest.raises(ValueError, match=r"action_space: found Box\(.*inf, .*, expected finite bounds"):
        MlpPolicy(spaces.Box(-1.0, 1.0, (1,)), box, lambda _: 1e-3)


def test_actions_of_other_kinds_are_refused(make_model: MakeModel) -> None:
    env = Clockwork([1.0], action_space=spaces.Tuple([spaces.Discrete(2)]))
    refused(make_model, AssertionError, "as action spaces but Tuple", env=env, demonstrations=None)


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (one_episode(observation_shape=(2,)), r"observations: found shape \(2,\) per step, expected \(1,\)"),
        (one_episode(action_shape=(2,)), r"actions: found shape \(2,\) per step, expected \(1,\)"),
        (one_episode(action_shape=(), action=1, dtype=np.int64), r"actions: found shape \(\) per step, expected \(1,\)"),
        (one_episode(action=2.5), r"actions: episode 0, step 0, component 0: found 2.5, expected a value in \[-2.0, 2.0\]"),
    ],
)
def test_demonstrations_that_do_not_fit_the_spaces_are_refused(
    make_model: MakeModel, dataset: Demonstrations, message: str
) -> None:
    refused(make_model, DemonstrationsError, message, demonstrations=dataset)


@pytest.mark.parametrize(
    ("action_space", "action", "dtype", "message"),
    [
        (CHOICES[0], 3, np.int64, r"step 0: found 3, expected a value in \[0, 2\]"),
        (CHOICES[0], 1.0, np.float32, "actions: found dtype float32, expected int64"),
        (CHOICES[1], [1, 3], np.int64, r"step 0, component 1: found 3, expected a value in \[0, 2\]"),
        (CHOICES[2], [0, 2], np.int8, r"step 0, component 1: found 2, expected a value in \[0, 1\]"),
    ],
)
def test_choices_that_there_are_not_are_refused(
    make_model: MakeModel, action_space: spaces.Space, action: Any, dtype: Any, message: str
) -> None:
    dataset = one_episode(observation_shape=(2,), action=action, action_shape=np.shape(action), dtype=dtype)
    refused(make_model, DemonstrationsError, message, env=pick_zero(action_space), demonstrations=dataset)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere.npz", "nowhere.npz: found no such file, expected a file, a folder, .* packaged demonstrations"),
        (5, "found an object of type int, expected one of: a path, a name, Demonstrations"),
        ([np.zeros((3, 1)), np.zeros((3, 1))], "found a list of ndarray, expected one of: .*from_episodes.* take arrays"),
        ([], "found an empty list, expected one of"),
        ("MountainCarContinuous-v0", r"observations: found shape \(2,\) per step, .* recorded in MountainCarContinuous-v0"),
    ],
)
def test_what_is_no_source_of_demonstrations_is_refused(make_model: MakeModel, source: Any, message: str) -> None:
    refused(make_model, DemonstrationsError, message, demonstrations=source)


def test_demonstrations_come_by_path_by_name_or_as_they_are(
    make_model: MakeModel, demonstrations: Demonstrations, tmp_path: Path
) -> None:
    path = demonstrations.save(tmp_path / "to_goal.npz")
    for source, described in ((path, str(path)), (str(path), str(path)), (demonstrations, "a dataset in memory")):
        model = make_model(demonstrations=source).learn(5)
        assert str(model.demonstrations_source).startswith(described)
        assert isinstance(model.demonstrations, Demonstrations)
        assert len(model.demonstrations) == len(demonstrations)
    named = make_model(env="Pendulum-v1", demonstrations="Pendulum-v1").learn(5)
    assert named.demonstrations_source == "Pendulum-v1"


def test_demonstrations_of_another_environment_of_the_same_shapes_are_a_warning(make_model: MakeModel) -> None:
    with pytest.warns(UserWarning, match=r"found episodes of Elsewhere-v3, expected PointToGoal-v0"):
        make_model(demonstrations=one_episode(env_id="Elsewhere-v3"))


def test_box_demonstrations_for_dict_observations_are_refused(make_model: MakeModel) -> None:
    env = gym.make("PointToGoal-v0", view="dict")
    refused(
        make_model, DemonstrationsError, r"observations: found one array, expected Dict\(", policy="MultiInputPolicy", env=env
    )


class SomebodyElseActs(gym.Wrapper):
    """Another wrapper that reports interventions."""

    def step(self, action: Any) -> Any:
        *result, info = self.env.step(action)
        return *result, {**info, "intervene_action": None}


@pytest.mark.parametrize(
    ("wrapper", "found", "n_steps"),
    [
        (lambda env: InterventionWrapper(env, lambda observation, action: None), "an InterventionWrapper", 0),
        (SomebodyElseActs, r"info\['intervene_action'\]", 1),
    ],
)
def test_an_environment_in_which_somebody_may_take_over_is_refused(
    make_model: MakeModel, wrapper: Callable[[gym.Env], gym.Env], found: str, n_steps: int
) -> None:
    model = make_model(env=wrapper(gym.make("PointToGoal-v0")))
    with pytest.raises(ValueError, match=f"A2CfD: found {found}, expected an environment in which nobody takes over"):
        model.learn(5)
    # The first is refused before it pretrains
    assert (model._pretrained, model.num_timesteps) == (n_steps > 0, n_steps)


def test_a_misspelt_option_of_the_policy_is_told_what_was_meant() -> None:
    with pytest.raises(TypeError, match=r"policy_kwargs: .*'log_std_mn', did you mean 'log_std_min'"):
        A2CfD("MlpPolicy", "PointToGoal-v0", policy_kwargs={"log_std_mn": -1.0})
