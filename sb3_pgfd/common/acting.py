"""Acting apart from learning: copies of a model that choose actions elsewhere."""

from copy import deepcopy
from typing import Any, Protocol

import torch as th
from stable_baselines3.common.noise import ActionNoise, VectorizedActionNoise
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from sb3_pgfd.common.environment_state import layers
from sb3_pgfd.common.metrics import MeanMetrics
from sb3_pgfd.common.real_time import Choice

# What choosing an action needs, of SB3's algorithms and of ours
_NEEDED = ("observation_space", "action_space", "num_timesteps", "use_sde", "use_sde_at_warmup", "_n_updates", "proposals")


class Collector(Protocol):
    """Environments whose workers have chosen the actions of the next step already."""

    def take(self, model: Any) -> Choice:
        """
        :param model: Which learns; copies of it act
        :return: What they chose for the next step, whose result ``step()`` returns
        """


def collector_of(env: VecEnv | None) -> Collector | None:
    """:return: The environments under some wrappers, if copies of the policy act in them"""
    base: Any = None if env is None else list(layers(env))[-1]
    return base if hasattr(base, "take") else None


def copy_to_act(model: OffPolicyAlgorithm) -> OffPolicyAlgorithm:
    """
    :param model: Of this package
    :return: A copy on the CPU that has what ``_sample_action`` needs and nothing else
    """
    acting = object.__new__(type(model))
    values = {name: deepcopy(value) for name, value in vars(model).items() if name in _NEEDED}
    policy = deepcopy(model.policy).to("cpu")
    policy.set_training_mode(False)
    for module in policy.modules():
        vars(module).pop("optimizer", None)
    # It asks the replay buffer, which stays here
    needs = bool(model._needs_policy_actions())  # type: ignore[attr-defined]
    values |= {"policy": policy, "device": th.device("cpu"), "_needs_policy_actions": _Answer(needs), "_last_obs": None}
    values["_rollout_metrics"] = MeanMetrics()
    vars(acting).update(values)
    return acting


class _Answer:
    """:param value: What a call returns"""

    def __init__(self, value: Any):
        self.value = value

    def __call__(self) -> Any:
        return self.value


def state_to_act(model: Any) -> dict[str, Any]:
    """:return: What a copy of the model needs to choose actions as the model would now"""
    parts = {name: values for name, values in model.policy.state_dict().items() if name.split(".")[0] in model.acting_networks}
    return {
        # NumPy's arrays, which Ray shares between the processes of a machine
        "policy": {name: values.detach().cpu().numpy().copy() for name, values in parts.items()},
        "counters": {"num_timesteps": model.num_timesteps, "_n_updates": model._n_updates},
        # Pickled without its environments
        "normalize": model._vec_normalize_env,
    }


def own_noise(noise: ActionNoise | None, n_envs: int) -> ActionNoise | None:
    """:return: New noise of the same kind for another number of environments"""
    single = noise.base_noise if isinstance(noise, VectorizedActionNoise) else noise
    if single is None:
        return None
    single = deepcopy(single)
    single.reset()
    return VectorizedActionNoise(single, n_envs) if n_envs > 1 else single
