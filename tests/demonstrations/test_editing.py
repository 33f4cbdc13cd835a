"""The options that every source has, and what is made of demonstrations in memory."""

from collections import OrderedDict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from point_to_goal import PointToGoal, to_goal
from toy_dataset import ACTION_SPACE, FIELDS, assert_same, box, make, make_dict, make_discrete

from sb3_pgfd import Demonstrations, DemonstrationsError
from sb3_pgfd.demonstrations import Episode, record
from sb3_pgfd.demonstrations.editing import choose_observations, merge, split
from sb3_pgfd.demonstrations.spaces import space_to_json


def numbered(
    returns: list[float], successes: list[bool] | None = None, seeds: list[int] | None = None, **metadata: Any
) -> Demonstrations:
    """Episodes of one step; what they return tells which is which."""
    episodes = [
        Episode(
            observations=np.array([[value], [value + 0.5]]),
            actions=np.zeros((1, 1), np.float32),
            rewards=np.array([value]),
            terminated=True,
            success=None if successes is None else successes[number],
            seed=None if seeds is None else seeds[number],
        )
        for number, value in enumerate(returns)
    ]
    return Demonstrations.from_episodes(episodes, metadata)


def numbers(demonstrations: Demonstrations) -> list[float]:
    return demonstrations.episode_returns.tolist()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [3, 1, 4, 1, 5]),
        ({"n_episodes": 2}, [3, 1]),
        ({"n_episodes": 5}, [3, 1, 4, 1, 5]),
        ({"min_return": 3}, [3, 4, 5]),
        ({"min_return": 3, "n_episodes": 2}, [3, 4]),
        ({"successful_only": True}, [1, 4, 5]),
        ({"successful_only": True, "min_return": 2}, [4, 5]),
        ({"successful_only": True, "min_return": 2, "n_episodes": 1}, [4]),
        # A seed alone chooses nothing
        ({"seed": 3}, [3, 1, 4, 1, 5]),
    ],
)
def test_episodes_are_picked(options: Any, expected: list[float]):
    source = numbered([3, 1, 4, 1, 5], successes=[False, True, True, False, True])
    assert numbers(Demonstrations.load(source, **options)) == expected


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(n=st.integers(1, 8), wanted=st.integers(1, 8), seed=st.integers(0, 2**32), low=st.integers(0, 7))
def test_a_random_choice_takes_each_episode_once_and_keeps_the_order(n: int, wanted: int, seed: int, low: int):
    source = numbered([float(k) for k in range(n)])
    options = {"n_episodes": wanted, "seed": seed, "min_return": low}
    if max(0, n - low) < wanted:
        with pytest.raises(DemonstrationsError, match="episodes: found"):
            Demonstrations.load(source, **options)
        return
    chosen = numbers(Demonstrations.load(source, **options))
    assert chosen == sorted(set(chosen))
    assert len(chosen) == wanted
    assert min(chosen) >= low
    assert chosen == numbers(Demonstrations.load(source, **options))


def test_every_episode_can_be_chosen():
    source = numbered([float(k) for k in range(6)])
    chosen = [numbers(Demonstrations.load(source, n_episodes=2, seed=seed)) for seed in range(30)]
    assert {number for pair in chosen for number in pair} == set(range(6))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_episodes": 4}, "episodes: found 3 of 3 to choose from, expected 4"),
        ({"n_episodes": 0}, "found n_episodes=0, expected a whole number of at least 1"),
        ({"n_episodes": 1.5}, r"found n_episodes=1\.5, expected a whole number of at least 1"),
        ({"n_episodes": 1, "seed": -1}, "found seed=-1, expected a whole number of at least 0"),
        ({"min_return": "1e-3"}, "found min_return='1e-3', expected a number"),
        ({"min_return": 9}, "episodes: found 0 of 3 to choose from, the best return is 4, expected at least 1"),
        ({"min_return": 2, "n_episodes": 3}, "episodes: found 2 of 3 to choose from, the best return is 4, expected 3"),
        ({"successful_only": True}, "successful_only: found no word on success in this source, .* use min_return"),
        ({"action_low": -1}, "found only one of action_low and action_high, expected both or none"),
        ({"done_means": "done"}, "found done_means='done', expected 'truncated' or 'terminated'"),
        ({"observation_keys": "a"}, "observations: found one array, expected a dict of arrays to choose keys from"),
        ({"flatten_observations": True}, "observations: found one array, expected a dict of arrays"),
        ({"n_episode": 1}, r"found option 'n_episode', but demonstrations in memory knows only \['action_high'"),
    ],
)
def test_what_cannot_be_done_is_named(options: Any, message: str):
    with pytest.raises(DemonstrationsError, match=message):
        Demonstrations.load(numbered([3, 1, 4]), **options)


def test_no_success_at_all_leaves_nothing():
    with pytest.raises(DemonstrationsError, match="episodes: found 0 of 2 to choose from, expected at least 1"):
        Demonstrations.load(numbered([1, 2], successes=[False, False]), successful_only=True)


def test_what_is_done_is_relabelled_as_a_time_limit():
    source = make(terminated=[False, True, False, False, True], truncated=[False] * 5)
    relabelled = Demonstrations.load(source, done_means="truncated")
    assert not relabelled.terminated.any()
    assert relabelled.truncated.tolist() == [False, True, False, False, True]
    assert_same(relabelled.rewards, source.rewards)
    assert source.terminated.sum() == 2


def test_a_time_limit_is_never_relabelled_as_terminal():
    with pytest.raises(DemonstrationsError, match="calls 1 of 2 ends truncated, expected one that does not tell"):
        Demonstrations.load(make(), done_means="terminated")


def test_actions_are_mapped_to_bounds_before_anything_is_picked():
    assert Demonstrations.load(make(), action_low=-2, action_high=4, n_episodes=1).actions.tolist() == [[-2], [-0.5]]


@pytest.mark.parametrize(
    ("keys", "flatten", "expected"),
    [
        ("joints", False, "joints"),
        (["joints"], False, {"joints": "joints"}),
        (["joints", "camera"], False, {"camera": "camera", "joints": "joints"}),
        ({"state": "joints"}, False, {"state": "joints"}),
        ({"a": "joints", "b": "joints"}, False, {"a": "joints", "b": "joints"}),
    ],
)
def test_observation_keys_are_chosen_and_renamed(keys: Any, flatten: bool, expected: Any):
    source = make_dict()
    chosen = Demonstrations.load(source, observation_keys=keys, flatten_observations=flatten)
    for name in ("observations", "next_observations"):
        arrays = getattr(source, name)
        wanted = arrays[expected] if isinstance(expected, str) else {new: arrays[old] for new, old in expected.items()}
        assert_same(getattr(chosen, name), wanted)


@pytest.mark.parametrize(
    ("keys", "order"),
    [
        # In the order of the alphabet, as Dict spaces are
        (None, ["camera", "joints"]),
        (["joints", "camera"], ["joints", "camera"]),
        (["camera", "joints"], ["camera", "joints"]),
        ({"b": "joints", "a": "camera"}, ["joints", "camera"]),
        ("joints", ["joints"]),
    ],
)
def test_flat_observations_are_in_the_order_that_was_named(keys: Any, order: list[str]):
    source: Any = make_dict()
    flat = box(choose_observations(source, keys, flatten=True).observations)
    for row in range(5):
        expected = np.concatenate([source.observations[key][row].ravel() for key in order])
        np.testing.assert_array_equal(flat[row], expected)


@pytest.mark.parametrize("keys", ["joint", ["joints", "joint"], {"a": "joint"}])
def test_a_key_that_is_not_there_is_named(keys: Any):
    with pytest.raises(
        DemonstrationsError, match=r"observation_keys: found \['joint'\], expected some of \['camera', 'joints'\]"
    ):
        choose_observations(make_dict(), keys)


@pytest.mark.parametrize("keys", [[], {}])
def test_at_least_one_key_is_kept(keys: Any):
    with pytest.raises(DemonstrationsError, match="observation_keys: found none, expected some of"):
        choose_observations(make_dict(), keys)


def test_a_split_takes_each_episode_once():
    source = numbered([3, 1, 4, 1, 5], seeds=[10, 11, 12, 13, 14])
    first, second = split(source, 2)
    assert numbers(first) == [3, 1]
    assert numbers(second) == [4, 1, 5]
    for seed in range(5):
        first, second = split(source, 2, seed)
        seeds = [part.episode_info["seed"].tolist() for part in (first, second)]
        assert len(seeds[0]) == 2
        assert sorted(seeds[0] + seeds[1]) == [10, 11, 12, 13, 14]
        assert all(part == sorted(part) for part in seeds)
    assert seeds != [[10, 11], [12, 13, 14]]


@pytest.mark.parametrize("n_first", [0, 3, -1, 7])
def test_a_split_leaves_no_part_empty(n_first: int):
    with pytest.raises(DemonstrationsError, match=f"found {n_first} of 3 episodes for the first part, expected 1 to 2"):
        split(numbered([1, 2, 3]), n_first)


def test_parts_are_merged_one_after_the_other():
    first, second = make_dict(), make_dict(rewards=np.arange(10, 15))
    merged = Demonstrations.merge([first, second])
    assert merged.rewards.tolist() == [1, 2, 3, 4, 5, 10, 11, 12, 13, 14]
    assert merged.episode_lengths.tolist() == [2, 3, 2, 3]
    assert_same(merged.select([0, 1]).observations, first.observations)
    assert_same(merged.select([2, 3]).next_observations, second.next_observations)


def test_a_part_that_does_not_fit_is_named():
    with pytest.raises(DemonstrationsError, match=r"merge: MountainCarContinuous-v0: found .* expected .* of Pendulum-v1"):
        Demonstrations.load(["Pendulum-v1", "MountainCarContinuous-v0"])


def test_a_list_is_loaded_as_a_merge(tmp_path: Path):
    first = Demonstrations.load("Pendulum-v1")
    path = first.select(2).save(tmp_path / "two.npz")
    found = Demonstrations.load(["Pendulum-v1", path, first], n_episodes=6)
    assert found.source == f"Pendulum-v1 + {path}"
    expected = merge([first, first.select(1)])
    assert_same(found.observations, expected.observations)
    assert found.episode_lengths.tolist() == expected.episode_lengths.tolist()


@pytest.mark.parametrize("n_first", [1, 2, 3])
def test_a_split_is_undone_by_a_merge(n_first: int):
    source = numbered(
        [3, 1, 4, 1], [True, False, True, False], [5, 6, 7, 8], env_id="A-v0", mean_return=2.25, success_rate=0.5
    )
    merged = merge(split(source, n_first))
    assert_same(merged.rewards, source.rewards)
    assert_same(merged.observations, source.observations)
    assert_same(merged.episode_info, source.episode_info)
    assert dict(merged.metadata) == dict(source.metadata)


def test_metadata_that_parts_agree_on_are_kept_and_summed_up_anew():
    first = numbered([1, 2], successes=[True, True], env_id="A-v0", seed=1, mean_return=1.5, success_rate=1.0, producer="x")
    second = numbered([6], successes=[False], env_id="A-v0", seed=2, mean_return=6.0, success_rate=0.0)
    assert dict(merge([first, second]).metadata) == {"env_id": "A-v0", "mean_return": 3.0, "success_rate": 2 / 3}


def test_facts_about_episodes_are_kept_if_all_parts_have_them():
    first, second = numbered([1], successes=[True], seeds=[4]), numbered([2], seeds=[9])
    merged = merge([first, second])
    assert merged.successes is None
    assert merged.episode_info["seed"].tolist() == [4, 9]


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([], "merge: found nothing, expected at least one part"),
        ([make(), make_dict()], r"merge: part 1: found shapes .*'camera'.* per step, expected"),
        ([make(), make(), make_discrete()], r"merge: part 2: found shapes .*'actions': \(\).* expected .*'actions': \(1,\)"),
    ],
)
def test_parts_that_do_not_fit_are_refused(parts: Any, message: str):
    with pytest.raises(DemonstrationsError, match=message):
        Demonstrations.merge(parts)


def test_one_part_is_itself():
    source = make()
    assert Demonstrations.merge([source]) is source


def test_nothing_asked_for_copies_nothing():
    source = make()
    assert Demonstrations.load(source) is source
    assert Demonstrations.load(replace(source, source="a.npz"), n_episodes=1).source == "a.npz"


def test_a_space_that_no_longer_holds_is_forgotten(tmp_path: Path):
    path = record(to_goal, PointToGoal("dict"), 1).save(tmp_path / "a.npz")
    plain = Demonstrations.load(path)
    assert {"action_space", "observation_space"} <= plain.metadata.keys()
    rescaled = Demonstrations.load(path, action_low=-4.0, action_high=4.0, recorded_low=-2.0, recorded_high=2.0)
    assert rescaled.metadata.keys() == plain.metadata.keys() - {"action_space"}
    flat = Demonstrations.load(path, flatten_observations=True)
    assert flat.metadata.keys() == plain.metadata.keys() - {"observation_space"}


@pytest.mark.parametrize("names", [("pos", "goal"), ("goal", "pos")])
def test_keys_are_joined_in_the_order_of_the_space(names: tuple[str, str]):
    """FlattenObservation follows the space, whose keys have no order of their own if it was made with keywords."""
    size = {"pos": 2, "goal": 1}
    space = spaces.Dict(OrderedDict((name, spaces.Box(-9, 9, (size[name],))) for name in names))
    rows = {name: np.full((5, size[name]), number, np.float32) for number, name in enumerate(("pos", "goal"))}
    recorded = make(observations=rows, next_observations=rows, metadata={"observation_space": space_to_json(space)})
    expected: Any = spaces.flatten(space, {name: array[0] for name, array in rows.items()})
    assert box(Demonstrations.load(recorded, flatten_observations=True).observations)[0].tolist() == expected.tolist()


def test_keys_without_a_known_order_are_joined_with_a_warning():
    rows = {"pos": np.zeros((5, 2)), "goal": np.ones((5, 1))}
    with pytest.warns(UserWarning, match="joined in alphabetical order: goal, pos"):
        joined = Demonstrations.load(make(observations=rows, next_observations=rows), flatten_observations=True)
    assert box(joined.observations)[0].tolist() == [1, 0, 0]


@pytest.mark.parametrize("reward", [0.9, 0.7, -0.1])
def test_a_return_reaches_itself_though_rewards_are_rounded(reward: float):
    assert Demonstrations.load(make(rewards=np.full(5, reward) / [2, 2, 3, 3, 3]), min_return=reward).n_episodes == 2


@pytest.mark.parametrize(("name", "value"), [("env_id", "Other-v0"), ("action_space", space_to_json(spaces.Box(-1, 1, (1,))))])
def test_merging_what_was_recorded_elsewhere_warns(name: str, value: Any):
    first = make(metadata={"env_id": "Toy-v0", "action_space": space_to_json(ACTION_SPACE)})
    words = {"env_id": "Toy-v0 and Other-v0, different environments", "action_space": "different action spaces"}
    with pytest.warns(UserWarning, match=f"merge: found {words[name]}"):
        assert name not in Demonstrations.merge([first, make(metadata={**first.metadata, name: value})]).metadata


def test_images_of_two_scales_are_not_merged():
    bright = make_dict()
    floats = {**dict(bright.observations), "camera": bright.observations["camera"] / 255}
    with pytest.raises(DemonstrationsError, match=r"observations\['camera'\]: found images of \['float64', 'uint8'\]"):
        Demonstrations.merge([bright, make_dict(observations=floats, next_observations=floats)])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"action_low": "low", "action_high": 1}, "found low='low', expected numbers"),
        ({"observation_keys": 5}, "observation_keys: found 5, expected a name"),
    ],
)
def test_options_of_other_types_do_not_make_a_file_unreadable(options: dict[str, Any], message: str, tmp_path: Path):
    toy = Demonstrations.from_episodes([Episode({"a": np.zeros((3, 1))}, np.zeros((2, 1)), np.zeros(2), True)])
    path = toy.save(tmp_path / "a.npz")
    with pytest.raises(DemonstrationsError, match=message):
        Demonstrations.load(path, **options)


def test_a_tiny_return_is_more_than_none():
    assert Demonstrations.load(numbered([0.0, 0.0, 1.0]), min_return=1e-6).n_episodes == 1


def test_keys_of_a_nested_space_are_joined_in_its_order():
    inner = spaces.Dict(OrderedDict(y=spaces.Box(-9, 9, (1,)), x=spaces.Box(-9, 9, (1,))))
    space = spaces.Dict(OrderedDict(b=inner, a=spaces.Box(-9, 9, (1,))))
    rows = {name: np.full((5, 1), number, np.float32) for number, name in enumerate(("a", "b/x", "b/y"))}
    recorded = make(observations=rows, next_observations=rows, metadata={"observation_space": space_to_json(space)})
    assert box(Demonstrations.load(recorded, flatten_observations=True).observations)[0].tolist() == [2, 1, 0]


def test_whole_numbers_and_floats_that_are_no_images_become_floats():
    whole = make(observations=FIELDS["observations"].astype(int), next_observations=FIELDS["next_observations"].astype(int))
    assert box(Demonstrations.merge([whole, make()]).observations).dtype.kind == "f"
