"""Callbacks for any SB3 algorithm."""

from sb3_pgfd.callbacks.checkpoints import Checkpoints
from sb3_pgfd.callbacks.demonstrations_summary import DemonstrationsSummary, write_summary
from sb3_pgfd.callbacks.evaluate_first import EvaluateFirst
from sb3_pgfd.callbacks.progress_log import ProgressLog
from sb3_pgfd.callbacks.record_successes import RecordSuccesses
from sb3_pgfd.callbacks.run_figure import RunFigure
from sb3_pgfd.callbacks.run_summary import RunSummary, summarize_run
from sb3_pgfd.callbacks.save_normalization import SaveNormalization

__all__ = [
    "Checkpoints",
    "DemonstrationsSummary",
    "EvaluateFirst",
    "ProgressLog",
    "RecordSuccesses",
    "RunFigure",
    "RunSummary",
    "SaveNormalization",
    "summarize_run",
    "write_summary",
]
