"""Helpers for files, checks and the screen, without reinforcement learning."""
