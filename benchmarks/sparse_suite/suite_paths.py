"""Where the benchmark's files are. Importing it makes the modules of benchmarks/ and demos/ importable."""

import sys
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parents[1]
LOGS = BENCHMARKS / "logs" / "sparse_suite"
RESULTS_FILE = BENCHMARKS / "results" / "sparse_suite.csv"

for folder in (BENCHMARKS, BENCHMARKS.parent / "demos"):
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
