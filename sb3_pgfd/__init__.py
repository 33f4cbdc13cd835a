"""Learning control from demonstrations with Stable-Baselines3."""

from importlib.metadata import version

from sb3_pgfd.a2cfd import A2CfD
from sb3_pgfd.ddpgfd import DDPGfD
from sb3_pgfd.demonstrations import Demonstrations, DemonstrationsError
from sb3_pgfd.replay import DemoReplayBuffer
from sb3_pgfd.sacfd import SACfD
from sb3_pgfd.td3fd import TD3fD
from sb3_pgfd.utils.warning import OptionWarning

__version__ = version("sb3-pgfd")

__all__ = [
    "A2CfD",
    "DDPGfD",
    "DemoReplayBuffer",
    "Demonstrations",
    "DemonstrationsError",
    "OptionWarning",
    "SACfD",
    "TD3fD",
    "__version__",
]
