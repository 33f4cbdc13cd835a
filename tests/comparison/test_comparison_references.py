"""The demonstrations' own return."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from run_folders import make_run

from sb3_pgfd import Demonstrations
from sb3_pgfd.comparison import ComparisonError, Reference, aggregate, find_references
from sb3_pgfd.comparison.references import name_references, reached_at
from sb3_pgfd.demonstrations import DemonstrationsError, Episode


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    """Episodes that return 0, 1, 2 and 3; the even ones are successes."""
    episodes = [
        Episode(np.zeros((3, 1)), np.zeros((2, 1)), np.array([0.0, k]), terminated=True, success=k % 2 == 0) for k in range(4)
    ]
    return Demonstrations.from_episodes(episodes, {"env_id": "space/Toy-v0"}).save(tmp_path / "toy.npz")


def learned_from(source: Any, env: str = "Toy-v0") -> Any:
    return make_run({0: 0, 10: 1, 20: 2, 30: 1}, env=env, hyperparams={"demonstrations": source})


def test_runs_tell_what_they_learned_from(toy: Path):
    runs = [learned_from(str(toy)), learned_from(str(toy)), make_run({0: 0})]
    assert find_references(runs) == ([Reference("Toy-v0", "toy", 1.5, 0.5)], [])


def test_options_of_loading_are_kept(toy: Path):
    source = {"source": str(toy), "min_return": 2}
    assert find_references([learned_from(source)]) == ([Reference("Toy-v0", "toy", 2.5, 0.5)], [])


def test_parts_of_one_file_have_names_of_their_own(toy: Path):
    runs = [learned_from(str(toy)), learned_from({"source": str(toy), "min_return": 2})]
    assert [reference.name for reference in find_references(runs)[0]] == ["toy", "toy of sac"]


def test_those_of_a_replay_buffer_count_too(toy: Path):
    run = make_run({0: 0}, env="Toy-v0", hyperparams={"replay_buffer_kwargs": {"demonstrations": str(toy), "n_steps": 3}})
    assert find_references([run]) == ([Reference("Toy-v0", "toy", 1.5, 0.5)], [])
    assert find_references([make_run({0: 0}, hyperparams={"replay_buffer_kwargs": "dict(n_steps=3)"})]) == ([], [])


def test_packaged_demonstrations_have_no_path():
    (found,), notes = find_references([learned_from("Pendulum-v1")])
    returns = Demonstrations.load("Pendulum-v1").episode_returns
    assert (found.name, found.success_rate, notes) == ("Pendulum-v1", None, [])
    assert found.mean_return == pytest.approx(returns.mean())


@pytest.mark.parametrize("source", ["missing.npz", 3, {"source": "Pendulum-v1", "nonsense": 1}])
def test_what_cannot_be_read_is_noted(source: Any):
    references, notes = find_references([learned_from(source)])
    assert references == []
    assert len(notes) == 1
    assert notes[0].startswith("no line for the demonstrations of sac in Toy-v0: ")


def test_a_log_folder_is_not_trusted_to_run_code(tmp_path: Path):
    marker = tmp_path / "executed"

    class Hostile:
        def __reduce__(self) -> tuple[Any, ...]:
            return marker.touch, ()

    path = tmp_path / "hostile.pkl"
    path.write_bytes(pickle.dumps([Hostile()]))
    references, notes = find_references([learned_from({"source": str(path), "trusted": True})])
    assert (references, len(notes)) == ([], 1)
    assert not marker.exists()


def test_named_demonstrations_go_to_their_environment(toy: Path):
    assert [found.env for found in name_references([str(toy)], ["space-Toy-v0", "Pendulum-v1"])] == ["space-Toy-v0"]
    # One environment is what they must be of
    assert [found.env for found in name_references([str(toy)], ["Toy-v1"])] == ["Toy-v1"]
    with pytest.raises(ComparisonError, match=r"toy\.npz: found demonstrations of space-Toy-v0, expected one of A, B"):
        name_references([str(toy)], ["A", "B"])
    with pytest.raises(DemonstrationsError, match=r"nowhere"):
        name_references(["nowhere.npz"], ["A"])


def test_the_first_step_as_high_as_the_best_demonstrations_is_found():
    curve = aggregate([learned_from(None)])[0][0]
    references = [Reference("Toy-v0", "a", 0.5, None), Reference("Toy-v0", "b", 2.0, None), Reference("Other", "c", 9.0, None)]
    assert reached_at(curve, references) == 20
    assert reached_at(curve, references[:1]) == 10
    assert reached_at(curve, [Reference("Toy-v0", "d", 2.1, None)]) is None
    assert reached_at(curve, []) is None
