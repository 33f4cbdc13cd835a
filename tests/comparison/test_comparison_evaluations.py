"""Reading ``evaluations.npz``."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3 import SAC
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.monitor import Monitor

from sb3_pgfd.comparison import ComparisonError
from sb3_pgfd.comparison.evaluations import read_evaluations


def write(folder: Path, **changes: Any) -> Path:
    arrays = {"timesteps": [10, 20], "results": [[1.0, 3.0], [4.0, 6.0]], "successes": [[True, False], [True, True]]}
    path = folder / "evaluations.npz"
    np.savez(path, **{name: array for name, array in {**arrays, **changes}.items() if array is not None})
    return path


def test_episodes_are_averaged(tmp_path: Path):
    evaluations = read_evaluations(write(tmp_path))
    assert evaluations.timesteps.tolist() == [10, 20]
    assert evaluations.returns.tolist() == [2, 5]
    assert evaluations.successes is not None
    assert evaluations.successes.tolist() == [0.5, 1]


def test_successes_may_be_missing(tmp_path: Path):
    assert read_evaluations(write(tmp_path, successes=None)).successes is None


def test_of_two_evaluations_at_a_step_the_later_counts(tmp_path: Path):
    path = write(tmp_path, timesteps=[10, 20, 20], results=[[1], [2], [3]], successes=[[0], [0], [1]])
    evaluations = read_evaluations(path)
    assert evaluations.timesteps.tolist() == [10, 20]
    assert evaluations.returns.tolist() == [1, 3]
    assert evaluations.successes is not None
    assert evaluations.successes.tolist() == [0, 1]


def test_what_eval_callback_writes_is_read(tmp_path: Path):
    env = Monitor(gym.make("Pendulum-v1", max_episode_steps=5))
    callback = EvalCallback(env, n_eval_episodes=2, eval_freq=4, log_path=str(tmp_path), verbose=0)
    SAC("MlpPolicy", env, policy_kwargs={"net_arch": [4]}, learning_starts=100).learn(8, callback=callback)
    evaluations = read_evaluations(tmp_path / "evaluations.npz")
    assert evaluations.timesteps.tolist() == [4, 8]
    np.testing.assert_allclose(evaluations.returns, np.mean(callback.evaluations_results, axis=1))
    assert evaluations.successes is None


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"results": None}, "found no 'results'"),
        ({"timesteps": None}, "found no 'timesteps'"),
        ({"timesteps": [], "results": np.empty((0, 2)), "successes": None}, "timesteps: found none"),
        ({"timesteps": [20, 10]}, "timesteps: found falling numbers"),
        ({"timesteps": [[10], [20]]}, r"timesteps: found shape \(2, 1\)"),
        ({"results": [[1.0, 2.0]]}, r"results: found shape \(1, 2\), expected \(2, episodes\)"),
        ({"results": [1.0, 2.0]}, r"results: found shape \(2,\)"),
        ({"results": [[], []]}, r"results: found shape \(2, 0\)"),
        ({"successes": [[True]]}, r"successes: found shape \(1, 1\)"),
        ({"results": [[1.0, np.nan], [1.0, 2.0]]}, "results: found NaN or infinity"),
        ({"results": [["a", "b"], ["c", "d"]]}, "results: found dtype <U1"),
    ],
)
def test_other_arrays_are_refused_by_name(changes: dict[str, Any], found: str, tmp_path: Path):
    with pytest.raises(ComparisonError, match=r"evaluations\.npz: .*" + found):
        read_evaluations(write(tmp_path, **changes))


def test_pickled_objects_are_refused(tmp_path: Path):
    path = write(tmp_path, results=np.array([[1.0], [2.0, 3.0]], dtype=object))
    with pytest.raises(ComparisonError, match=r"cannot be read .*allow_pickle=False"):
        read_evaluations(path)


def test_a_truncated_file_is_refused(tmp_path: Path):
    path = write(tmp_path)
    content = path.read_bytes()
    for length in (0, 10, len(content) // 2, len(content) - 5):
        path.write_bytes(content[:length])
        with pytest.raises(ComparisonError, match=r"evaluations\.npz: found a file that cannot be read"):
            read_evaluations(path)


def test_a_single_array_is_refused(tmp_path: Path):
    with (tmp_path / "evaluations.npz").open("wb") as file:
        np.save(file, np.ones(3))
    with pytest.raises(ComparisonError, match="cannot be read"):
        read_evaluations(tmp_path / "evaluations.npz")
