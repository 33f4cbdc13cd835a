"""
Does a resumed run go on bit for bit? Each kind of run is saved on its way, resumed in new environments, and compared with the
run that was not interrupted: actions, rewards, parameters and logged numbers of every step.

    python -m benchmarks.resume_equality             # writes benchmarks/results/resume_equality.csv
"""

import argparse
import csv
import hashlib
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.noise import OrnsteinUhlenbeckActionNoise
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from sb3_pgfd import A2CfD, DDPGfD, SACfD, TD3fD
from sb3_pgfd.callbacks import SaveTrainingState
from sb3_pgfd.zoo.command_line import register_environments

RESULTS = Path(__file__).parent / "results" / "resume_equality.csv"
SMALL: dict[str, Any] = {"seed": 3, "device": "cpu"}
NETWORKS: dict[str, Any] = {"net_arch": [32, 32]}


def pendulum() -> VecEnv:
    """:return: One environment with short episodes that end at different times than the updates"""
    return make_vec_env("Pendulum-v1", seed=3)


def plain() -> tuple[Any, ...]:
    """DDPGfD as it is"""
    return DDPGfD, "MlpPolicy", pendulum, "Pendulum-v1", {"pretrain_steps": 50, "policy_kwargs": NETWORKS, **SMALL}


def everything() -> tuple[Any, ...]:
    """DDPGfD with every option that has a state of its own"""
    noise = OrnsteinUhlenbeckActionNoise(np.zeros(1), 0.2 * np.ones(1))
    policy = {**NETWORKS, "n_critics": 2, "layer_norm": True, "average_actor": 0.01, "actor_dropout": 0.1}
    buffer = {"relative_priorities": True, "keep_successes": True}
    options = {
        "action_noise": noise,
        "learning_rate": LinearSchedule(1e-3, 0.0, 1.0),
        "actor_learning_rate": LinearSchedule(1e-4, 1e-5, 0.5),
        "importance_exponent": LinearSchedule(0.4, 1.0, 1.0),
        "train_freq": 3,
        "gradient_steps": 2,
        "bc_coef": 1.0,
        "q_filter": True,
        "normalize_actor_loss": True,
        "q_range": (-3000.0, 0.0),
        "buffer_size": 700,
    }
    kwargs = {"pretrain_steps": 50, "policy_kwargs": policy, "replay_buffer_kwargs": buffer, **options, **SMALL}
    return DDPGfD, "MlpPolicy", lambda: VecNormalize(pendulum()), "Pendulum-v1", kwargs


def td3fd() -> tuple[Any, ...]:
    """TD3fD with its defaults"""
    return TD3fD, "MlpPolicy", pendulum, "Pendulum-v1", {"pretrain_steps": 50, "critic_warmup_steps": 300, **SMALL}


def proposals() -> tuple[Any, ...]:
    """TD3fD with its defaults and policy proposals, soft ones, which draw random numbers"""
    own = {"pretrain_steps": 50, "critic_warmup_steps": 300, "proposals": "soft"}
    return TD3fD, "MlpPolicy", pendulum, "Pendulum-v1", {**own, **SMALL}


def sacfd() -> tuple[Any, ...]:
    """SACfD with its defaults, which learn the entropy coefficient, and the policy's actions without noise"""
    own = {"pretrain_steps": 50, "critic_warmup_steps": 300, "replay_buffer_kwargs": {"denoise_successes": True}}
    return SACfD, "MlpPolicy", pendulum, "Pendulum-v1", {**own, **SMALL}


def a2cfd() -> tuple[Any, ...]:
    """A2CfD with VecNormalize, RMSprop and a schedule"""
    options = {"use_rms_prop": True, "learning_rate": LinearSchedule(1e-3, 0.0, 1.0), "critic_warmup_steps": 100}
    kwargs = {"pretrain_steps": 50, "n_steps": 8, "policy_kwargs": NETWORKS, **options, **SMALL}
    return A2CfD, "MlpPolicy", lambda: VecNormalize(pendulum()), "Pendulum-v1", kwargs


def hindsight() -> tuple[Any, ...]:
    """TD3fD with hindsight and kept successes in a simulator that cannot be pickled"""
    buffer = {"her_ratio": 0.6, "keep_successes": True}
    kwargs = {"pretrain_steps": 50, "replay_buffer_kwargs": buffer, "policy_kwargs": NETWORKS, **SMALL}
    return TD3fD, "MultiInputPolicy", lambda: make_vec_env("FetchReach-v4", seed=3), "FetchReach-v4", kwargs


def four() -> tuple[Any, ...]:
    """DDPGfD in four environments, whose episodes end at different times"""

    def env() -> VecEnv:
        return make_vec_env("LunarLanderContinuous-v3", n_envs=4, seed=3)

    kwargs = {"pretrain_steps": 50, "action_noise": 0.1, "gradient_steps": 1, "policy_kwargs": NETWORKS, **SMALL}
    return DDPGfD, "MlpPolicy", env, "LunarLanderContinuous-v3", kwargs


KINDS: dict[str, Callable[[], tuple[Any, ...]]] = {
    "ddpgfd": plain,
    "ddpgfd_every_option": everything,
    "td3fd": td3fd,
    "td3fd_proposals": proposals,
    "sacfd": sacfd,
    "a2cfd_vecnormalize_rmsprop": a2cfd,
    "td3fd_her_successes": hindsight,
    "ddpgfd_4_envs": four,
}


class Trace(BaseCallback):
    """Notes what a step did, as a number that any difference changes."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: dict[int, str] = {}

    def _on_step(self) -> bool:
        digest = hashlib.sha256()
        for name in ("actions", "rewards", "dones"):
            digest.update(np.ascontiguousarray(self.locals[name]).tobytes())
        for tensor in self.model.policy.state_dict().values():
            digest.update(tensor.numpy().tobytes())
        logged = {name: value for name, value in self.logger.name_to_value.items() if not name.startswith("time/")}
        digest.update(repr(sorted(logged.items())).encode())
        self.steps[self.num_timesteps] = digest.hexdigest()
        return True


class SaveOnce(SaveTrainingState):
    """Saves at the first end of an episode after so many steps, or at once."""

    def __init__(self, folder: Path, after: int, at_end: bool):
        super().__init__(folder, every=0.0, keep=1)
        self.after, self.at_end = after, at_end

    def between_steps(self) -> None:
        """Saves once."""
        is_end = not self.at_end or (self.num_timesteps > 0 and bool(self.locals["dones"].all()))
        if self.newest is None and self.num_timesteps >= self.after and is_end:
            self.save()

    def _on_training_end(self) -> None:
        self._release()


def compare(kind: str, after: int, steps: int, at_end: bool = True) -> dict[str, Any]:
    """
    :param kind: Of run
    :param after: Steps before it is saved
    :param steps: To compare after that
    :param at_end: Whether to save at the end of an episode
    :return: Row of the CSV
    """
    algorithm, policy, make_env, demonstrations, options = KINDS[kind]()
    total = 2 * after + steps if at_end else after + steps
    with tempfile.TemporaryDirectory() as folder:
        whole, saver = Trace(), SaveOnce(Path(folder), after, at_end)
        first = algorithm(policy, make_env(), demonstrations, **options)
        first.learn(total, callback=[saver, whole], log_interval=1)
        assert saver.newest is not None, "no episode ended where all of them did"
        np.random.seed(999)
        th.manual_seed(999)
        env, resumed = make_env(), Trace()
        second = algorithm.resume(folder, env)
        begin = second.num_timesteps
        second.learn(total, callback=[SaveOnce(Path(folder) / "none", total, False), resumed], log_interval=1)
    compared = [step for step in whole.steps if step > begin][:steps]
    equal = sum(whole.steps[step] == resumed.steps.get(step) for step in compared)
    same_buffer = all(
        np.array_equal(first.buffer.ring.columns[name], column)
        for name, column in (second.buffer.ring.columns.items() if hasattr(second, "buffer") else ())
    )
    final = all(th.equal(value, second.policy.state_dict()[name]) for name, value in first.policy.state_dict().items())
    return {
        "kind": kind,
        "saved_at": begin,
        "at_episode_end": at_end,
        "steps_compared": len(compared),
        "steps_equal": equal,
        "final_parameters_equal": final and same_buffer,
    }


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1000, help="to compare after resuming")
    parser.add_argument("--after", type=int, default=400, help="steps before the state is saved")
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=list(KINDS))
    options = parser.parse_args()
    th.set_num_threads(1)
    register_environments()
    rows = []
    for kind in options.kinds:
        for at_end in (True, False):
            if at_end and kind == "ddpgfd_4_envs":
                continue
            # In a step between those of updates and log lines
            rows.append(compare(kind, options.after + (0 if at_end else 37), options.steps, at_end))
            print(rows[-1], flush=True)
    with RESULTS.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
