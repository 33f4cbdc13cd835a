"""A2CfD: advantage actor-critic from demonstrations."""

from sb3_pgfd.a2cfd.a2cfd import A2CfD
from sb3_pgfd.a2cfd.policies import CnnPolicy, MlpPolicy, MultiInputPolicy

__all__ = ["A2CfD", "CnnPolicy", "MlpPolicy", "MultiInputPolicy"]
