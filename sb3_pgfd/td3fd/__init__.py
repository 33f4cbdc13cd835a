"""TD3 from demonstrations."""

from sb3_pgfd.td3fd.policies import CnnPolicy, MlpPolicy, MultiInputPolicy
from sb3_pgfd.td3fd.td3fd import TD3fD

__all__ = ["CnnPolicy", "MlpPolicy", "MultiInputPolicy", "TD3fD"]
