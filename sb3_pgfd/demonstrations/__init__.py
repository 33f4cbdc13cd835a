"""Demonstrations: in memory, on disk, and where they come from."""

from sb3_pgfd.demonstrations.dataset import Demonstrations
from sb3_pgfd.demonstrations.episode import Episode
from sb3_pgfd.demonstrations.errors import DemonstrationsError
from sb3_pgfd.demonstrations.recording import record

__all__ = ["Demonstrations", "DemonstrationsError", "Episode", "record"]
