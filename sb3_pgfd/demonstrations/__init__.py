"""Demonstrations: in memory, on disk, and where they come from."""

from sb3_pgfd.demonstrations.dataset import Demonstrations
from sb3_pgfd.demonstrations.episode import Episode
from sb3_pgfd.demonstrations.errors import DemonstrationsError
from sb3_pgfd.demonstrations.inspection import plot_demonstrations, replay, summarize
from sb3_pgfd.demonstrations.recording import record, record_person

__all__ = [
    "Demonstrations",
    "DemonstrationsError",
    "Episode",
    "plot_demonstrations",
    "record",
    "record_person",
    "replay",
    "summarize",
]
