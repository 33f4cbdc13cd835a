"""Replay: the buffer, its two stores, its priorities and its n-step returns."""

from sb3_pgfd.replay.demo_replay_buffer import DemoReplayBuffer
from sb3_pgfd.replay.samples import DemoBatch
from sb3_pgfd.replay.sum_tree import SumTree

__all__ = ["DemoBatch", "DemoReplayBuffer", "SumTree"]
