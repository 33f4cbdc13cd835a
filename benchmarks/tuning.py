"""
Does the RL Zoo's ``-optimize`` find hyperparameters at least as good as the default entry? 20 trials of DDPGfD on
MountainCarContinuous-v0 with its 3 packaged demonstrations, through ``python -m sb3_pgfd.train`` as a user runs it.

    python -m benchmarks.tuning --processes 2        # about a quarter of an hour on 2 cores

The study searches from the ``default`` entry. Several workers share its journal, and no trial may be lost. Then the best trial
(``--trial-id``), the ``default`` entry and the task's own entry are trained with seeds that the study has not used, and
evaluated over 50 episodes. Finished trials are in the journal, finished runs in benchmarks/results/; they do not run again.
"""

import argparse
import csv
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import yaml
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from benchmarks.learning import RESULTS, read_results, replace_results
from sb3_pgfd.demonstrations.inspection.plots import new_figure
from sb3_pgfd.utils.files import hyperparams_file, write_whole

ENV_ID = "MountainCarContinuous-v0"
STEPS, N_TRIALS, SEEDS = 3_000, 20, (0, 1, 2)
STUDY = "tuning"
LOGS = Path(__file__).parent / "logs" / "tuning"
CONFIGURATIONS = ("best trial", "default entry", "own entry")


class Runs:
    """
    Runs of ``sb3_pgfd.train`` with their logs in one folder.

    :param folder: Absolute path: the runs start in it
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.journal = folder / "studies.log"
        self.default = folder / "default.yml"
        folder.mkdir(parents=True, exist_ok=True)
        entry = yaml.safe_load(hyperparams_file("ddpgfd").read_text())["default"]
        self.default.write_text(yaml.safe_dump({"default": {**entry, "demonstrations": ENV_ID}}))

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """:param arguments: Arguments of the command"""
        command = [sys.executable, "-m", "sb3_pgfd.train", "--algo", "ddpgfd", "--env", ENV_ID, "--num-threads", "1"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        with (self.folder / "output.txt").open("ab") as output:
            return subprocess.Popen(
                [*command, "--device", "cpu", *arguments], cwd=self.folder, env=environment, stdout=output, stderr=output
            )

    def run(self, *arguments: str) -> None:
        """:raises RuntimeError: If the command fails"""
        if self.start(*arguments).wait() != 0:
            raise RuntimeError(f"{' '.join(arguments)}: failed, see {self.folder / 'output.txt'}")

    def optimize(self, n_workers: int) -> None:
        """
        Let workers share the study until it has all its trials.

        :raises RuntimeError: If a worker fails
        """
        # Trials of killed workers would count as trials
        for trial in self.trials():
            if not trial.state.is_finished():
                self.study.tell(trial.number, state=TrialState.FAIL)
        arguments = ["-optimize", "--storage", str(self.journal), "--study-name", STUDY, "--max-total-trials", str(N_TRIALS)]
        arguments += ["-n", str(STEPS), "--n-evaluations", "4", "--eval-episodes", "20", "--n-startup-trials", "5"]
        arguments += ["--conf-file", str(self.default), "--seed", "0", "--no-optim-plots"]
        workers = [self.start(*arguments) for _ in range(n_workers)]
        if any([worker.wait() for worker in workers]):
            raise RuntimeError(f"a worker failed, see {self.folder / 'output.txt'}")

    @property
    def study(self) -> optuna.Study:
        return optuna.load_study(study_name=STUDY, storage=JournalStorage(JournalFileBackend(str(self.journal))))

    def trials(self) -> list[optuna.trial.FrozenTrial]:
        """:return: All trials so far"""
        return self.study.trials if self.journal.is_file() else []

    def train(self, configuration: str, seed: int) -> dict[str, Any]:
        """:return: A row of the results"""
        logs = self.folder / configuration.replace(" ", "-") / str(seed)
        arguments = ["-n", str(STEPS), "--eval-freq", str(STEPS), "--eval-episodes", "50", "-f", str(logs)]
        # The study's trials had other seeds
        arguments += ["--seed", str(1_000 + seed), "--log-interval", "100"]
        if configuration != "own entry":
            arguments += ["--conf-file", str(self.default)]
        if configuration == "best trial":
            number = self.study.best_trial.number
            arguments += ["--storage", str(self.journal), "--study-name", STUDY, "--trial-id", str(number)]
        start = time.perf_counter()
        self.run(*arguments)
        seconds = round(time.perf_counter() - start, 2)
        with np.load(sorted(logs.glob("*/*/evaluations.npz"))[-1]) as evaluations:
            returns = evaluations["results"][-1]
        values = {"mean_return": returns.mean(), "std_return": returns.std(), "worst_return": returns.min()}
        rounded = {name: round(float(value), 2) for name, value in values.items()}
        return {"configuration": configuration, "seed": seed, **rounded, "seconds": seconds}


def write_trials(path: Path, trials: Sequence[optuna.trial.FrozenTrial]) -> None:
    """Write each trial with its parameters."""
    names = sorted({name for trial in trials for name in trial.params})
    rows = []
    for trial in trials:
        if trial.duration is None:
            continue
        values = {name: f"{value:.4g}" if isinstance(value, float) else value for name, value in trial.params.items()}
        value = None if trial.value is None else round(trial.value, 2)
        seconds = round(trial.duration.total_seconds(), 1)
        rows.append({"number": trial.number, "state": trial.state.name, "value": value, "seconds": seconds, **values})
    with write_whole(path, overwrite=True) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, ("number", "state", "value", "seconds", *names), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def report(runs: Runs, rows: Sequence[dict[str, Any]]) -> None:
    """Print and draw the trials and the runs."""
    trials = runs.trials()
    states = Counter(trial.state.name.lower() for trial in trials)
    errors = sum("error" in trial.user_attrs for trial in trials)
    print(f"{len(trials)} trials, {dict(states)}, {errors} of them stopped with an error, at most {at_once(trials)} at once")
    print(f"numbers: {'all' if [trial.number for trial in trials] == list(range(len(trials))) else 'some are missing'}")
    best = runs.study.best_trial
    print(f"best: trial {best.number}, {best.value:.2f} over 20 episodes\n")
    print(f"{'configuration':<16}{'mean of 50 episodes, seed by seed':<36}{'mean':>8}{'seconds':>9}")
    for configuration in CONFIGURATIONS:
        chosen = [row for row in rows if row["configuration"] == configuration]
        returns, seconds = [row["mean_return"] for row in chosen], np.mean([row["seconds"] for row in chosen])
        print(
            f"{configuration:<16}{'  '.join(f'{value:.2f}' for value in returns):<36}{np.mean(returns):>8.2f}{seconds:>9.0f}"
        )
    print(f"Figure: {draw(trials, rows)}")


def at_once(trials: Sequence[optuna.trial.FrozenTrial]) -> int:
    """:return: Largest number of trials that ran at the same time"""
    begun = [trial.datetime_start for trial in trials if trial.datetime_start and trial.datetime_complete]
    spans = [(trial.datetime_start, trial.datetime_complete) for trial in trials]
    return max(sum(start <= moment < end for start, end in spans if start and end) for moment in begun)


def draw(trials: Sequence[optuna.trial.FrozenTrial], rows: Sequence[dict[str, Any]]) -> Path:
    """:return: Path of the figure"""
    figure = new_figure((9.0, 3.6))
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    finished = [(trial.number, trial.value) for trial in trials if trial.state.name == "COMPLETE" and trial.value is not None]
    pruned = [
        (trial.number, trial.intermediate_values[max(trial.intermediate_values)])
        for trial in trials
        if trial.state.name == "PRUNED" and trial.intermediate_values
    ]
    left.scatter(*zip(*finished, strict=True), color="C0", label="finished")
    if pruned:
        left.scatter(*zip(*pruned, strict=True), color="0.6", marker="x", label="pruned, last evaluation")
    numbers, values = zip(*finished, strict=True)
    left.step(numbers, np.maximum.accumulate(values), where="post", color="C2", label="best so far")
    left.set(title=f"{ENV_ID}, -optimize", xlabel="trial", ylabel="mean return, 20 episodes")
    left.xaxis.get_major_locator().set_params(integer=True)
    left.legend()
    for place, configuration in enumerate(CONFIGURATIONS):
        returns = [row["mean_return"] for row in rows if row["configuration"] == configuration]
        right.scatter([place] * len(returns), returns, color="C0")
        right.hlines(np.mean(returns), place - 0.2, place + 0.2, color="C3")
    right.set(title=f"new seeds, {STEPS:,} steps", ylabel="mean return, 50 episodes", xlim=(-0.5, len(CONFIGURATIONS) - 0.5))
    right.set_xticks(range(len(CONFIGURATIONS)), CONFIGURATIONS)
    for axis in (left, right):
        axis.grid(alpha=0.3)
    path = RESULTS / "tuning.png"
    figure.savefig(path, dpi=100)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=LOGS, help="folder of the journal and the logs")
    parser.add_argument("--processes", type=int, default=1)
    args = parser.parse_args()
    runs = Runs(args.folder.resolve())
    if sum(trial.state in (TrialState.COMPLETE, TrialState.PRUNED) for trial in runs.trials()) < N_TRIALS:
        runs.optimize(args.processes)
    write_trials(RESULTS / "tuning_trials.csv", runs.trials())
    path = RESULTS / "tuning.csv"
    done = {(row["configuration"], row["seed"]) for row in read_results(path)}
    todo = [(configuration, seed) for seed in SEEDS for configuration in CONFIGURATIONS if (configuration, seed) not in done]
    # Each thread waits for its process
    with ThreadPool(args.processes) as pool:
        for row in pool.imap_unordered(lambda run: runs.train(*run), todo):
            replace_results(path, {name: row.pop(name) for name in ("configuration", "seed")}, [row])
    report(runs, read_results(path))


if __name__ == "__main__":
    main()
