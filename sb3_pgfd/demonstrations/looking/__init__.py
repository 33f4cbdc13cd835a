"""Look before you learn: numbers and warnings, pictures, and playing demonstrations back."""

from sb3_pgfd.demonstrations.looking.pictures import plot_demonstrations
from sb3_pgfd.demonstrations.looking.replaying import replay
from sb3_pgfd.demonstrations.looking.summary import summarize

__all__ = ["plot_demonstrations", "replay", "summarize"]
