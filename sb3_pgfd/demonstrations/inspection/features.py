"""Which differences of positions help a clone: a proposal for ``sb3_pgfd.extractors.RelativePositions``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from torch.nn import functional as F

from sb3_pgfd.demonstrations.dataset import Demonstrations
from sb3_pgfd.demonstrations.environment import recorded_action_space
from sb3_pgfd.demonstrations.errors import DemonstrationsError

# The small clones: their number for each fold, hidden units, updates, rows per update, learning rate
CLONES, HIDDEN, UPDATES, BATCH, RATE = 2, 64, 300, 64, 3e-3
# At most so many folds of held-out episodes, pairs, and rows
MAX_FOLDS, MAX_PAIRS, MAX_ROWS = 5, 7, 3000
# A proposal lowers the error by this share, a second pair lowers it so again
GAIN = 0.05
# Root mean square of the proposed differences after scaling
TARGET_SIZE = 3.0

Position = tuple[str | None, int]
"""Key of a Dict observation (None: it is none), and the entry at which the position starts"""
Pair = tuple[Position, Position]


@dataclass(frozen=True)
class RankedPairs:
    """One or two pairs of positions, of which one comes near the other."""

    pairs: tuple[Pair, ...]
    error: float
    """Held-out error of a clone that sees their differences: its share of the actions' variance"""

    def names(self) -> list[list[Any]]:
        """:return: The pairs as ``RelativePositions`` and yaml take them"""
        return [[start if key is None else [key, start] if start else key for key, start in pair] for pair in self.pairs]


@dataclass(frozen=True)
class FeatureRanking:
    """Result of :func:`rank_pairs`."""

    size: int
    """Entries of a position"""
    error: float
    """Held-out error without differences"""
    ranked: list[RankedPairs]
    """Best first"""
    proposed: RankedPairs | None
    """None: nothing helps"""
    scale: float | None
    """Scale for what is proposed"""
    n_left_out: int
    """Pairs that were not tried, because others come nearer"""
    width: int
    """Entries of the longest vector: no position has more"""


def rank_pairs(demonstrations: Demonstrations, size: int = 3, seed: int = 0) -> FeatureRanking:
    """
    Rank pairs of positions by how much their differences help a small clone on held-out episodes, one alone and two together:
    the way to the object may help only where the way to the goal is known too. Candidates come near each other in most
    episodes.

    :param demonstrations: At least two episodes with Box actions and vectors as observations
    :param size: Entries of a position
    :param seed: Of the small clones
    :raises DemonstrationsError: If there are fewer episodes, other actions, or no such observations
    """
    data = _Data.of(demonstrations, size)
    candidates, n_left_out = data.candidates()
    sets: list[tuple[Pair, ...]] = [(), *((pair,) for pair in candidates), *combinations(candidates, 2)]
    error, *errors = data.errors(sets, seed).tolist()
    ranked = sorted((RankedPairs(*found) for found in zip(sets[1:], errors, strict=True)), key=lambda found: found.error)
    proposed = None
    for n_pairs in (1, 2):
        best = next((found for found in ranked if len(found.pairs) == n_pairs), None)
        if best is not None and best.error < (1 - GAIN) * (error if proposed is None else proposed.error):
            proposed = best
    width = size + max(start for _, start in data.starts)
    return FeatureRanking(size, error, ranked, proposed, data.scale(proposed), n_left_out, width)


@dataclass(frozen=True)
class _Data:
    """Demonstrations as a table, N rows."""

    values: np.ndarray
    """All keys one after another, shape ``(N, k)``"""
    starts: dict[Position, int]
    """Where each position starts in it"""
    actions: th.Tensor
    """In [-1, 1], as the algorithms clone them"""
    episodes: np.ndarray
    """The number of each row's episode"""
    size: int

    @classmethod
    def of(cls, demonstrations: Demonstrations, size: int) -> _Data:
        observations, actions = demonstrations.observations, demonstrations.actions
        named: Mapping[Any, np.ndarray] = observations if isinstance(observations, Mapping) else {None: observations}
        vectors = {key: array for key, array in named.items() if array.ndim == 2 and array.dtype.kind in "fiu"}
        if demonstrations.n_episodes < 2 or actions.dtype.kind != "f" or not any(a.shape[1] >= size for a in vectors.values()):
            raise DemonstrationsError(
                f"features: found {demonstrations.n_episodes} episodes, actions of dtype {actions.dtype} and observations of "
                f"shapes {[array.shape[1:] for array in named.values()]}, expected two episodes or more, Box actions and a "
                f"vector that has a position of {size} entries"
            )
        starts, width = {}, 0
        # A key that is a position comes first: others that hold the same are its copies
        vectors = dict(sorted(vectors.items(), key=lambda item: item[1].shape[1] != size))
        for key, array in vectors.items():
            starts.update({(key, i): width + i for i in range(array.shape[1] - size + 1)})
            width += array.shape[1]
        values = np.concatenate(list(vectors.values()), axis=1).astype(np.float64)
        numbers = np.repeat(np.arange(demonstrations.n_episodes), demonstrations.episode_lengths)
        scaled = _scaled_actions(demonstrations)
        if not np.ptp(scaled, axis=0).any():
            raise DemonstrationsError("features: found actions that are all the same, expected some that a clone can learn")
        return cls(values, starts, th.tensor(scaled, dtype=th.float32), numbers, size)

    def window(self, position: Position) -> np.ndarray:
        return self.values[:, self.starts[position] : self.starts[position] + self.size]

    def difference(self, pair: Pair) -> np.ndarray:
        return self.window(pair[1]) - self.window(pair[0])

    def candidates(self) -> tuple[list[Pair], int]:
        """:return: Pairs to try, and how many more there are"""
        within = np.flatnonzero(np.diff(self.episodes) == 0)
        late = self._late_entries(within)
        unlike: dict[bytes, Position] = {}
        for position, start in self.starts.items():
            window = self.window(position)
            # What jumps from step to step is no position
            steps = np.square(window[within + 1] - window[within]).sum(axis=1).mean()
            if 16 * steps < window.var(axis=0).sum() and not late[start : start + self.size].any():
                unlike.setdefault(window.tobytes(), position)
        nearness = {}
        for first, second in combinations(unlike.values(), 2):
            overlap = first[0] == second[0] and abs(first[1] - second[1]) < self.size
            if not overlap and self._in_one_frame(self.window(first), self.window(second)):
                nearness[first, second] = self._nearness(self.difference((first, second)))
        near = sorted((pair for pair, value in nearness.items() if value < 0.75), key=lambda pair: nearness[pair])
        return near[:MAX_PAIRS], max(0, len(near) - MAX_PAIRS)

    def _late_entries(self, within: np.ndarray) -> np.ndarray:
        """
        Meta-World appends the observation of the step before. A difference with it is a velocity, which shows the last action.

        :return: Whether each entry holds what another one held a step before
        """
        before, after = self.values[within], self.values[within + 1]
        n_entries = before.shape[1]
        moving = (before != after).any(axis=0)
        late = [any(i != j and np.array_equal(before[:, i], after[:, j]) for i in range(n_entries)) for j in range(n_entries)]
        return moving & np.array(late)

    @staticmethod
    def _in_one_frame(first: np.ndarray, second: np.ndarray) -> bool:
        """:return: Whether the ranges of every entry meet, or nearly"""
        lows, highs = (np.stack([f(array, axis=0) for array in (first, second)]) for f in (np.min, np.max))
        gap = lows.max(axis=0) - highs.min(axis=0)
        return bool((gap <= (highs - lows).max(axis=0) + 1e-6).all())

    def _nearness(self, difference: np.ndarray) -> float:
        """:return: The smallest distance as a share of the first one, in the middle of the episodes"""
        distance, starts = np.linalg.norm(difference, axis=1), np.flatnonzero(np.diff(self.episodes, prepend=-1))
        return float(np.median(np.minimum.reduceat(distance, starts) / (distance[starts] + 1e-9)))

    def errors(self, sets: Sequence[Sequence[Pair]], seed: int) -> np.ndarray:
        """:return: Held-out error of a clone with each of these sets of differences"""
        rows = np.linspace(0, len(self.values) - 1, min(len(self.values), MAX_ROWS)).astype(np.int64)
        # A short episode among long ones may have none of these, and each fold needs one
        starts = np.flatnonzero(np.diff(self.episodes, prepend=-1))
        rows = np.union1d(rows, starts[:MAX_FOLDS])
        # Not standardised: what the algorithms see. 0 without a pair, so that all clones begin with the same weights
        base = self.values[rows]
        inputs = np.zeros((len(sets), len(rows), base.shape[1] + 2 * self.size), dtype=np.float32)
        for table, pairs in zip(inputs, sets, strict=True):
            known = np.concatenate([base, *(_sized(self.difference(pair)[rows]) for pair in pairs)], axis=1)
            table[:, : known.shape[1]] = known
        folds = self.episodes[rows] % min(MAX_FOLDS, len(starts))
        errors = held_out_errors(th.from_numpy(inputs), self.actions[rows], folds, seed)
        if not np.isfinite(errors).all():
            largest = float(np.abs(base).max())
            raise DemonstrationsError(
                f"features: found observations up to {largest:g}, too large for small networks to learn from: scale them"
            )
        return errors

    def scale(self, proposed: RankedPairs | None) -> float | None:
        """:return: The scale, of one digit, that gives the differences together the size ``TARGET_SIZE``"""
        if proposed is None:
            return None
        size = np.sqrt(np.mean([np.square(self.difference(pair)).sum(axis=1) for pair in proposed.pairs]))
        return float(f"{TARGET_SIZE / size:.0e}")


def held_out_errors(inputs: th.Tensor, actions: th.Tensor, folds: np.ndarray, seed: int) -> np.ndarray:
    """
    Train a few small networks for each of M inputs and each fold, all at once.

    :param inputs: Shape ``(M, N, k)``
    :param actions: Shape ``(N, a)``, in [-1, 1]
    :param folds: The fold of each row, shape ``(N,)``
    :param seed: Of first weights and batches, which are the same for all M
    :return: Squared error on the rows that were held out as a share of the actions' variance, mean of the folds, shape
        ``(M,)``
    """
    n_sets, held = len(inputs), [fold for fold in range(int(folds.max()) + 1) for _ in range(CLONES)]
    n_nets, generator = len(held), th.Generator().manual_seed(seed)
    parameters = []
    for n_in, n_out in ((inputs.shape[2], HIDDEN), (HIDDEN, HIDDEN), (HIDDEN, actions.shape[1])):
        weights = (2 * th.rand(1, n_nets, n_in, n_out, generator=generator) - 1) / n_in**0.5
        parameters += [weights.repeat(n_sets, 1, 1, 1).flatten(0, 1), th.zeros(n_sets * n_nets, 1, n_out)]
    for parameter in parameters:
        parameter.requires_grad_()

    def error(rows: th.Tensor) -> th.Tensor:
        hidden = inputs[:, rows].flatten(0, 1)
        for i in (0, 2):
            hidden = F.relu(th.baddbmm(parameters[i + 1], hidden, parameters[i]))
        found = th.tanh(th.baddbmm(parameters[5], hidden, parameters[4]))
        return (found.unflatten(0, (n_sets, n_nets)) - actions[rows]).square().mean(dim=(2, 3))

    learned = [th.tensor(np.flatnonzero(folds != fold)) for fold in held]
    optimizer = th.optim.Adam(parameters, lr=RATE)
    for step in range(UPDATES):
        optimizer.param_groups[0]["lr"] = RATE * (1 - step / UPDATES)
        rows = th.stack([known[th.randint(len(known), (BATCH,), generator=generator)] for known in learned])
        optimizer.zero_grad()
        error(rows).sum().backward()
        optimizer.step()
    held_out = [np.flatnonzero(folds == fold) for fold in held]
    n_rows = max(map(len, held_out))
    # Folds of different lengths: the shorter ones repeat rows evenly
    rows = th.tensor(np.stack([known[np.arange(n_rows) * len(known) // n_rows] for known in held_out]))
    with th.no_grad():
        return (error(rows).mean(dim=1) / actions.var(dim=0).mean()).numpy()


def _scaled_actions(demonstrations: Demonstrations) -> np.ndarray:
    """:return: Actions scaled to [-1, 1] by their space, or where its bounds are unknown by the actions themselves"""
    space, actions = recorded_action_space(demonstrations), demonstrations.actions.astype(np.float64)
    low, high = actions.min(axis=0), actions.max(axis=0)
    if isinstance(space, spaces.Box) and space.shape == actions.shape[1:] and space.is_bounded():
        low, high = np.minimum(space.low, low), np.maximum(space.high, high)
    return ((2 * actions - low - high) / (high - low + 1e-9)).reshape(len(actions), -1)


def _sized(difference: np.ndarray) -> np.ndarray:
    """:return: The difference with a root mean square of 1. It is not centred: 0 means that both are at one place"""
    return difference / (np.sqrt(np.square(difference).mean()) + 1e-6)
