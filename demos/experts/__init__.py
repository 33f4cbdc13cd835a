"""Scripted experts for the packaged demonstrations: each maps an observation to an action in environment units."""
