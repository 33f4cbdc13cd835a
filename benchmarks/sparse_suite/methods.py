"""The methods of the benchmark, and how to build the model of each for a task, a seed and demonstrations."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any

import gymnasium as gym
import numpy as np
import torch as th
from stable_baselines3 import SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.noise import NormalActionNoise, OrnsteinUhlenbeckActionNoise
from stable_baselines3.common.torch_layers import CombinedExtractor
from stable_baselines3.common.type_aliases import GymEnv
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from benchmarks.sparse_suite import settings as settings_of
from benchmarks.sparse_suite.tasks import Task
from sb3_pgfd import A2CfD, DDPGfD, Demonstrations, SACfD, TD3fD
from sb3_pgfd.common.off_policy_algorithm import OffPolicyFromDemonstrations
from sb3_pgfd.replay import DemoReplayBuffer
from sb3_pgfd.wrappers import StartInDemonstrations
from sb3_pgfd.zoo.hyperparameters import with_schedules

OURS = (OffPolicyFromDemonstrations, A2CfD)
"""Algorithms, with their subclasses, that take ``demonstrations`` in the constructor and in ``load``"""
OF_ENVIRONMENT = ("n_envs", "normalize", "start_in_demonstrations")
"""Settings that are no constructor arguments"""


@dataclass(frozen=True)
class Method:
    """One method of the comparison."""

    algorithm: type[BaseAlgorithm] | None
    """None: the expert that demonstrates"""
    settings: Mapping[str, Any]
    uses_demonstrations: bool = True
    interacts: bool = True
    """Whether it takes environment steps; if not, it is evaluated once"""
    is_for: Callable[[Task], bool] = lambda task: True
    """Which tasks it can run on"""
    tuned: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Settings in place of the others, by the name of the task"""
    n_seeds: int = 5
    """Number of seeds in the grid; one where the seed changes nothing"""
    stops_at: int | None = None
    """Steps after which the run stops, None: all steps. Schedules are those of a whole run in either case"""

    def settings_for(self, task: Task) -> Mapping[str, Any]:
        """:return: The method's settings on a task"""
        return self.tuned.get(task.name, self.settings)

    @property
    def takes_demonstrations(self) -> bool:
        """Whether the constructor and ``load`` have an argument ``demonstrations``"""
        return self.algorithm is not None and issubclass(self.algorithm, OURS)

    @property
    def compiles(self) -> bool:
        """Whether the constructor takes ``compile``, and the run is long enough to gain by it"""
        return self.takes_demonstrations and self.interacts


def _too_few_to_clone(task: Task) -> bool:
    """:return: Whether it is the task whose single demonstration is not enough for cloning"""
    return task.name == "peg-insert-side"


METHODS: dict[str, Method] = {
    "td3fd": Method(TD3fD, settings_of.TD3FD),
    "sacfd": Method(SACfD, settings_of.SACFD),
    "sacfd_as_sac": Method(SACfD, settings_of.SACFD_AS_SAC, is_for=_too_few_to_clone),
    "rlpd": Method(SACfD, settings_of.RLPD),
    "ddpgfd_paper": Method(DDPGfD, settings_of.DDPGFD_PAPER),
    "ddpgfd_relative": Method(DDPGfD, settings_of.DDPGFD_RELATIVE),
    "bc": Method(DDPGfD, settings_of.BEHAVIOR_CLONING, interacts=False),
    "td3": Method(TD3, settings_of.TD3, uses_demonstrations=False, tuned=settings_of.TD3_TUNED),
    "sac": Method(SAC, settings_of.SAC, uses_demonstrations=False, tuned=settings_of.SAC_TUNED),
    "sac_her": Method(SAC, settings_of.SAC_HER, uses_demonstrations=False, is_for=lambda task: task.goal),
    "sac_demos": Method(SAC, settings_of.SAC_DEMOS),
    "expert": Method(
        None, {}, uses_demonstrations=False, interacts=False, n_seeds=1, is_for=lambda task: not task.expert_plans
    ),
    # The cheapest tasks
    "a2cfd": Method(A2CfD, settings_of.A2CFD, is_for=lambda task: task.name in ("mountain-car", "maze-medium")),
}


def with_changes(settings: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """
    :param settings: Settings of a method
    :param changes: New values by name; ``policy_kwargs.n_critics`` names an entry of a dictionary
    :return: A copy of the settings with the changes
    """
    changed = deepcopy(dict(settings))
    for name, value in changes.items():
        *path, last = name.split(".")
        entry = changed
        for key in path:
            entry = entry.setdefault(key, {})
        entry[last] = value
    return changed


# The observations alone: the task's features are not the best for every method
METHODS["bc_plain"] = replace(
    METHODS["bc"],
    settings={**settings_of.BEHAVIOR_CLONING, "task_features": False},
    is_for=lambda task: bool(task.policy_kwargs),
)
METHODS |= {
    f"td3fd_{name}": Method(TD3fD, with_changes(settings_of.TD3FD, changes), stops_at=settings_of.ABLATION_STEPS)
    for name, changes in settings_of.ABLATIONS.items()
}
METHODS |= {
    f"td3fd_{name}": Method(TD3fD, with_changes(settings_of.TD3FD, changes)) for name, changes in settings_of.VARIANTS.items()
}
METHODS["td3fd_starts"] = replace(METHODS["td3fd_starts"], is_for=_too_few_to_clone)


class ScriptedModel:
    """
    An expert with the part of a model's interface that an evaluation needs.

    :param task: Task of the expert
    """

    num_timesteps = 0

    def __init__(self, task: Task):
        self.expert = task.expert(task.make_env())

    def predict(self, observation: Any, deterministic: bool = True) -> tuple[np.ndarray, None]:
        """
        :param observation: Observations of several environments
        :param deterministic: Not used
        :return: The expert's action in each of them
        """
        has_goals = isinstance(observation, Mapping)
        n_envs = len(next(iter(observation.values()))) if has_goals else len(observation)
        seen = ({key: array[k] for key, array in observation.items()} if has_goals else observation[k] for k in range(n_envs))
        return np.stack([self.expert(one) for one in seen]), None

    def get_vec_normalize_env(self) -> None:
        """An expert needs no normalisation."""


Model = BaseAlgorithm | ScriptedModel


def make_env(task: Task, settings: Mapping[str, Any], demonstrations: Demonstrations | None = None) -> GymEnv:
    """
    :param task: Task to learn
    :param settings: Settings of the method, of which those in :data:`OF_ENVIRONMENT` are used
    :param demonstrations: Demonstrations that episodes start in, if the settings say so
    :return: One environment, or several
    """
    n_envs, normalize = settings.get("n_envs", 1), settings.get("normalize")
    if settings.get("start_in_demonstrations", False):
        assert demonstrations is not None
        return StartInDemonstrations(task.make_env(), demonstrations)
    if n_envs == 1 and normalize is None:
        return task.make_env()
    env = DummyVecEnv([task.make_env] * n_envs)
    return env if normalize is None else VecNormalize(env, gamma=settings.get("gamma", task.gamma), **normalize)


def build(
    method: Method, task: Task, env: GymEnv, seed: int, demonstrations: Demonstrations | None, settings: Mapping[str, Any]
) -> Model:
    """
    :param method: Method to build
    :param task: Task to learn
    :param env: Environment made by :func:`make_env`
    :param seed: Seed of the model
    :param demonstrations: Demonstrations, None if the method uses none
    :param settings: The method's settings, perhaps with changes
    :return: A model before its first step; a model that does not interact has finished learning
    """
    if method.algorithm is None:
        return ScriptedModel(task)
    if not method.interacts:
        return clone(task, env, seed, demonstrations, settings)
    options = options_of(method, task, env, settings)
    if method.takes_demonstrations:
        options["demonstrations"] = demonstrations
        return method.algorithm(env=env, seed=seed, device="cpu", **options)
    hindsight: dict[str, Any] = {}
    if issubclass(options.get("replay_buffer_class", object), DemoReplayBuffer):
        of_buffer = options["replay_buffer_kwargs"] | {"demonstrations": demonstrations, "gamma": options["gamma"]}
        hindsight = {name: of_buffer.pop(name) for name in settings_of.HINDSIGHT if name in of_buffer}
        options["replay_buffer_kwargs"] = of_buffer
    model: Any = method.algorithm(env=env, seed=seed, device="cpu", **options)
    if hindsight:
        # Behind the constructor: SB3's algorithms would save its arguments, and hindsight's is the environment
        model.replay_buffer.configure(**hindsight)
        model.replay_buffer.set_env(model.get_env())
    return model


def options_of(method: Method, task: Task, env: GymEnv, settings: Mapping[str, Any]) -> dict[str, Any]:
    """
    :param method: Method to build
    :param task: Task whose gamma and return range are used where the settings have none
    :param env: Environment to learn in
    :param settings: See settings.py
    :return: Constructor arguments
    """
    has_goals = isinstance(env.observation_space, gym.spaces.Dict)
    options = {"policy": "MultiInputPolicy" if has_goals else "MlpPolicy", "gamma": task.gamma, **deepcopy(dict(settings))}
    for name in OF_ENVIRONMENT:
        options.pop(name, None)
    if not task.goal:
        for name in settings_of.HINDSIGHT:
            options.get("replay_buffer_kwargs", {}).pop(name, None)
    noise_std, noise_type = options.pop("noise_std", 0.0), options.pop("noise_type", "normal")
    if noise_std:
        assert env.action_space.shape is not None
        sigma = noise_std * np.ones(env.action_space.shape)
        noise = OrnsteinUhlenbeckActionNoise if noise_type == "ornstein-uhlenbeck" else NormalActionNoise
        options["action_noise"] = noise(np.zeros_like(sigma), sigma)
    if method.algorithm is not None and issubclass(method.algorithm, OffPolicyFromDemonstrations):
        q_range = options.get("q_range", task.q_range)
        options["q_range"] = None if q_range is None else tuple(q_range)
    # A policy class for vectors does not know that it needs it
    combined = {"features_extractor_class": CombinedExtractor} if has_goals and not isinstance(options["policy"], str) else {}
    features = task.policy_kwargs if options.pop("task_features", True) else {}
    options["policy_kwargs"] = {**combined, **features, **options.get("policy_kwargs", {})}
    return with_schedules(options)


def clone(
    task: Task, env: GymEnv, seed: int, demonstrations: Demonstrations | None, settings: Mapping[str, Any]
) -> BaseAlgorithm:
    """
    Behaviour cloning: the actor of DDPGfD learns the demonstrations' actions by least squares, and nothing else happens.

    :param task: Task of the demonstrations
    :param env: Environment with the spaces of the task
    :param seed: Seed of the model
    :param demonstrations: Demonstrations to clone
    :param settings: ``n_updates``, ``learning_rate``, ``batch_size``, ``policy_kwargs``
    :return: A model with that actor
    """
    options = options_of(METHODS["bc"], task, env, settings)
    n_updates = options.pop("n_updates")
    # Draws all demonstrations with the same probability
    uniform = {"demo_fraction": 1.0}
    model = DDPGfD(env=env, demonstrations=demonstrations, replay_buffer_kwargs=uniform, seed=seed, device="cpu", **options)
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
