"""Environments of the benchmarks. Register them with ``from sb3_pgfd.environments import register; register()``."""

from sb3_pgfd.environments import metaworld
from sb3_pgfd.environments.arm import SparseArm, register_arm
from sb3_pgfd.environments.metaworld import SparseMetaWorld

__all__ = ["SparseArm", "SparseMetaWorld", "register"]


def register() -> None:
    """Register all of them with Gymnasium. You may call it again."""
    metaworld.register()
    register_arm()
