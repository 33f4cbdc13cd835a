import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from toy_dataset import ACTION_SPACE, make, make_dict, make_discrete

from sb3_pgfd import Demonstrations
from sb3_pgfd.demonstrations.environment import make_env, recorded_action_space, recorded_env
from sb3_pgfd.demonstrations.errors import DemonstrationsError
from sb3_pgfd.demonstrations.inspection.summary import EpisodeSummary, ObservationSummary, summarize
from sb3_pgfd.demonstrations.spaces import space_to_json
from sb3_pgfd.utils.files import packaged_demonstrations

WIDE = spaces.Box(-np.array([2.0, 1.0], dtype=np.float32), np.array([2.0, np.inf], dtype=np.float32))


def test_the_toy_dataset_is_summed_up_as_by_hand():
    summary = summarize(make(metadata={"env_id": "Toy-v0", "producer": "a test"}), ACTION_SPACE)
    assert (summary.source, summary.env_id, summary.producer) == (None, "Toy-v0", "a test")
    assert (summary.n_episodes, summary.n_transitions, summary.n_terminated, summary.n_truncated) == (2, 5, 1, 1)
    # Lengths 2 and 3; returns 1 + 2 and 3 + 4 + 5
    assert list(summary.lengths) == ["min", "lower_quartile", "median", "upper_quartile", "max", "mean", "std"]
    assert list(summary.lengths.values()) == [2.0, 2.25, 2.5, 2.75, 3.0, 2.5, 0.5]
    assert list(summary.returns.values()) == [3.0, 5.25, 7.5, 9.75, 12.0, 7.5, 4.5]
    assert summary.episodes == [EpisodeSummary(2, 3.0, None, "terminated"), EpisodeSummary(3, 12.0, None, "truncated")]
    # The second episode ended with (108, 109)
    assert summary.observations == [ObservationSummary(None, (2,), "float32", [0.0, 1.0], [108.0, 109.0])]
    actions = summary.actions
    assert (actions.shape, actions.dtype, actions.low, actions.high) == ((1,), "float32", [-1.0], [1.0])
    assert (actions.space, actions.space_low, actions.space_high) == ("Box", [-2.0], [2.0])
    assert (actions.saturated, actions.saturated_overall, actions.counts) == ([0.0], 0.0, None)


def test_saturated_actions_are_those_within_a_hundredth_of_the_range_of_a_bound():
    # The first component has a range of 4, so 1.96 is at its bound and 1.95 is not; the second has no upper bound
    actions = np.array([[1.96, 0], [1.95, 0], [-2, 0], [0, -1], [2, 1]], dtype=np.float32)
    found = summarize(make(actions=actions), WIDE).actions
    assert (found.space_low, found.space_high) == ([-2.0, -1.0], [2.0, None])
    assert found.saturated == [pytest.approx(0.6), None]
    assert found.saturated_overall == pytest.approx(0.6)


@pytest.mark.parametrize("space", [None, spaces.Box(-1, 1, (3,)), spaces.Discrete(3)])
def test_a_space_that_is_unknown_or_of_another_shape_tells_nothing_of_saturation(space: spaces.Space | None):
    found = summarize(make(), space).actions
    assert (found.space, found.space_low, found.saturated, found.saturated_overall) == (None, None, None, None)


def test_discrete_actions_are_counted():
    found = summarize(make_discrete(), spaces.Discrete(4)).actions
    assert found.counts == {"0": 2, "1": 2, "2": 1}
    assert (found.space, found.low, found.high, found.shape) == ("Discrete", 0.0, 2.0, ())


def test_images_have_one_range_and_vectors_one_for_each_component():
    summary = summarize(make_dict())
    assert summary.observations == [
        ObservationSummary("camera", (2, 2, 3), "uint8", 0.0, 59.0),
        ObservationSummary("joints", (2,), "float64", [0.0, 1.0], [8.0, 9.0]),
    ]
    long = np.arange(155.0).reshape(5, 31)
    assert summarize(make(observations=long, next_observations=long)).observations[0].low == list(range(31))


@pytest.mark.parametrize(
    ("info", "metadata", "rate"),
    [
        ({"success": [True, False]}, {}, 0.5),
        ({"success": [True, False]}, {"success_rate": 1.0}, 0.5),
        ({}, {"success_rate": 0.25}, 0.25),
        ({}, {"success_rate": None}, None),
        ({}, {"success_rate": "most"}, None),
    ],
)
def test_the_success_rate_is_that_of_the_episodes_or_what_the_metadata_say(info: Any, metadata: Any, rate: float | None):
    summary = summarize(make(episode_info=info, metadata=metadata))
    assert summary.success_rate == rate
    assert [episode.success for episode in summary.episodes] == ([True, False] if info else [None, None])


@pytest.mark.parametrize("demonstrations", [make(), make_dict(), make_discrete()], ids=["box", "dict", "discrete"])
def test_json_holds_a_summary(demonstrations: Demonstrations):
    unbounded = spaces.Box(-np.inf, np.inf, (1,))
    summary = summarize(demonstrations, unbounded)
    record = json.loads(json.dumps(asdict(summary), allow_nan=False))
    assert record["lengths"]["max"] == 3.0
    assert record["episodes"][1] == {"length": 3, "episode_return": 12.0, "success": None, "end": "truncated"}
    assert len(record["observations"]) == len(summary.observations)


FOUND = {
    # The task's goals lie on the table, all at one height
    "FetchPush-v4": ["Constant in all steps: observations['desired_goal'][2]."],
    # Who walks upright sees no ground where the last ray of the lidar looks, straight ahead
    "BipedalWalker-v3": ["Constant in all steps: observations[23]."],
    # Meta-World has places for a second object, which is not there, and each of its observations holds the one before
    "SparsePegInsertSide-v3": [
        f"Constant in all steps: {', '.join(f'observations[{k}]' for k in range(10, 18))} and 8 more.",
    ],
    "SparseAssembly-v3": [
        f"Constant in all steps: {', '.join(f'observations[{k}]' for k in (*range(11, 18), 29))} and 7 more.",
    ],
}


@pytest.mark.parametrize("name", sorted(packaged_demonstrations()))
def test_nothing_is_wrong_with_packaged_demonstrations(name: str):
    summary = summarize(Demonstrations.load(name))
    assert [warning[: warning.index(".") + 1] for warning in summary.warnings] == FOUND.get(name, [])
    assert summary.source == name
    assert summary.env_id is not None
    assert name.startswith(summary.env_id)
    assert summary.actions.saturated_overall is not None
    # A learner that is pressed against the bounds has no gradient; a robot's controller hardly ever touches them
    assert summary.actions.saturated_overall < 0.7


def test_the_action_space_is_the_described_one_before_that_of_the_environment():
    described = space_to_json(spaces.Box(-3, 3, (1,)))
    for metadata, high in (
        ({"env_id": "Pendulum-v1", "action_space": described}, 3.0),
        ({"env_id": "Pendulum-v1", "action_space": {"type": "Box"}}, 2.0),
        ({"env_id": "Pendulum-v1", "env_kwargs": {"render_mode": "human", "g": 1.0}}, 2.0),
    ):
        space = recorded_action_space(make(metadata=metadata))
        assert isinstance(space, spaces.Box)
        assert space.high.tolist() == [high]
    space = recorded_action_space(make(metadata={"env_id": "Pendulum-v1", "env_kwargs": {"wind": 3}}))
    assert space is None


@pytest.fixture
def imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A module that leaves a file when it is imported."""
    mark = tmp_path / "imported"
    (tmp_path / "named_by_a_file.py").write_text(f"open({str(mark)!r}, 'w').close()")
    monkeypatch.syspath_prepend(tmp_path)
    yield mark
    sys.modules.pop("named_by_a_file", None)


@pytest.mark.parametrize(
    "metadata",
    [
        {"env_id": "named_by_a_file:Env-v0"},
        {"env_id": "named_by_a_file:Pendulum-v1"},
        {"env_id": "GymV26Environment-v0", "env_kwargs": {"env_id": "named_by_a_file:Env-v0"}},
        {"env_id": "Pendulum-v1", "env_kwargs": {"inner": [{"env": "named_by_a_file:Env-v0"}]}},
        {"env_id": "Pendulum-v1", "env_kwargs": "named_by_a_file:Env-v0"},
        {"env_id": ["named_by_a_file:Env-v0"]},
        {"env_id": "Unknown-v0"},
        {},
    ],
)
def test_a_file_cannot_have_code_imported(metadata: Any, imported: Path):
    demonstrations = make(metadata=metadata)
    assert recorded_action_space(demonstrations) is None
    with pytest.raises(DemonstrationsError, match="--env"):
        recorded_env(demonstrations)
    assert not imported.exists()


def test_the_user_may_import_code(imported: Path):
    with pytest.raises(DemonstrationsError, match="named_by_a_file:Env-v0: found no environment"):
        make_env("named_by_a_file:Env-v0")
    assert imported.exists()


def test_arguments_of_the_environment_are_completed():
    env = recorded_env(make(metadata={"env_id": "Pendulum-v1", "env_kwargs": {"g": 1.0}}), {"max_episode_steps": 7})
    assert env.spec is not None
    assert (env.get_wrapper_attr("g"), env.spec.max_episode_steps) == (1.0, 7)
