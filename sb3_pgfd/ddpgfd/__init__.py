"""DDPG from demonstrations."""

from sb3_pgfd.ddpgfd.ddpgfd import DDPGfD
from sb3_pgfd.ddpgfd.policies import CnnPolicy, MlpPolicy, MultiInputPolicy

__all__ = ["CnnPolicy", "DDPGfD", "MlpPolicy", "MultiInputPolicy"]
