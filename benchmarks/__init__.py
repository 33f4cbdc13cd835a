"""Measurements of learning and speed. Run each from the root of the checkout: ``python -m benchmarks.pendulum``."""
