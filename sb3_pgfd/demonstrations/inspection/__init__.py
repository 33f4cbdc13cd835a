"""Inspecting demonstrations before learning: summary, warnings, plots and replay."""

from sb3_pgfd.demonstrations.inspection.plots import plot_demonstrations
from sb3_pgfd.demonstrations.inspection.replay import replay
from sb3_pgfd.demonstrations.inspection.summary import summarize

__all__ = ["plot_demonstrations", "replay", "summarize"]
