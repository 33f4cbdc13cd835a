"""Learning curves of several runs, seeds and algorithms side by side."""

from sb3_pgfd.comparison.curves import Curve, aggregate, write_csv
from sb3_pgfd.comparison.drawing import draw
from sb3_pgfd.comparison.references import Reference, find_references
from sb3_pgfd.comparison.runs import ComparisonError, Run, find_runs

__all__ = ["ComparisonError", "Curve", "Reference", "Run", "aggregate", "draw", "find_references", "find_runs", "write_csv"]
