"""Files that are wrong in ways that no reader can refuse by their layout: none becomes a wrong result in silence."""

import dataclasses
import pickle
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import h5py
import numpy as np
import pytest
from gymnasium.wrappers import RescaleAction
from toy_dataset import box

from sb3_pgfd import DDPGfD, Demonstrations, DemonstrationsError
from sb3_pgfd.demonstrations import summarize

Columns = dict[str, np.ndarray]
LENGTH, N_EPISODES = 50, 20


def columns(n_episodes: int = N_EPISODES, length: int = LENGTH, scale: float = 2.0) -> Columns:
    """Walks from random starts: positions of Pendulum's shape, a time limit at the end of each."""
    rng = np.random.default_rng(0)
    walks = [rng.uniform(-0.9, 0.9, 3) + np.cumsum(rng.normal(0, 0.002, (length + 1, 3)), axis=0) for _ in range(n_episodes)]
    states = np.stack(walks).astype(np.float32)
    n_rows = n_episodes * length
    return {
        "observations": states[:, :-1].reshape(n_rows, 3),
        "actions": rng.uniform(-scale, scale, (n_rows, 1)).astype(np.float32),
        "rewards": rng.normal(size=n_rows).astype(np.float32),
        "next_observations": states[:, 1:].reshape(n_rows, 3),
        "ended": np.arange(n_rows) % length == length - 1,
    }


def rows(found: Columns, order: Any) -> Columns:
    return {name: array[order] for name, array in found.items()}


def without_flags(found: Columns, *episodes: int) -> Columns:
    ended = found["ended"].copy()
    ended[[LENGTH * (number + 1) - 1 for number in episodes]] = False
    return {**found, "ended": ended}


def from_arrays(path: Path, found: Columns) -> Demonstrations:
    names = ("observations", "actions", "rewards", "next_observations")
    ended = found["ended"]
    return Demonstrations.from_transitions(*(found[name] for name in names), np.zeros_like(ended), ended)


def from_tuples(path: Path, found: Columns) -> Demonstrations:
    names = ("observations", "actions", "rewards", "next_observations", "ended")
    path.write_bytes(pickle.dumps(list(zip(*(found[name] for name in names), strict=True))))
    return Demonstrations.load(path, done_means="truncated")


def from_dicts(path: Path, found: Columns) -> Demonstrations:
    names = ("observations", "actions", "rewards", "next_observations")
    content = [
        {**{name: found[name][k] for name in names}, "dones": end, "masks": 1.0} for k, end in enumerate(found["ended"])
    ]
    path.write_bytes(pickle.dumps(content))
    return Demonstrations.load(path)


def from_npz(path: Path, found: Columns) -> Demonstrations:
    ends = np.flatnonzero(np.append(found["ended"][:-1], True))
    ended = found["ended"].copy()
    ended[-1] = True
    members: dict[str, Any] = {name: array for name, array in found.items() if name != "ended"}
    np.savez(
        path.with_suffix(".npz"),
        **members,
        terminated=np.zeros_like(ended),
        truncated=ended,
        episode_lengths=np.diff(ends, prepend=-1),
        metadata=np.array('{"format": "sb3-pgfd demonstrations", "version": 1}'),
    )
    return Demonstrations.load(path.with_suffix(".npz"))


def from_d4rl(path: Path, found: Columns, without: tuple[str, ...] = (), **options: Any) -> Demonstrations:
    arrays = {name: array for name, array in found.items() if name != "ended"}
    arrays |= {"terminals": np.zeros(len(found["ended"]), bool), "timeouts": found["ended"]}
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            if name not in without:
                file[name] = array
    return Demonstrations.load(path, **options)


def from_robomimic(path: Path, found: Columns) -> Demonstrations:
    with h5py.File(path, "w") as file:
        starts = np.flatnonzero(np.append(True, found["ended"][:-1]))
        for number, (start, stop) in enumerate(zip(starts, [*starts[1:], len(found["ended"])], strict=True)):
            group = file.create_group(f"data/demo_{number}")
            group["obs/state"], group["next_obs/state"] = (
                found[name][start:stop] for name in ("observations", "next_observations")
            )
            group["actions"], group["rewards"] = found["actions"][start:stop], found["rewards"][start:stop]
            group["dones"] = np.zeros(stop - start)
    return Demonstrations.load(path, observation_keys="state")


Reader = Callable[..., Demonstrations]
READERS: list[Reader] = [from_arrays, from_tuples, from_dicts, from_npz, from_d4rl, from_robomimic]
GOOD = columns()
JUMP = r"found 1 place where .* first after row 149 .* no flag ends .* of 19 episodes 20 were made"


@pytest.mark.parametrize("read", READERS)
def test_an_end_that_no_flag_marks_is_cut_by_every_reader(read: Reader, tmp_path: Path):
    with pytest.warns(UserWarning, match=JUMP):
        demonstrations = read(tmp_path / "a", without_flags(GOOD, 2))
    assert demonstrations.episode_lengths.tolist() == [LENGTH] * N_EPISODES
    assert np.flatnonzero(demonstrations.truncated).tolist() == np.flatnonzero(GOOD["ended"]).tolist()
    assert not demonstrations.terminated.any()
    assert np.flatnonzero(demonstrations.episode_info["cut"]).tolist() == [2]
    assert box(demonstrations.next_observations).tolist() == GOOD["next_observations"].tolist()


@pytest.mark.parametrize("read", READERS)
def test_what_is_whole_is_read_without_a_word(read: Reader, tmp_path: Path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read(tmp_path / "a", GOOD).episode_lengths.tolist() == [LENGTH] * N_EPISODES


INTERLEAVED = np.arange(len(GOOD["ended"])).reshape(2, -1).T.ravel()
SHUFFLED = np.random.default_rng(1).permutation(len(GOOD["ended"]))

# What is wrong, how it is read, and what is said of it: by an error or warning of reading, or when a model is made
WRONG: dict[str, tuple[Callable[[Path], Demonstrations], str]] = {
    "no flag at all": (lambda p: from_tuples(p, without_flags(GOOD, *range(N_EPISODES))), "found 19 places"),
    "no flag at all, npz": (lambda p: from_npz(p, without_flags(GOOD, *range(N_EPISODES))), "found 19 places"),
    "rows left out": (lambda p: from_tuples(p, rows(GOOD, np.arange(1000) % 100 != 7)), "found 10 places"),
    "rows left out, D4RL": (lambda p: from_d4rl(p, rows(GOOD, np.arange(1000) % 100 != 7)), "found 10 places"),
    "one row twice": (lambda p: from_tuples(p, rows(GOOD, np.sort([*range(1000), 20]))), "found 1 place where"),
    "every row twice": (lambda p: from_tuples(p, rows(GOOD, np.repeat(np.arange(1000), 2))), "expected rows in the order"),
    "shuffled": (lambda p: from_tuples(p, rows(GOOD, SHUFFLED)), "shuffled"),
    "shuffled, D4RL": (lambda p: from_d4rl(p, rows(GOOD, SHUFFLED)), "shuffled"),
    "backwards": (lambda p: from_dicts(p, rows(GOOD, np.arange(1000)[::-1])), "expected rows in the order of time"),
    "two environments in turn": (lambda p: from_tuples(p, rows(GOOD, INTERLEAVED)), "of 2 environments are interleaved"),
    "two environments in turn, npz": (lambda p: from_npz(p, rows(GOOD, INTERLEAVED)), "of 2 environments are interleaved"),
    "next observations are observations": (
        lambda p: from_arrays(p, {**GOOD, "next_observations": GOOD["observations"]}),
        "expected rows in the order of time",
    ),
    "D4RL without timeouts": (lambda p: from_d4rl(p, GOOD, ("timeouts",)), "found 19 places"),
    "D4RL without timeouts and next observations": (
        lambda p: from_d4rl(p, GOOD, ("timeouts", "next_observations")),
        "pass episode_length",
    ),
    "D4RL without next observations and a timeout": (
        lambda p: from_d4rl(p, without_flags(GOOD, 2), ("next_observations",)),
        "Episodes 2 have a multiple|steps go .* times as far",
    ),
    "an end missing between episodes of any length": (
        lambda p: from_d4rl(p, rows(without_flags(GOOD, 2), np.arange(1000) % 100 >= 7), ("next_observations",)),
        "steps go .* times as far as any other, as a reset does: episode 2, step",
    ),
    "normalised actions": (lambda p: from_tuples(p, columns(scale=1.0)), r"never leave \[-1, 1\], .* from -2 to 2"),
    "degrees": (
        lambda p: from_tuples(p, {**GOOD, "actions": GOOD["actions"] * 57.3}),
        r"found .*, expected a value in .* recorded_low=..., recorded_high=..., action_low=-2.0, action_high=2.0",
    ),
    "millimetres": (
        lambda p: from_tuples(
            p, {**GOOD, "observations": GOOD["observations"] * 1000, "next_observations": GOOD["next_observations"] * 1000}
        ),
        "outside the bounds of",
    ),
    "rewards that are all 0": (lambda p: from_tuples(p, {**GOOD, "rewards": GOOD["rewards"] * 0}), "All rewards are 0"),
}


@pytest.mark.parametrize("name", WRONG)
def test_no_wrong_file_is_used_in_silence(name: str, tmp_path: Path):
    make, expected = WRONG[name]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        said = []
        try:
            demonstrations = make(tmp_path / "a")
            # Of rewards the model says when it learns
            said += summarize(demonstrations).warnings if name.startswith("rewards") else []
            DDPGfD("MlpPolicy", gym.make("Pendulum-v1"), demonstrations=demonstrations, policy_kwargs={"net_arch": [4]})
        except DemonstrationsError as error:
            said.append(str(error))
    said += [str(warning.message) for warning in caught]
    assert any(re.search(expected, text) for text in said), said


@pytest.mark.parametrize("kind", [np.float64, np.float16])
def test_rounding_is_no_jump(kind: Any):
    # The same states in two dtypes, and a jump that is no larger than a step
    found = {**GOOD, "next_observations": GOOD["next_observations"].astype(kind)}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert from_arrays(Path(), found).n_episodes == N_EPISODES
    rounded = {**GOOD, "observations": GOOD["observations"].astype(np.float64) + 1e-8}
    moved = {**rounded, "next_observations": GOOD["next_observations"] + 0.01 * (np.arange(1000) == 30)[:, None]}
    with pytest.warns(UserWarning, match=r"found 1 place where .* first after row 30"):
        assert from_arrays(Path(), moved).n_episodes == N_EPISODES + 1


def test_success_is_known_of_the_parts_where_each_step_tells(tmp_path: Path):
    found = without_flags(GOOD, 2)
    success = np.arange(1000) == 120
    with h5py.File(tmp_path / "a", "w") as file:
        for name in ("observations", "actions", "rewards", "next_observations"):
            file[name] = found[name]
        file["terminals"], file["timeouts"], file["infos/success"] = np.zeros(1000, bool), found["ended"], success
    with pytest.warns(UserWarning, match=r"found 1 place"):
        demonstrations = Demonstrations.load(tmp_path / "a")
    assert demonstrations.successes is not None
    assert np.flatnonzero(demonstrations.successes).tolist() == [2]


def test_a_cut_is_told_after_saving_and_merging(tmp_path: Path):
    with pytest.warns(UserWarning, match=r"found 1 place"):
        cut = from_arrays(tmp_path, without_flags(GOOD, 2))
    whole = from_arrays(tmp_path, GOOD)
    merged = Demonstrations.load(Demonstrations.merge([whole, cut]).save(tmp_path / "merged.npz"))
    assert np.flatnonzero(merged.episode_info["cut"]).tolist() == [N_EPISODES + 2]
    assert any("1 of 40 episodes were cut" in text for text in summarize(merged).warnings)
    assert not any("were cut" in text for text in summarize(merged.select(N_EPISODES)).warnings)


def test_what_would_be_refused_is_not_written(tmp_path: Path):
    wrong = dataclasses.replace(from_arrays(tmp_path, GOOD), next_observations=GOOD["observations"])
    with pytest.raises(DemonstrationsError, match=r"expected rows in the order of time"):
        wrong.save(tmp_path / "a.npz")
    assert list(tmp_path.iterdir()) == []


def test_the_hint_on_units_is_right_in_both_directions():
    rescaled, plain = RescaleAction(gym.make("Pendulum-v1"), np.float32(-1), np.float32(1)), gym.make("Pendulum-v1")
    environment_units = from_arrays(Path(), GOOD)
    with pytest.raises(DemonstrationsError, match=r"expected a value in \[-1.0, 1.0\].* action_low=-1.0, action_high=1.0"):
        environment_units.check_spaces(rescaled.observation_space, rescaled.action_space)
    # What the message says
    there = Demonstrations.load(environment_units, recorded_low=-2, recorded_high=2, action_low=-1.0, action_high=1.0)
    there.check_spaces(rescaled.observation_space, rescaled.action_space)
    np.testing.assert_allclose(there.actions, GOOD["actions"] / 2, atol=1e-6)
    back = Demonstrations.load(there, action_low=-2.0, action_high=2.0)
    back.check_spaces(plain.observation_space, plain.action_space)
    np.testing.assert_allclose(back.actions, GOOD["actions"], atol=1e-6)
    with pytest.raises(DemonstrationsError, match=r"found an action of .*, expected all in \[-1, 1\].* leave out action_low"):
        environment_units.rescale_actions(-2.0, 2.0)
    with pytest.raises(DemonstrationsError, match=r"found recorded_low or recorded_high, expected also action_low"):
        Demonstrations.load(environment_units, recorded_low=-2)
