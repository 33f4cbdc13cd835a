"""
Learning curves of several runs, seeds and algorithms beside each other.

``find_runs`` reads what the RL Zoo leaves of a run, ``aggregate`` averages seeds, ``draw`` and ``write_csv`` show them.
"""

from sb3_pgfd.comparison.aggregate import Band, Curve, aggregate
from sb3_pgfd.comparison.csv_table import write_csv
from sb3_pgfd.comparison.drawing import draw
from sb3_pgfd.comparison.errors import ComparisonError
from sb3_pgfd.comparison.references import Reference, find_references, name_references, reached_at
from sb3_pgfd.comparison.runs import Run, find_runs

__all__ = [
    "Band",
    "ComparisonError",
    "Curve",
    "Reference",
    "Run",
    "aggregate",
    "draw",
    "find_references",
    "find_runs",
    "name_references",
    "reached_at",
    "write_csv",
]
