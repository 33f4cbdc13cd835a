"""Finding, reading and labelling runs."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from run_folders import write_run
from stable_baselines3 import SAC
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.monitor import Monitor

from sb3_pgfd.comparison import ComparisonError, Run, find_runs
from sb3_pgfd.comparison.runs import STUDY_COLUMNS, folder_name, read_evaluations

CURVE = {0: 1.0, 100: 2.0}


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    root = tmp_path / "logs"
    for name in (
        "sac/Pendulum-v1_1",
        "sac/Pendulum-v1_2",
        "sac/Reacher-v5_1",
        "ddpgfd/Pendulum-v1_10",
        "ddpgfd/Pendulum-v1_9",
    ):
        write_run(root, name, CURVE)
    return root


def names(runs: list[Run]) -> list[str]:
    return [f"{run.folder.parent.name}/{run.folder.name}" for run in runs]


def labels(runs: list[Run]) -> set[str]:
    return {run.label for run in runs}


def test_a_log_root_has_all_runs(logs: Path):
    runs, notes = find_runs([logs])
    assert names(runs) == [
        "ddpgfd/Pendulum-v1_10",
        "ddpgfd/Pendulum-v1_9",
        "sac/Pendulum-v1_1",
        "sac/Pendulum-v1_2",
        "sac/Reacher-v5_1",
    ]
    assert notes == []
    assert [(run.algo, run.env, run.seed, run.label) for run in (runs[0], runs[2])] == [
        ("ddpgfd", "Pendulum-v1", 10, "ddpgfd"),
        ("sac", "Pendulum-v1", 1, "sac"),
    ]
    assert runs[0].hyperparams == {"gamma": 0.9}


def test_folders_of_any_kind_can_be_mixed_and_runs_are_taken_once(logs: Path):
    runs, _ = find_runs([logs / "sac" / "Pendulum-v1_2", logs / "sac", str(logs / "ddpgfd"), logs / "sac" / ".." / "sac"])
    assert sorted(names(runs)) == sorted(names(find_runs([logs])[0]))
    # The runs of one root are one curve, whichever way they were named
    assert labels(runs) == {"sac", "ddpgfd"}


def test_the_roots_of_the_same_algorithm_are_told_apart(logs: Path, tmp_path: Path):
    write_run(tmp_path / "old", "sac/Pendulum-v1_1", CURVE)
    assert labels(find_runs([logs, tmp_path / "old"])[0]) == {"ddpgfd", "sac (logs)", "sac (old)"}
    write_run(tmp_path / "old" / "logs", "sac/Pendulum-v1_1", CURVE)
    assert "sac (old/logs)" in labels(find_runs([logs, tmp_path / "old" / "logs"])[0])


def test_studies_are_told_apart(logs: Path, tmp_path: Path):
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        rows = [",".join(STUDY_COLUMNS), *(f"Pendulum-v1,Pendulum-v1,sac,default,0,{t},1.0," for t in CURVE)]
        (tmp_path / name / "results.csv").write_text("\n".join(rows))
    studies = [tmp_path / "old" / "results.csv", tmp_path / "new" / "results.csv"]
    assert labels(find_runs(studies)[0]) == {"sac (old)", "sac (new)"}
    assert labels(find_runs([studies[0], logs])[0]) == {"sac (old)", "sac (logs)", "ddpgfd"}
    assert labels(find_runs(studies[:1])[0]) == {"sac"}


def test_labels_name_folders(logs: Path):
    runs, _ = find_runs([logs / "sac", logs / "ddpgfd" / "Pendulum-v1_9", logs / "ddpgfd" / "Pendulum-v1_10"], ["a", "b", "b"])
    assert [run.label for run in runs] == ["a", "a", "a", "b", "b"]
    assert labels(find_runs([logs], ["mine"])[0]) == {"mine ddpgfd", "mine sac"}
    with pytest.raises(ComparisonError, match="labels: found 1, expected 2"):
        find_runs([logs, logs], ["a"])


def test_without_arguments_the_folders_tell(tmp_path: Path):
    write_run(tmp_path, "tqc/space-Maze_12", CURVE, arguments=False)
    run = find_runs([tmp_path])[0][0]
    assert (run.algo, run.env, run.seed, dict(run.hyperparams)) == ("tqc", "space-Maze", None, {})


def test_folders_that_tell_no_environment_are_left_out(tmp_path: Path):
    write_run(tmp_path, "study/trial_3", CURVE, arguments=False)
    (tmp_path / "study" / "trial_3" / "trial").rmdir()
    write_run(tmp_path, "sac/Pendulum-v1_1", CURVE)
    runs, notes = find_runs([tmp_path])
    assert names(runs) == ["sac/Pendulum-v1_1"]
    assert len(notes) == 1
    assert "left out: " in notes[0]
    assert "trial_3: found no <environment>/args.yml" in notes[0]
    with pytest.raises(ComparisonError, match=r"study: found no run to compare .*trial_3"):
        find_runs([tmp_path / "study"])


def test_damaged_runs_are_left_out_and_named(logs: Path):
    (logs / "sac" / "Pendulum-v1_1" / "evaluations.npz").write_bytes(b"PK")
    (logs / "sac" / "Pendulum-v1_2" / "Pendulum-v1" / "args.yml").write_text("[")
    runs, notes = find_runs([logs])
    assert len(runs) == 3
    assert [Path("Pendulum-v1_1", "evaluations.npz").as_posix() in notes[0], "args.yml" in notes[1]] == [True, True]


def test_folders_without_runs_are_refused(tmp_path: Path):
    for name, found in (("missing", "no such folder"), ("file", "a file"), ("empty", r"no run to compare \(no evaluations")):
        (tmp_path / "file").touch()
        (tmp_path / "empty").mkdir(exist_ok=True)
        with pytest.raises(ComparisonError, match=f"{name}: found {found}"):
            find_runs([tmp_path / name])


def test_environments_are_called_as_their_folders():
    assert folder_name("package:space/Maze-v0") == "space-Maze-v0"


def write_evaluations(folder: Path, **changes: Any) -> Path:
    arrays = {"timesteps": [10, 20], "results": [[1.0, 3.0], [4.0, 6.0]], "successes": [[True, False], [True, True]]}
    path = folder / "evaluations.npz"
    np.savez(path, **{name: array for name, array in {**arrays, **changes}.items() if array is not None})
    return path


def evaluations(path: Path) -> list[list[float] | None]:
    return [None if array is None else array.tolist() for array in read_evaluations(path)]


def test_the_episodes_of_an_evaluation_are_averaged(tmp_path: Path):
    assert evaluations(write_evaluations(tmp_path)) == [[10, 20], [2, 5], [0.5, 1]]
    assert evaluations(write_evaluations(tmp_path, successes=None)) == [[10, 20], [2, 5], None]


def test_of_two_evaluations_at_a_step_the_later_counts(tmp_path: Path):
    path = write_evaluations(tmp_path, timesteps=[10, 20, 20], results=[[1], [2], [3]], successes=[[0], [0], [1]])
    assert evaluations(path) == [[10, 20], [1, 3], [0, 1]]


def test_what_eval_callback_writes_is_read(tmp_path: Path):
    env = Monitor(gym.make("Pendulum-v1", max_episode_steps=5))
    callback = EvalCallback(env, n_eval_episodes=2, eval_freq=4, log_path=str(tmp_path), verbose=0)
    SAC("MlpPolicy", env, policy_kwargs={"net_arch": [4]}, learning_starts=100).learn(8, callback=callback)
    timesteps, returns, successes = read_evaluations(tmp_path / "evaluations.npz")
    assert timesteps.tolist() == [4, 8]
    np.testing.assert_allclose(returns, np.mean(callback.evaluations_results, axis=1))
    assert successes is None


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"results": None}, r"found the arrays \['successes', 'timesteps'\], expected 'timesteps' and 'results'"),
        ({"timesteps": [], "results": np.empty((0, 2)), "successes": None}, "timesteps: found array"),
        ({"timesteps": [20, 10]}, r"timesteps: found array\(\[20\., 10\.\]\), expected ascending"),
        ({"results": [[1.0, 2.0]]}, r"results: found shape \(1, 2\), expected \(2, episodes\)"),
        ({"results": [[1.0, np.nan], [1.0, 2.0]]}, "results: found dtype float64 or NaN or infinity"),
        ({"results": np.array([[1.0], [2.0, 3.0]], dtype=object)}, r"cannot be read .*allow_pickle=False"),
    ],
)
def test_other_arrays_are_refused_by_name(changes: dict[str, Any], found: str, tmp_path: Path):
    with pytest.raises(ComparisonError, match=r"evaluations\.npz: .*" + found):
        read_evaluations(write_evaluations(tmp_path, **changes))


def test_a_truncated_file_is_refused(tmp_path: Path):
    path = write_evaluations(tmp_path)
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
