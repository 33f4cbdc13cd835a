"""What other projects write: it is read, or the message says what wrote it and how to bring it in."""

import gzip
import pickle
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch as th
from lerobot_dataset import VERSION_3, steps, write_dataset, write_table
from npz_files import BOX
from toy_dataset import FIELDS, assert_same, box, make

from sb3_pgfd import Demonstrations, DemonstrationsError
from sb3_pgfd.demonstrations import Episode

STATES = np.arange(14, dtype=np.float32).reshape(7, 2)
ACTIONS = np.linspace(-1, 1, 6, dtype=np.float32)[:, None]
REWARDS = np.arange(6.0)


def pickled(path: Path, content: Any) -> Path:
    path.write_bytes(pickle.dumps(content, 4))
    return path


def paths(**more: Any) -> list[dict[str, Any]]:
    """Episodes of two and of four steps, without the observation after the last."""
    parts = (slice(0, 2), slice(2, 6))
    return [{"observations": STATES[rows], "actions": ACTIONS[rows], "rewards": REWARDS[rows], **more} for rows in parts]


def test_path_dicts_of_hand_dapg_are_read(tmp_path: Path):
    content = paths(init_state_dict={"qpos": np.zeros(30)})
    demonstrations = Demonstrations.load(pickled(tmp_path / "a.pickle", content))
    # The last step of each has no next observation
    assert demonstrations.episode_lengths.tolist() == [1, 3]
    assert box(demonstrations.observations).tolist() == STATES[[0, 2, 3, 4]].tolist()
    assert box(demonstrations.next_observations).tolist() == STATES[[1, 3, 4, 5]].tolist()
    assert demonstrations.truncated.tolist() == [True, False, False, True]
    terminal = Demonstrations.load(tmp_path / "a.pickle", done_means="terminated")
    assert terminal.terminated.tolist() == [False, True, False, False, False, True]
    assert terminal.rewards.tolist() == REWARDS.tolist()


def test_path_dicts_may_have_next_observations_and_ends(tmp_path: Path):
    one = {"observations": STATES[:6], "actions": ACTIONS, "rewards": REWARDS[:, None], "next_observations": STATES[1:]}
    told = {**one, "terminals": np.arange(6)[:, None] == 5}
    demonstrations = Demonstrations.load(pickled(tmp_path / "a.pkl", [told, {**one, "terminals": np.zeros((6, 1), bool)}]))
    assert demonstrations.terminated.tolist() == [False] * 5 + [True] + [False] * 6
    assert demonstrations.episode_lengths.tolist() == [6, 6]
    longer = {"observations": {"a": STATES}, "actions": ACTIONS}
    found = Demonstrations.load(pickled(tmp_path / "b.pkl", [longer]), final_reward=2.0)
    assert found.rewards.tolist() == [0, 0, 0, 0, 0, 2]
    assert_same(dict(found.next_observations), {"a": STATES[1:]})
    with pytest.raises(DemonstrationsError, match=r"path 0: rewards: found none, .* pass final_reward=1.0"):
        Demonstrations.load(tmp_path / "b.pkl")


def test_transition_dicts_of_serl_are_read(tmp_path: Path):
    done = np.isin(np.arange(6), (1, 5))
    content = [
        {
            "observations": {"state": STATES[k : k + 1]},
            "next_observations": {"state": STATES[k + 1 : k + 2]},
            "actions": ACTIONS[k],
            "rewards": REWARDS[k],
            "masks": float(k != 5),
            "dones": done[k],
        }
        for k in range(6)
    ]
    demonstrations = Demonstrations.load(pickled(tmp_path / "a.pkl", content))
    assert np.flatnonzero(demonstrations.terminated).tolist() == [5]
    assert np.flatnonzero(demonstrations.truncated).tolist() == [1]
    assert_same(dict(demonstrations.observations), {"state": STATES[:6, None]})
    for record in content:
        del record["masks"]
    path = pickled(tmp_path / "b.pkl", content)
    with pytest.raises(DemonstrationsError, match=r"found transition dicts without masks and done_means=None"):
        Demonstrations.load(path)
    assert np.flatnonzero(Demonstrations.load(path, done_means="terminated").terminated).tolist() == [1, 5]


def test_what_is_read_in_memory_is_read_from_a_trusted_pickle(tmp_path: Path):
    original = make(next_observations=FIELDS["observations"] + 2)
    path = pickled(tmp_path / "a.pkl", original)
    assert_same(Demonstrations.load(path, trusted=True).rewards, original.rewards)
    with pytest.raises(DemonstrationsError, match=r"found a reference to sb3_pgfd.* pass trusted=True"):
        Demonstrations.load(path)


def test_the_content_is_looked_at_before_an_option_is_asked_for(tmp_path: Path):
    path = pickled(tmp_path / "a.pkl", [{"states": STATES}])
    with pytest.raises(DemonstrationsError, match=r"found dict of 1 with the keys \['states'\], expected a list of \(s, a, r"):
        Demonstrations.load(path)


def write_her(path: Path, n_episodes: int = 2) -> Path:
    keys = ("observation", "achieved_goal", "desired_goal")
    observations = [[{key: row for key in keys} for row in STATES] for _ in range(n_episodes)]
    info = [[{"is_success": float(step == 5 and number == 0)} for step in range(6)] for number in range(n_episodes)]
    np.savez_compressed(path, acs=[ACTIONS] * n_episodes, obs=np.array(observations, object), info=np.array(info, object))
    return path


def test_demonstrations_of_openai_her_are_read_if_trusted(tmp_path: Path):
    path = write_her(tmp_path / "a.npz")
    with pytest.raises(DemonstrationsError, match=r"OpenAI-HER's demonstrations .* Nothing was executed.* trusted=True"):
        Demonstrations.load(path)
    demonstrations = Demonstrations.load(path, trusted=True, final_reward=1.0)
    assert demonstrations.episode_lengths.tolist() == [6, 6]
    # The second is known to have failed
    assert demonstrations.rewards.tolist() == [0, 0, 0, 0, 0, 1] + [0] * 6
    assert not isinstance(demonstrations.observations, np.ndarray)
    assert demonstrations.observations["desired_goal"].tolist() == [*STATES[:6].tolist()] * 2


def test_objects_in_an_npz_are_named(tmp_path: Path):
    infos = np.array([{}, {}], dtype=object)
    np.savez(tmp_path / "final.npz", obs=STATES, acts=ACTIONS, infos=infos, terminal=np.ones(1, bool))
    with pytest.raises(DemonstrationsError, match=r"Python objects in the members \['infos'\].* from imitation.data import"):
        Demonstrations.load(tmp_path / "final.npz")


def test_other_writers_are_named(tmp_path: Path):
    th.save({"observations": th.zeros(3, 2)}, tmp_path / "a.pt")
    (tmp_path / "a.pkl").write_bytes(b"\x80\x04\x95joblib.numpy_pickle\x94\x8c\x11NumpyArrayWrapper\x94\x93\x94)\x81.")
    (tmp_path / "a.z").write_bytes(gzip.compress(b"anything"))
    (tmp_path / "lfs.npz").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n")
    messages = {
        "a.pt": r"found a file by torch.save.* torch.load\('a.pt', weights_only=True\)",
        "a.pkl": r"found a file by joblib.dump.* pickle.dump\(joblib.load\('a.pkl'\)",
        "a.z": "found a compressed file, by gzip or by joblib.dump",
        "lfs.npz": "found a Git LFS pointer.* git lfs pull --include lfs.npz",
    }
    for name, message in messages.items():
        for options in ({}, {"done_means": "truncated"}):
            with pytest.raises(DemonstrationsError, match=f"{name}: {message}"):
                Demonstrations.load(tmp_path / name, **options)


def write_isaaclab(path: Path, *successes: bool | None) -> Path:
    with h5py.File(path, "w") as file:
        for number, success in enumerate(successes):
            demo = file.create_group(f"data/demo_{number}")
            demo["actions"], demo["obs/joints"] = ACTIONS[:3], STATES[:3]
            demo.attrs["num_samples"] = 3
            if success is not None:
                demo.attrs["success"] = success
    return path


def test_episodes_of_isaaclab_are_read(tmp_path: Path):
    path = write_isaaclab(tmp_path / "a.hdf5", True, False)
    with pytest.warns(UserWarning, match=r"a.hdf5: found no rewards. The last step of each episode .* gets 1"):
        demonstrations = Demonstrations.load(path, observation_keys="joints")
    # The failure ends without a next observation, so its last step is dropped
    assert demonstrations.episode_lengths.tolist() == [3, 2]
    assert demonstrations.rewards.tolist() == [0, 0, 1, 0, 0]
    assert demonstrations.terminated.tolist() == [False, False, True, False, False]
    assert demonstrations.truncated.tolist() == [False, False, False, False, True]
    assert demonstrations.successes is not None
    assert demonstrations.successes.tolist() == [True, False]
    assert Demonstrations.load(path, final_reward=5.0).rewards.tolist() == [0, 0, 5, 0, 0]
    with pytest.raises(DemonstrationsError, match=r"rewards: found none, .* pass final_reward=1.0"):
        Demonstrations.load(write_isaaclab(tmp_path / "b.hdf5", True, None))


def test_a_final_reward_is_for_every_format(tmp_path: Path):
    zero = make(rewards=np.zeros(5), next_observations=FIELDS["observations"] + 2, episode_info={"success": [True, False]})
    path = zero.save(tmp_path / "a.npz")
    assert Demonstrations.load(path, final_reward=3.0).rewards.tolist() == [0, 3, 0, 0, 0]
    assert Demonstrations.load(path, final_reward=3.0, min_return=1.0).n_episodes == 1
    with pytest.raises(DemonstrationsError, match=r"found final_reward=3.0 for a source that holds rewards"):
        Demonstrations.load(BOX, final_reward=3.0)
    with pytest.raises(DemonstrationsError, match=r"found final_reward='1', expected a number"):
        Demonstrations.load(path, final_reward="1")


def test_rewards_that_are_all_zero_say_nothing_of_success(tmp_path: Path):
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        group = file.create_group("data/demo_0")
        group["actions"], group["rewards"], group["dones"] = ACTIONS, np.zeros(6), np.arange(6) == 5
        group["obs/joints"], group["next_obs/joints"] = STATES[:-1], STATES[1:]
    assert Demonstrations.load(tmp_path / "a.hdf5").successes is None


def test_columns_of_a_lerobot_table_can_be_named(tmp_path: Path):
    table = dict(steps([3, 2]))
    plain = Demonstrations.load(write_table(tmp_path / "plain.parquet", table))
    state = next(name for name in table if name.startswith("observation."))
    others = {name: column for name, column in table.items() if not name.startswith("observation.") and name != "action"}
    other = write_table(tmp_path / "a.parquet", {**others, "actions": table["action"], "state": table[state]})
    with pytest.raises(DemonstrationsError, match=r"found columns .* expected at least one 'observation.\*'"):
        Demonstrations.load(other)
    with pytest.raises(DemonstrationsError, match=r"expected also \['action'\].* columns={'action': 'actions'}"):
        Demonstrations.load(other, observation_keys="state")
    named = Demonstrations.load(other, columns={"action": "actions", state: "state"})
    assert_same(named.actions, plain.actions)
    assert_same(box(named.observations), box(plain.observations))
    with pytest.raises(DemonstrationsError, match=r"expected also \['act'\]"):
        Demonstrations.load(other, columns={"action": "act"})


def test_trajectories_are_read_from_a_trusted_pickle(tmp_path: Path):
    episodes = [Episode(STATES, ACTIONS, REWARDS, terminated=True)]
    path = pickled(tmp_path / "a.pkl", [Trajectory(STATES, ACTIONS, REWARDS)])
    assert_same(Demonstrations.load(path, trusted=True).rewards, Demonstrations.from_episodes(episodes).rewards)


class Trajectory:
    """As imitation's: four attributes, and rewards."""

    def __init__(self, obs: np.ndarray, acts: np.ndarray, rews: np.ndarray):
        self.obs, self.acts, self.rews, self.infos, self.terminal = obs, acts, rews, None, True


def test_what_the_caller_says_of_ends_wins_over_flags_that_were_never_set(tmp_path: Path):
    path = {"observations": np.arange(4.0)[:, None], "actions": np.zeros((4, 1)), "rewards": np.array([0, 0, 0, 1.0])}
    source = pickled(tmp_path / "a.pkl", [{**path, "dones": np.zeros(4, bool)}])
    read = Demonstrations.load(source, done_means="terminated")
    assert (read.rewards.tolist(), read.terminated.tolist()) == ([0, 0, 0, 1], [False, False, False, True])


def test_a_path_that_was_cut_has_no_last_step_without_its_observation(tmp_path: Path):
    """What a terminal state stands for would be bootstrapped from, as if it had been observed."""
    path = {"observations": np.arange(4.0)[:, None], "actions": np.zeros((4, 1)), "rewards": np.ones(4)}
    source = pickled(tmp_path / "a.pkl", [{**path, "terminated": np.array([0, 0, 0, 1])}])
    read = Demonstrations.load(source, done_means="truncated")
    assert (len(read), box(read.next_observations)[-1].tolist(), read.truncated.tolist()) == (3, [3], [False, False, True])


@pytest.mark.parametrize(("shape", "expected"), [((), (1,)), ((1, 3), (3,)), ((2, 2), (2, 2))])
def test_tuples_keep_the_axes_of_their_actions(shape: tuple[int, ...], expected: tuple[int, ...], tmp_path: Path):
    rows = [(np.array([float(i)]), np.full(shape, 0.5), 1.0, np.array([i + 1.0]), i == 2) for i in range(3)]
    read = Demonstrations.load(pickled(tmp_path / "a.pkl", rows), done_means="truncated")
    assert read.actions.shape == (3, *expected)


@pytest.mark.parametrize("pattern", ["data/**/*.parquet", "data/main_data.hdf5"])
def test_pointers_of_git_lfs_in_a_folder_are_named(pattern: str, tmp_path: Path):
    folder = tmp_path / "set-v0"
    if pattern.endswith("hdf5"):
        toy_episodes = [Episode(np.zeros((3, 1)), np.zeros((2, 1)), np.zeros(2), True)]
        Demonstrations.from_episodes(toy_episodes).save(folder, format="minari")
    else:
        write_dataset(folder, VERSION_3)
    for path in folder.glob(pattern):
        path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")
    with pytest.raises(DemonstrationsError, match=r"found a Git LFS pointer.*git lfs pull"):
        Demonstrations.load(folder)


def test_masks_that_deny_what_the_caller_says_are_named(tmp_path: Path):
    step = {"observations": np.zeros(1), "actions": np.zeros(1), "next_observations": np.zeros(1), "rewards": 0.0}
    source = pickled(tmp_path / "a.pkl", [{**step, "dones": True, "masks": 1.0}] * 2)
    with pytest.raises(DemonstrationsError, match="done_means='terminated' and masks"):
        Demonstrations.load(source, done_means="terminated")
