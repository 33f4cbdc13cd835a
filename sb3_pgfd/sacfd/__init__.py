"""SAC from demonstrations."""

from sb3_pgfd.sacfd.policies import CnnPolicy, MlpPolicy, MultiInputPolicy
from sb3_pgfd.sacfd.sacfd import SACfD

__all__ = ["CnnPolicy", "MlpPolicy", "MultiInputPolicy", "SACfD"]
