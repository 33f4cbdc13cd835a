"""Policies as files that run without SB3: ONNX and TorchScript."""

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import copy, deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.vec_env import VecNormalize
from torch import nn
from torch.distributions import Distribution

from sb3_pgfd.utils.files import write_whole


class ExportedPolicy(nn.Module):
    """
    What ``predict(observation, deterministic=True)`` does, from raw observations to actions in environment units.

    :param policy: Of a model
    :param env: Wrapper to normalise observations with, None: none
    """

    def __init__(self, policy: BasePolicy, env: VecNormalize | None):
        super().__init__()
        self.policy = policy
        self.action_space = policy.action_space
        space = policy.observation_space
        self.keys = list(space.spaces) if isinstance(space, spaces.Dict) else [""]
        self.normalized = self._register_statistics(env) if env is not None and env.norm_obs else []
        self.clip_obs = 0.0 if env is None else env.clip_obs
        if isinstance(self.action_space, spaces.Box):
            for name in ("low", "high"):
                self.register_buffer(name, th.as_tensor(getattr(self.action_space, name), dtype=th.float32))

    def _register_statistics(self, env: VecNormalize) -> list[str]:
        """:return: Keys of observations that are normalised"""
        statistics = env.obs_rms if isinstance(env.obs_rms, dict) else {"": env.obs_rms}
        keys = [key for key in self.keys if key in statistics]
        for key in keys:
            number = self.keys.index(key)
            deviation = np.sqrt(statistics[key].var + env.epsilon)
            self.register_buffer(f"mean_{number}", th.as_tensor(statistics[key].mean, dtype=th.float32))
            self.register_buffer(f"deviation_{number}", th.as_tensor(deviation, dtype=th.float32))
        return keys

    def forward(self, *observations: th.Tensor) -> th.Tensor:
        """
        :param observations: One for each key of a Dict, in the order of the space, with an axis for the batch
        :return: Actions, shape ``(batch, *action_shape)``
        """
        seen: dict[str, th.Tensor] = {}
        for number, (key, observation) in enumerate(zip(self.keys, observations, strict=True)):
            if key in self.normalized:
                mean, deviation = self.get_buffer(f"mean_{number}"), self.get_buffer(f"deviation_{number}")
                observation = ((observation - mean) / deviation).clamp(-self.clip_obs, self.clip_obs)
            seen[key] = observation
        is_dict = isinstance(self.policy.observation_space, spaces.Dict)
        actions = self.policy._predict(seen if is_dict else seen[""], deterministic=True)
        actions = actions.reshape(-1, *(self.action_space.shape or ()))
        if not isinstance(self.action_space, spaces.Box):
            return actions
        low, high = self.get_buffer("low"), self.get_buffer("high")
        return low + 0.5 * (actions + 1.0) * (high - low) if self.policy.squash_output else actions.clamp(low, high)


def export_policy(model: BaseAlgorithm, path: str | Path) -> Path:
    """
    :param model: Whose deterministic policy to write
    :param path: Of the file, which is replaced: ``.onnx``, or ``.pt`` for ``torch.jit.load``
    :return: The path
    :raises ValueError: If the name has another ending, or the statistics of the model's ``VecNormalize`` are missing
    :raises ImportError: If a library for ONNX is missing
    """
    path = Path(path)
    if path.suffix not in (".onnx", ".pt"):
        raise ValueError(f"export: found the ending {path.suffix!r} in {path}, expected .onnx or .pt")
    if getattr(model, "_saw_normalized", False) and model.get_vec_normalize_env() is None:
        raise ValueError(
            "export: found a model that learned from normalised observations and no VecNormalize, expected its statistics: "
            "load(path, env=VecNormalize.load(statistics, env))"
        )
    policy = ExportedPolicy(_copied(model.policy), model.get_vec_normalize_env()).eval()
    with write_whole(path, overwrite=True) as temporary, th.no_grad(), _tracing():
        (_write_onnx if path.suffix == ".onnx" else _write_script)(policy, _examples(model.observation_space), temporary)
    return path


def _copied(policy: BasePolicy) -> BasePolicy:
    """:return: A copy on the CPU, as the model may go on learning"""
    # An actor-critic keeps its last distribution with its graph, which cannot be copied. It makes a new one for each action
    distribution = getattr(policy, "action_dist", None)
    copied: BasePolicy = deepcopy(policy, {id(distribution): copy(distribution)}).cpu().requires_grad_(False)
    copied.set_training_mode(False)
    return copied


def _examples(space: spaces.Space) -> tuple[th.Tensor, ...]:
    """:return: Two observations, as one example would fix the size of the batch"""
    subspaces: Mapping[Any, Any] = space.spaces if isinstance(space, spaces.Dict) else {"": space}
    samples = (np.stack([subspace.sample()] * 2) for subspace in subspaces.values())
    return tuple(th.as_tensor(sample.astype(np.float32) if sample.dtype == np.float64 else sample) for sample in samples)


def _write_script(policy: ExportedPolicy, examples: tuple[th.Tensor, ...], path: Path) -> None:
    traced: Any = th.jit.trace(policy, examples)
    th.jit.save(traced, str(path))


@contextmanager
def _tracing() -> Iterator[None]:
    """What a trace of a policy cannot have: checks of a distribution's parameters, which branch on values; and notes."""
    checked, disabled = Distribution._validate_args, logging.root.manager.disable
    Distribution.set_default_validate_args(False)
    # PyTorch notes that branches are traced once, which depend on spaces and options only, and that torchvision is missing
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
        Distribution.set_default_validate_args(checked)


def _write_onnx(policy: ExportedPolicy, examples: tuple[th.Tensor, ...], path: Path) -> None:
    try:
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ImportError(f"export: cannot write ONNX ({error}): pip install sb3-pgfd[export]") from error
    names = policy.keys if policy.keys != [""] else ["observation"]
    batch = th.export.Dim("batch")
    th.onnx.export(
        policy,
        examples,
        str(path),
        input_names=names,
        output_names=["action"],
        dynamic_shapes={"observations": tuple({0: batch} for _ in examples)},
        dynamo=True,
        external_data=False,
        verbose=False,
    )
