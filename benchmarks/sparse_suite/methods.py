"""Every method of the benchmark: how its model is made for a task, a seed and demonstrations."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import gymnasium as gym
import numpy as np
import suite_settings as settings_of
import torch as th
from stable_baselines3 import SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.torch_layers import CombinedExtractor, FlattenExtractor
from stable_baselines3.common.type_aliases import GymEnv
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from suite_tasks import Task

from sb3_pgfd import A2CfD, DDPGfD, Demonstrations
from sb3_pgfd.common.pretraining import LearnsFromDemonstrations
from sb3_pgfd.replay import DemoReplayBuffer
from sb3_pgfd.zoo.experiment_manager import PgfdExperimentManager


@dataclass(frozen=True)
class Method:
    """What is compared."""

    algorithm: type[BaseAlgorithm] | None
    """None: the expert that demonstrates"""
    settings: Mapping[str, Any]
    uses_demonstrations: bool = True
    interacts: bool = True
    """Whether it takes environment steps; if not, it is evaluated once"""
    is_for: Callable[[Task], bool] = lambda task: True
    """Which tasks it can be run on"""
    n_seeds: int = 3
    """How many the grid has: more where a run takes seconds, one where another seed gives the same result"""
    stops_at: int | None = None
    """Steps after which nothing more is wanted of it, None: all of them. Schedules are those of a whole run all the same"""

    @property
    def is_given_demonstrations(self) -> bool:
        """Whether its constructor, and ``load``, take them by name"""
        return self.algorithm is not None and issubclass(self.algorithm, LearnsFromDemonstrations)


METHODS: dict[str, Method] = {
    "ddpgfd": Method(DDPGfD, settings_of.DDPGFD),
    "ddpgfd_paper": Method(DDPGfD, settings_of.DDPGFD_PAPER),
    "ddpgfd_constant": Method(DDPGfD, settings_of.DDPGFD_CONSTANT),
    "bc": Method(DDPGfD, settings_of.BEHAVIOR_CLONING, interacts=False, n_seeds=10),
    "td3": Method(TD3, settings_of.TD3, uses_demonstrations=False),
    "sac": Method(SAC, settings_of.SAC, uses_demonstrations=False),
    "sac_her": Method(SAC, settings_of.SAC_HER, uses_demonstrations=False, is_for=lambda task: task.goal),
    "sac_demos": Method(SAC, settings_of.SAC_DEMOS),
    "expert": Method(None, {}, uses_demonstrations=False, interacts=False, n_seeds=1),
    # The cheapest tasks
    "a2cfd": Method(A2CfD, settings_of.A2CFD, is_for=lambda task: task.name in ("mountain-car", "maze-medium")),
}


PLAIN = {"policy_kwargs.features_extractor_class": FlattenExtractor, "policy_kwargs.features_extractor_kwargs": {}}
"""Networks that see observations alone, whatever the task's own are"""


def with_changes(settings: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """
    :param settings: Of a method
    :param changes: By name; ``policy_kwargs.n_critics`` is the entry of a dictionary
    :return: The settings with the changes
    """
    changed = deepcopy(dict(settings))
    for name, value in changes.items():
        *path, last = name.split(".")
        entry = changed
        for key in path:
            entry = entry.setdefault(key, {})
        entry[last] = value
    return changed


METHODS |= {
    f"{name}_plain": replace(METHODS[name], settings=with_changes(METHODS[name].settings, PLAIN), n_seeds=n_seeds)
    # Three seeds do not tell the two bonuses apart
    for name, n_seeds in {"ddpgfd": 3, "bc": 10, "ddpgfd_paper": 6, "ddpgfd_constant": 6}.items()
}
METHODS |= {
    f"ddpgfd_{name}": Method(DDPGfD, with_changes(settings_of.DDPGFD, changes), stops_at=settings_of.ABLATION_STEPS)
    for name, changes in settings_of.ABLATIONS.items()
}


class ScriptedModel:
    """
    An expert with as much of a model as an evaluation needs.

    :param task: Whose expert it is
    """

    num_timesteps = 0

    def __init__(self, task: Task):
        self.expert = task.expert(task.make_env())

    def predict(self, observation: Any, deterministic: bool = True) -> tuple[np.ndarray, None]:
        """
        :param observation: Of several environments
        :param deterministic: The expert is as it is
        :return: Its action in each of them
        """
        has_goals = isinstance(observation, Mapping)
        n_envs = len(next(iter(observation.values()))) if has_goals else len(observation)
        seen = ({key: array[k] for key, array in observation.items()} if has_goals else observation[k] for k in range(n_envs))
        return np.stack([self.expert(one) for one in seen]), None

    def get_vec_normalize_env(self) -> None:
        """It sees observations as they are."""


Model = BaseAlgorithm | ScriptedModel


def make_env(task: Task, settings: Mapping[str, Any]) -> GymEnv:
    """
    :param task: Where to learn
    :param settings: Of the method; ``n_envs`` and ``normalize`` count here
    :return: One environment, or several
    """
    n_envs, normalize = settings.get("n_envs", 1), settings.get("normalize")
    if n_envs == 1 and normalize is None:
        return task.make_env()
    env = DummyVecEnv([task.make_env] * n_envs)
    return env if normalize is None else VecNormalize(env, gamma=settings.get("gamma", task.gamma), **normalize)


def build(
    method: Method, task: Task, env: GymEnv, seed: int, demonstrations: Demonstrations | None, settings: Mapping[str, Any]
) -> Model:
    """
    :param method: What to build
    :param task: Where it is to learn
    :param env: Made by :func:`make_env`
    :param seed: Of everything random
    :param demonstrations: If it uses any
    :param settings: Of the method, perhaps changed
    :return: A model at the beginning; one that does not interact has learned all that it will
    """
    if method.algorithm is None:
        return ScriptedModel(task)
    if not method.interacts:
        return clone(task, env, seed, demonstrations, settings)
    options = options_of(method, task, env, settings)
    if method.is_given_demonstrations:
        options["demonstrations"] = demonstrations
    elif issubclass(options.get("replay_buffer_class", object), DemoReplayBuffer):
        own = {"demonstrations": demonstrations, "gamma": options["gamma"]}
        options["replay_buffer_kwargs"] = {**options["replay_buffer_kwargs"], **own}
    return method.algorithm(env=env, seed=seed, device="cpu", **options)


def options_of(method: Method, task: Task, env: GymEnv, settings: Mapping[str, Any]) -> dict[str, Any]:
    """
    :param method: To build
    :param task: Its gamma and return range are defaults of the settings
    :param env: To learn in
    :param settings: See suite_settings.py
    :return: Constructor arguments
    """
    has_goals = isinstance(env.observation_space, gym.spaces.Dict)
    options = {"policy": "MultiInputPolicy" if has_goals else "MlpPolicy", "gamma": task.gamma, **deepcopy(dict(settings))}
    for name in ("n_envs", "normalize", *(() if task.hindsight else ("her_ratio",))):
        options.pop(name, None)
    noise_std = options.pop("noise_std", 0.0)
    if noise_std:
        assert env.action_space.shape is not None
        sigma = noise_std * np.ones(env.action_space.shape)
        options["action_noise"] = NormalActionNoise(np.zeros_like(sigma), sigma)
    if method.algorithm is DDPGfD:
        q_range = options.get("q_range", task.q_range)
        options["q_range"] = None if q_range is None else tuple(q_range)
    if has_goals and not isinstance(options["policy"], str):
        options["policy_kwargs"]["features_extractor_class"] = CombinedExtractor
    options["policy_kwargs"] = {**task.policy_kwargs, **options["policy_kwargs"]}
    return PgfdExperimentManager._preprocess_schedules(options)


def clone(
    task: Task, env: GymEnv, seed: int, demonstrations: Demonstrations | None, settings: Mapping[str, Any]
) -> BaseAlgorithm:
    """
    Behaviour cloning: the actor of DDPGfD learns the demonstrations' actions by least squares, and nothing else is done.

    :param task: Where it is to act
    :param env: Its spaces count
    :param seed: Of everything random
    :param demonstrations: To clone
    :param settings: ``n_updates``, ``learning_rate``, ``batch_size``, ``policy_kwargs``
    :return: A model with that actor
    """
    options = options_of(METHODS["bc"], task, env, settings)
    n_updates = options.pop("n_updates")
    # All demonstrations alike
    model = DDPGfD(env=env, demonstrations=demonstrations, demo_fraction=1.0, seed=seed, device="cpu", **options)
    model.policy.set_training_mode(True)
    for update in range(n_updates):
        for group in model.actor.optimizer.param_groups:
            group["lr"] = model.lr_schedule(1.0 - update / n_updates)
        batch = model.buffer.sample_batch(model.batch_size, demos_only=True)
        loss = th.nn.functional.mse_loss(model.actor(batch.observations), batch.actions)
        model.actor.optimizer.zero_grad()
        loss.backward()
        model.actor.optimizer.step()
    model._n_updates = n_updates
    return model
