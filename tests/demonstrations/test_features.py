"""Which differences of positions help a clone."""

import numpy as np
import pytest
import torch as th

from sb3_pgfd import Demonstrations
from sb3_pgfd.demonstrations import DemonstrationsError, Episode
from sb3_pgfd.demonstrations.inspection.features import held_out_errors, rank_pairs


def reaching(n_episodes: int = 6, as_dict: bool = True) -> Demonstrations:
    """A hand goes straight to a thing at up to 0.02 in each axis, fast from far. A third point wanders about."""
    rng, episodes = np.random.default_rng(0), []
    for _ in range(n_episodes):
        hand, thing, other = 1.3 + rng.uniform(-0.15, 0.15, (3, 2))
        rows, actions = [], []
        for _ in range(30):
            rows.append(np.concatenate([hand, other, thing]))
            actions.append(np.clip(10 * (thing - hand), -1, 1))
            hand, other = hand + 0.02 * actions[-1], other + rng.normal(0, 0.01, 2)
        rows.append(np.concatenate([hand, other, thing]))
        table = np.array(rows, dtype=np.float32)
        observations = {"goal": table[:, 4:], "state": table[:, :4]} if as_dict else table
        episodes.append(Episode(observations, np.array(actions, dtype=np.float32), np.zeros(30), False))
    return Demonstrations.from_episodes(episodes)


def test_the_way_to_the_thing_is_proposed_and_the_same_each_time():
    ranking = rank_pairs(reaching(), size=2)
    assert ranking.proposed is not None
    assert ["goal", "state"] in ranking.proposed.names()
    assert ranking.proposed.error < 0.95 * ranking.error
    assert ranking == rank_pairs(reaching(), size=2)


def test_a_box_has_entries_without_keys():
    ranking = rank_pairs(reaching(as_dict=False), size=2)
    assert ranking.proposed is not None
    assert [0, 4] in ranking.proposed.names()


def test_observations_of_the_step_before_make_no_pair():
    demonstrations = reaching(as_dict=False)
    rows = demonstrations.observations
    assert isinstance(rows, np.ndarray)
    starts = demonstrations.episode_starts
    before = np.roll(rows, 1, axis=0)
    before[starts] = rows[starts]
    stacked = Demonstrations.from_transitions(
        np.concatenate([rows, before], axis=1),
        demonstrations.actions,
        demonstrations.rewards,
        np.concatenate([demonstrations.next_observations, rows], axis=1),
        demonstrations.terminated,
        demonstrations.truncated,
    )
    used = {start for found in rank_pairs(stacked, size=2).ranked for pair in found.pairs for _, start in pair}
    # The hand and the other point of the step before are at 6 to 9. The thing does not move: its copy is the thing
    assert used <= {0, 1, 2, 3, 4}


def test_the_error_is_that_of_episodes_not_seen():
    # Both folds have the same inputs and opposite actions, so that what is learned from one is wrong in the other:
    # (1 - -1)^2 = 4, and the variance of -1 and 1 is n / (n - 1)
    inputs, actions = th.ones(1, 40, 1), th.ones(40, 1)
    actions[1::2] = -1
    error = held_out_errors(inputs, actions, np.arange(40) % 2, seed=0)
    assert error == pytest.approx(4 * 39 / 40, rel=0.05)


def test_what_cannot_be_ranked_is_refused():
    one = Demonstrations.from_episodes([Episode(np.zeros((3, 6)), np.zeros((2, 1)), np.zeros(2), True)])
    with pytest.raises(DemonstrationsError, match="found 1 episodes"):
        rank_pairs(one)
    with pytest.raises(DemonstrationsError, match="a position of 7 entries"):
        rank_pairs(reaching(), size=7)


def episode(length: int, rng: np.random.Generator) -> Episode:
    observations = rng.normal(size=(length + 1, 6)).cumsum(axis=0).astype(np.float32)
    return Episode(observations, rng.uniform(-1, 1, (length, 2)).astype(np.float32), np.zeros(length), True)


def test_an_episode_of_one_step_among_long_ones_is_a_fold_of_its_own():
    rng = np.random.default_rng(0)
    demonstrations = Demonstrations.from_episodes([episode(length, rng) for length in (2000, 1, 2000)])
    assert np.isfinite(rank_pairs(demonstrations).error)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [("actions", np.ones((60, 2)), "actions that are all the same"), ("observations", np.full((60, 6), 1e300), "too large")],
)
def test_what_no_clone_can_learn_is_refused(field: str, value: np.ndarray, message: str):
    rng = np.random.default_rng(0)
    demonstrations = Demonstrations.from_episodes([episode(30, rng), episode(30, rng)]).changed(**{field: value})
    with pytest.raises(DemonstrationsError, match=message):
        rank_pairs(demonstrations)
