"""The scripts of demos/: what they take for the same file, and how they are asked for less than all."""

from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from typing import Any

import numpy as np
import pytest
from toy_dataset import make

from demos import make_demos, measure_experts
from demos.recipes import RECIPES
from sb3_pgfd import Demonstrations

CALM, CHAOTIC = (next(recipe for recipe in RECIPES if recipe.chaotic == chaotic) for chaotic in (False, True))
TOY = make(metadata={"env_id": "Toy-v0", "success_rate": 1.0})


def run(script: Any, monkeypatch: pytest.MonkeyPatch, arguments: Sequence[str]) -> None:
    monkeypatch.setattr("sys.argv", [script.__name__, *arguments])
    script.main()


def test_rounding_is_no_difference():
    rounded = replace(TOY, actions=TOY.actions * (1 + 1e-6))
    assert make_demos.check(CALM, rounded, TOY) == "the same"


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"actions": TOY.actions / 2}, "actions"),
        ({"rewards": TOY.rewards + 0.001}, "rewards"),
        ({"observations": np.zeros((5, 2))}, "observations"),
        ({"episode_lengths": np.array([3, 2]), "terminated": [0, 0, 1, 0, 0]}, "episode_lengths"),
    ],
)
def test_another_file_is_told(changes: dict[str, Any], name: str):
    with pytest.raises(SystemExit, match=f"{CALM.name}: found .* with other {name}, expected"):
        make_demos.check(CALM, replace(TOY, **changes), TOY)


def test_where_bodies_hit_each_other_other_episodes_are_as_good():
    assert make_demos.check(CHAOTIC, replace(TOY, actions=TOY.actions / 2), TOY) == "other episodes, as good"
    # Returns of 3 and 12, and of 13 and 22: the means differ by 10, with a standard error of 4.5
    made = replace(TOY, rewards=TOY.rewards + np.array([5, 5, 4, 3, 3], dtype=np.float32))
    assert make_demos.check(CHAOTIC, made, TOY) == "other episodes, as good"


def simulated_by(mujoco: str) -> Demonstrations:
    return replace(TOY, metadata={**TOY.metadata, "versions": {"mujoco": mujoco}})


def test_another_physics_makes_other_episodes_that_are_as_good():
    recipe = replace(CALM, physics="mujoco")
    made = replace(simulated_by("3.3.0"), actions=TOY.actions / 2)
    expected = "other episodes, as good (found mujoco 3.3.0, made with mujoco 3.11.0)"
    assert make_demos.check(recipe, made, simulated_by("3.11.0")) == expected
    # Older files do not name theirs
    assert make_demos.check(recipe, made, TOY) == expected
    with pytest.raises(SystemExit, match="with other actions, expected"):
        make_demos.check(recipe, made, simulated_by("3.3.0"))
    with pytest.raises(SystemExit, match="with other actions, rewards, expected"):
        make_demos.check(recipe, replace(made, rewards=TOY.rewards + np.float32(20.0)), TOY)


def test_the_files_name_the_physics_that_made_them():
    recipe = next(recipe for recipe in RECIPES if recipe.name == "SparseAssembly-v3")
    made = make_demos.make(replace(recipe, n_episodes=1))
    stored = Demonstrations.load(recipe.name)
    assert made.metadata["versions"]["mujoco"] == version("mujoco")
    assert make_demos.physics_of(recipe, stored) == f"mujoco {stored.metadata['versions']['mujoco']}"
    assert stored.successes is not None
    assert stored.successes.all()
    assert stored.n_episodes == 10


@pytest.mark.parametrize(
    "made",
    [
        replace(TOY, rewards=TOY.rewards + np.float32(20.0)),
        replace(TOY, metadata={**TOY.metadata, "success_rate": 0.5}),
        TOY.select([1]),
    ],
    ids=["returns", "successes", "number"],
)
def test_worse_episodes_are_told_in_any_case(made: Demonstrations):
    made = replace(made, actions=made.actions / 2)
    with pytest.raises(SystemExit, match=f"{CHAOTIC.name}: found"):
        make_demos.check(CHAOTIC, made, TOY)


def test_observations_keep_the_bits_that_are_asked_for():
    observations = np.array([[1.0, -0.3], [0.0, 1e-20], [5.0, 1e20], [0.7, 3.0], [2.0, 1 / 3]], dtype=np.float32)
    compact = make_demos.compact(make(observations=observations, next_observations=observations), bits=4)
    found = np.asarray(compact.observations)
    # In steps of a sixteenth of the next power of two
    np.testing.assert_array_equal(found[[0, 3]], np.array([[1.0, -0.3125], [0.6875, 3.0]], dtype=np.float32))
    np.testing.assert_allclose(found, observations, rtol=2**-4)
    np.testing.assert_array_equal(found, compact.next_observations)
    assert found.dtype == np.float32
    assert found.flags.f_contiguous


def test_some_files_are_checked(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    run(make_demos, monkeypatch, ["--check", "Pendulum-v1", "MountainCarContinuous-v0"])
    assert capsys.readouterr().out == "Pendulum-v1.npz: the same\nMountainCarContinuous-v0.npz: the same\n"


@pytest.mark.parametrize("script", [make_demos, measure_experts])
def test_an_unknown_name_is_refused(script: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        run(script, monkeypatch, ["Pendulum-v0"])
    assert "'Pendulum-v0', expected " in capsys.readouterr().err


def test_an_expert_is_measured_with_and_without_noise(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    run(measure_experts, monkeypatch, ["Reacher-v5", "--episodes", "3"])
    header, *rows = (line.split() for line in capsys.readouterr().out.splitlines())
    assert header[:3] == ["environment", "action", "noise"]
    assert [row[:3] for row in rows] == [["Reacher-v5", noise, "-"] for noise in ("0", "0.1", "0.2")]
    returns = [float(row[3]) for row in rows]
    assert returns == sorted(returns, reverse=True)


def test_each_file_has_a_name_of_its_own():
    names = [recipe.name for recipe in RECIPES]
    assert len(set(names)) == len(names)
    assert all(recipe.name.startswith(recipe.env_id) for recipe in RECIPES)
