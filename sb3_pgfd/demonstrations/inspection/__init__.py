"""Look before you learn: numbers and warnings, pictures, and playing demonstrations back."""

from sb3_pgfd.demonstrations.inspection.pictures import plot_demonstrations
from sb3_pgfd.demonstrations.inspection.replaying import replay
from sb3_pgfd.demonstrations.inspection.summary import summarize

__all__ = ["plot_demonstrations", "replay", "summarize"]
