"""A2CfD: advantage actor-critic from demonstrations."""

from sb3_pgfd.a2cfd.a2cfd import A2CfD
from sb3_pgfd.a2cfd.policies import A2CfDPolicy, CnnPolicy, MlpPolicy, MultiInputPolicy

__all__ = ["A2CfD", "A2CfDPolicy", "CnnPolicy", "MlpPolicy", "MultiInputPolicy"]
