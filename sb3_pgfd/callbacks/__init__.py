"""Callbacks for any SB3 algorithm: record successes, save models and statistics, log, draw and summarise a run."""

from sb3_pgfd.callbacks.recording import RecordSuccesses
from sb3_pgfd.callbacks.reporting import DemonstrationsSummary, EvaluateFirst, Evaluation, ProgressLog, RunFigure
from sb3_pgfd.callbacks.saving import Checkpoints, SaveNormalization, SaveTrainingState
from sb3_pgfd.run_summary import RunSummary, summarize_run, write_summary

__all__ = [
    "Checkpoints",
    "DemonstrationsSummary",
    "EvaluateFirst",
    "Evaluation",
    "ProgressLog",
    "RecordSuccesses",
    "RunFigure",
    "RunSummary",
    "SaveNormalization",
    "SaveTrainingState",
    "summarize_run",
    "write_summary",
]
