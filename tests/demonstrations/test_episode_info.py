"""What is known of whole episodes, and episodes taken out of a dataset."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from npz_files import following
from toy_dataset import FIELDS, assert_same, box, make, make_dict

from sb3_pgfd import Demonstrations, DemonstrationsError
from sb3_pgfd.demonstrations import Episode

INFO = {"success": np.array([True, False]), "seed": np.array([7, -3])}


def episode(n_steps: int = 2, **changes: Any) -> Episode:
    fields: dict[str, Any] = {
        "observations": np.arange(n_steps + 1, dtype=np.float32)[:, None],
        "actions": np.arange(n_steps),
        "rewards": np.arange(n_steps, dtype=np.float32),
        "terminated": True,
    }
    return Episode(**{**fields, **changes})


def test_facts_are_kept_by_name():
    demonstrations = make(episode_info={"success": [1, 0], "seed": [7, -3]})
    assert_same(demonstrations.episode_info, INFO)
    assert demonstrations.successes is demonstrations.episode_info["success"]
    assert make().successes is None


def test_facts_cannot_be_written_to():
    demonstrations: Any = make(episode_info=INFO)
    with pytest.raises(TypeError):
        demonstrations.episode_info["seed"] = 5
    with pytest.raises(ValueError, match="read-only"):
        demonstrations.successes[0] = False


@pytest.mark.parametrize(
    ("info", "message"),
    [
        ({"seed": [1, 2, 3]}, r"episode_info\['seed'\]: found shape \(3,\), expected \(2,\), one for each episode"),
        ({"success": True}, r"episode_info\['success'\]: found shape \(\), expected \(2,\)"),
        ({"seed": [1.5, 2.5]}, r"episode_info\['seed'\]: found dtype float64, expected whole numbers"),
        ({"success": ["yes", "no"]}, r"episode_info\['success'\]: found dtype <U3, expected bool"),
        ({"success": [True, None]}, r"episode_info\['success'\]: found dtype object, expected bool"),
    ],
)
def test_facts_that_do_not_fit_are_named(info: Any, message: str):
    with pytest.raises(DemonstrationsError, match=message):
        make(episode_info=info)


def test_facts_survive_a_pickle_and_a_file(tmp_path: Path):
    original = make(episode_info=INFO, next_observations=FIELDS["observations"] + 2)
    assert_same(pickle.loads(pickle.dumps(original)).episode_info, INFO)
    assert_same(Demonstrations.load(original.save(tmp_path / "a.npz")).episode_info, INFO)


def test_select_takes_the_facts_along_and_sums_up_anew():
    metadata = {"mean_return": 7.5, "success_rate": 0.5, "env_id": "A-v0"}
    selected = make(episode_info=INFO, metadata=metadata).select([1])
    assert_same(selected.episode_info, {"success": np.array([False]), "seed": np.array([-3])})
    assert dict(selected.metadata) == {"mean_return": 12.0, "success_rate": 0.0, "env_id": "A-v0"}
    # What was not said before is not said now
    assert dict(make(metadata={"env_id": "A-v0"}).select(1).metadata) == {"env_id": "A-v0"}


def test_the_summary_is_of_all_episodes():
    assert make(episode_info=INFO).summary() == {"mean_return": 7.5, "success_rate": 0.5}
    assert make().summary() == {"mean_return": 7.5, "success_rate": None}
    assert make().summary(["mean_return"]) == {"mean_return": 7.5}


def test_episodes_bring_their_facts():
    demonstrations = Demonstrations.from_episodes([episode(success=True, seed=3), episode(success=False, seed=4)])
    assert_same(demonstrations.episode_info, {"success": np.array([True, False]), "seed": np.array([3, 4])})


def test_a_fact_that_one_episode_lacks_is_left_out():
    demonstrations = Demonstrations.from_episodes([episode(success=True, seed=3), episode(seed=4)])
    assert_same(demonstrations.episode_info, {"seed": np.array([3, 4])})


EPISODES = st.lists(
    st.builds(
        episode,
        st.integers(1, 4),
        terminated=st.booleans(),
        success=st.just(True) | st.just(False),
        seed=st.integers(0, 2**31),
    ),
    min_size=1,
    max_size=4,
)


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(episodes=EPISODES)
def test_episodes_are_taken_out_as_they_were_put_in(episodes: list[Episode]):
    demonstrations = Demonstrations.from_episodes(episodes)
    for number, original in enumerate(episodes):
        taken = demonstrations.episode(number)
        for name in ("observations", "actions", "rewards"):
            assert_same(getattr(taken, name), getattr(original, name))
        assert (taken.terminated, taken.success, taken.seed) == (original.terminated, original.success, original.seed)
        assert len(taken) == len(original)


def test_an_episode_of_dict_observations_is_taken_out():
    observations = {"a": np.arange(4.0), "b": np.arange(8, dtype=np.uint8).reshape(4, 2)}
    taken = Demonstrations.from_episodes([episode(3, observations=observations)]).episode(0)
    assert_same(taken.observations, observations)
    assert taken.success is None
    assert taken.seed is None


def test_steps_that_do_not_follow_each_other_are_no_episode():
    # The toy's next observations are others than the ones that follow
    with pytest.raises(DemonstrationsError, match="observations: episode 1, step 1: found another observation than step 0"):
        make().episode(1)
    moved = np.array([0.0, -0.0])
    rows = make(observations=np.zeros((5, 2)), next_observations=np.zeros((5, 2)))
    assert rows.episode(0).terminated
    changed = make(observations=np.array([moved] * 5), next_observations=np.zeros((5, 2)))
    with pytest.raises(DemonstrationsError, match="episode 0, step 1: found another observation"):
        changed.episode(0)


@pytest.mark.parametrize("number", [2, -1, 99])
def test_an_episode_that_is_not_there_is_refused(number: int):
    with pytest.raises(DemonstrationsError, match=rf"episodes: asked for .*{number}.*, found 2 \(numbered from 0\)"):
        make().episode(number)


def transitions(terminated: Any, truncated: Any, **changes: Any) -> Demonstrations:
    names = ("observations", "actions", "rewards", "next_observations")
    arrays = {name: FIELDS[name] for name in names} | {"next_observations": FIELDS["observations"] + 2}
    return Demonstrations.from_transitions(**{**arrays, "terminated": terminated, "truncated": truncated, **changes})


def flags(*rows: int) -> list[bool]:
    return [row in rows for row in range(5)]


@pytest.mark.parametrize(
    ("terminated", "truncated", "lengths", "cut"),
    [
        (flags(1, 4), flags(), [2, 3], flags()),
        (flags(), flags(0), [1, 4], flags(0, 4)),
        (flags(2), flags(0), [1, 2, 2], flags(0, 4)),
        (flags(), flags(), [5], flags(4)),
        (flags(4), flags(4), [5], flags(4)),
        (flags(0, 1, 2, 3), flags(), [1] * 5, flags(4)),
    ],
)
def test_rows_are_cut_where_a_flag_is_set(terminated: Any, truncated: Any, lengths: list[int], cut: Any):
    demonstrations = transitions(terminated, truncated, metadata={"env_id": "A-v0"})
    assert demonstrations.episode_lengths.tolist() == lengths
    assert demonstrations.terminated.tolist() == terminated
    assert demonstrations.truncated.tolist() == cut
    assert box(demonstrations.observations).tolist() == FIELDS["observations"].tolist()
    assert demonstrations.metadata["env_id"] == "A-v0"


def test_the_callers_flags_are_not_changed():
    truncated = np.array(flags())
    transitions(flags(1), truncated)
    assert not truncated.any()
    truncated[0] = True


@pytest.mark.parametrize(
    ("terminated", "truncated", "message"),
    [
        ([], [], r"terminated, truncated: found shapes \(0,\) and \(0,\), expected one flag for each of one or more rows"),
        (flags(1), [True], r"found shapes \(5,\) and \(1,\)"),
        ([flags(1)], [flags()], r"found shapes \(1, 5\) and \(1, 5\)"),
        (flags()[:4], flags()[:4], "observations: found 5 rows, expected 4"),
    ],
)
def test_flags_that_do_not_fit_are_named(terminated: Any, truncated: Any, message: str):
    with pytest.raises(DemonstrationsError, match=message):
        transitions(terminated, truncated)


def test_dict_observations_are_laid_out_by_rows_too():
    observations = make_dict().observations
    after = following(dict(observations))
    demonstrations = transitions(flags(1), flags(), observations=observations, next_observations=after)
    assert demonstrations.observations["joints"][:, 0].tolist() == [0, 2, 4, 6, 8]
