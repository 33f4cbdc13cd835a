"""
Make the packaged demonstrations: scripted experts, made worse on purpose, then recorded.

    python demos/make_demos.py            # writes demos/*.npz
    python demos/make_demos.py --check    # fails if the files in demos/ are not what this script makes
"""

import argparse
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import gymnasium as gym
import numpy as np

from sb3_pgfd.demonstrations import Demonstrations, record
from sb3_pgfd.demonstrations.recording.experts import scripted_expert

DEMOS = Path(__file__).parent


def pump_and_catch(observation: np.ndarray) -> np.ndarray:
    """
    Swing up and balance Pendulum-v1: pump energy with full torque, and hold upright with a proportional-derivative
    controller near the top.

    :param observation: cos(theta), sin(theta), theta_dot; theta = 0 is upright
    :return: Torque in [-2, 2]
    """
    cos, sin, speed = observation
    if cos > 0.9:
        torque = -(10.0 * np.arctan2(sin, cos) + 2.5 * speed)
    else:
        # Mechanical energy over that of standing upright, in units of m l^2: I = 1/3, g l / 2 = 5
        energy = speed**2 / 6.0 + 5.0 * (cos - 1.0)
        torque = -2.0 * np.sign(speed * energy) if abs(speed) > 1e-3 else 2.0
    return np.array([torque], dtype=np.float32)


def push_along(observation: np.ndarray) -> np.ndarray:
    """
    Drive MountainCarContinuous-v0 up the hill: always full throttle in the direction of motion.

    :param observation: Position, speed
    :return: Force in [-1, 1]
    """
    return np.array([1.0 if observation[1] >= 0.0 else -1.0], dtype=np.float32)


def clumsy(expert: Callable[[np.ndarray], np.ndarray], share: float, seed: int = 0) -> Callable[[np.ndarray], np.ndarray]:
    """
    :param expert: A controller
    :param share: Share of the steps in which it does the opposite
    :param seed: Which steps
    :return: A worse controller
    """
    rng = np.random.default_rng(seed)

    def act(observation: np.ndarray) -> np.ndarray:
        return expert(observation) * (-1.0 if rng.random() < share else 1.0)

    return act


@dataclass(frozen=True)
class Recipe:
    name: str
    env_id: str
    expert: Callable[[np.ndarray], np.ndarray] | None
    """None: the one that Gymnasium has"""
    n_episodes: int
    action_noise: float
    producer: str


RECIPES = (
    Recipe(
        name="Pendulum-v1",
        env_id="Pendulum-v1",
        expert=pump_and_catch,
        n_episodes=5,
        action_noise=0.8,
        producer="scripted: energy pumping and a PD controller, with noise (demos/make_demos.py)",
    ),
    Recipe(
        name="Pendulum-v1-20",
        env_id="Pendulum-v1",
        expert=pump_and_catch,
        n_episodes=20,
        action_noise=0.3,
        producer="scripted: energy pumping and a PD controller, with noise (demos/make_demos.py)",
    ),
    Recipe(
        name="LunarLanderContinuous-v3",
        env_id="LunarLanderContinuous-v3",
        expert=None,
        n_episodes=20,
        action_noise=0.1,
        producer="scripted: Gymnasium's own heuristic, with noise (demos/make_demos.py)",
    ),
    Recipe(
        name="MountainCarContinuous-v0",
        env_id="MountainCarContinuous-v0",
        expert=clumsy(push_along, share=0.2),
        n_episodes=3,
        action_noise=0.1,
        producer="scripted: full throttle along the speed, the wrong way in a fifth of the steps (demos/make_demos.py)",
    ),
)


def make(recipe: Recipe) -> Demonstrations:
    """:param recipe: What to record"""
    with closing(gym.make(recipe.env_id)) as env:
        return record(
            recipe.expert or scripted_expert(env),
            env,
            recipe.n_episodes,
            action_noise=recipe.action_noise,
            producer=recipe.producer,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare with the files instead of writing them")
    args = parser.parse_args()
    for recipe in RECIPES:
        demonstrations, path = make(recipe), DEMOS / f"{recipe.name}.npz"
        if args.check:
            stored = Demonstrations.load(path)
            for name in ("observations", "actions", "rewards", "episode_lengths"):
                np.testing.assert_allclose(getattr(stored, name), getattr(demonstrations, name), rtol=1e-5, atol=1e-5)
        else:
            demonstrations.save(path, overwrite=True)
        print(f"{path.name}: {demonstrations}, returns {np.round(demonstrations.episode_returns, 1).tolist()}")


if __name__ == "__main__":
    main()
