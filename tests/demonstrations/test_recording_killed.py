"""Nothing that was recorded is lost, whenever the recorder is killed."""

import multiprocessing
import random
import signal
import time
from pathlib import Path

from slow_walk import N_EPISODES, record_slowly
from toy_dataset import assert_same

from sb3_pgfd import Demonstrations

FIELDS = ("observations", "actions", "rewards", "next_observations", "terminated", "truncated", "episode_lengths")


def kill_after_an_episode(path: Path, folder: Path, tally: Path, delay: float) -> None:
    """Start a recorder, wait for an episode more than there are, and some time longer, and kill it."""
    context = multiprocessing.get_context("forkserver")
    before = len(list(folder.glob("episode_*")))
    recorder = context.Process(target=record_slowly, args=(path, tally))
    recorder.start()
    while len(list(folder.glob("episode_*"))) == before:
        assert recorder.is_alive()
        time.sleep(0.0002)
    time.sleep(delay)
    recorder.kill()
    recorder.join()
    assert recorder.exitcode == -signal.SIGKILL


def test_every_finished_episode_is_readable_after_each_of_20_kills(tmp_path: Path):
    whole = record_slowly(None, tmp_path / "tally of the whole")
    path, folder, moments = tmp_path / "a.npz", tmp_path / "a.npz.recording", random.Random(0)
    n_kept = 0
    for kill in range(20):
        tally = tmp_path / f"tally {kill}"
        kill_after_an_episode(path, folder, tally, moments.uniform(0, 0.02))
        rescued = Demonstrations.load(folder)
        # Whoever resets the environment again has finished with the episode before
        assert rescued.n_episodes >= n_kept + tally.stat().st_size - 1
        n_kept = rescued.n_episodes
        expected = whole.select(n_kept)
        for name in FIELDS:
            assert_same(getattr(rescued, name), getattr(expected, name))
        assert not path.exists()
    assert 20 <= n_kept < N_EPISODES
    finished = record_slowly(path, tmp_path / "tally of the last")
    for found in (finished, Demonstrations.load(path)):
        for name in (*FIELDS, "episode_info"):
            assert_same(getattr(found, name), getattr(whole, name))
        assert found.metadata == whole.metadata
    assert not folder.exists()
