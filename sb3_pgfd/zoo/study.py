"""Studies that several workers share, of which some may be killed."""

import time
import warnings
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import RDBStorage
from optuna.trial import TrialState
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from sb3_pgfd.utils.files import hold
from sb3_pgfd.zoo.command_line import CommandError

# Seconds between two signs of life of a worker, and without one until its trial is tried again
HEARTBEAT, GRACE = 20, 60
_SQLITE = "sqlite:///"
_DONE = (TrialState.COMPLETE, TrialState.PRUNED)


class Database(RDBStorage):
    """
    A database with studies, in which a trial whose worker died is tried again.

    :param url: Of the database
    """

    def __init__(self, url: str):
        options: dict[str, Any] = {"heartbeat_interval": HEARTBEAT, "grace_period": GRACE}
        if url.startswith(_SQLITE):
            options["engine_kwargs"] = {"connect_args": {"timeout": 60}}
        # Another name before Optuna 4.9
        retry = getattr(optuna.storages, "RetryHeartbeatStaleTrialCallback", None)
        with warnings.catch_warnings():
            # Optuna says of both that they may change
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            if retry is None:
                options["failed_trial_callback"] = optuna.storages.RetryFailedTrialCallback()
            else:
                options["heartbeat_stale_trial_callback"] = retry()
            super().__init__(url, **options)

    def endswith(self, suffix: str) -> bool:
        """The RL Zoo asks a storage whether it is a journal, as if it were a text."""
        return self.url.endswith(suffix)

    def __str__(self) -> str:
        return self.url


def check_database(url: str) -> None:
    """:raises CommandError: If it is no URL of a database"""
    try:
        make_url(url).get_dialect()
    except ArgumentError as error:
        raise CommandError(
            f"--storage: found {url!r}, expected a journal, file.log, or a database's URL, sqlite:///file.db ({error})"
        ) from error


def open_database(url: str) -> Database:
    """:return: The database. Of workers that start together on a new SQLite file one makes the tables, the others wait"""
    if not url.startswith(_SQLITE):
        return Database(url)
    path = Path(url.removeprefix(_SQLITE))
    with closing(hold(path.with_name(f".{path.name}.lock"), url, wait=True)):
        return Database(url)


def try_again(study: optuna.Study, objective: Callable[[optuna.Trial], float], n_trials: int) -> None:
    """
    Wait for the trials of other workers. Those whose worker was killed are tried again, until the study has its number.

    :param objective: Of the study
    :param n_trials: Number of trials of all workers together
    """
    while len(study.get_trials(deepcopy=False, states=_DONE)) < n_trials:
        optuna.storages.fail_stale_trials(study)
        if study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
            study.optimize(objective, n_trials=1, gc_after_trial=True)
        elif not study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            return
        else:
            time.sleep(1.0)
