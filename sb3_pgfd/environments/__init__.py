"""Environments of the benchmarks. Register them with ``from sb3_pgfd.environments import register; register()``."""

from sb3_pgfd.environments.metaworld import SparseMetaWorld, register

__all__ = ["SparseMetaWorld", "register"]
