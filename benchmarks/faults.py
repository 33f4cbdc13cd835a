"""
Kill runs and writers at random, and see what is left.

    python -m benchmarks.faults runs                 # 100 SIGKILLs of a run at random moments, and 100 within 30 ms of a save
    python -m benchmarks.faults overwrites           # 100 SIGKILLs of a model.save() that replaces a file
    python -m benchmarks.faults whole_run            # a run killed 5 times, compared with one that was not

Each writes its table into benchmarks/results.
"""

import argparse
import csv
import multiprocessing
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch as th
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env

from sb3_pgfd import DDPGfD
from sb3_pgfd.callbacks import SaveTrainingState
from sb3_pgfd.common.training_state import TrainingStateError, newest_set, read_manifest, sets, verify

RESULTS = Path(__file__).parent / "results"
SMALL = ["pretrain_steps:60", "batch_size:32", "learning_starts:20", "policy_kwargs:dict(net_arch=[16])"]
TRAIN = ["--algo", "ddpgfd", "--env", "Pendulum-v1", "--seed", "3", "--num-threads", "1", "--eval-episodes", "2"]

# Forked, because to import everything takes longer than a run lives
_FORK = multiprocessing.get_context("fork")


class _Reports(BaseCallback):
    """Says when the first step was taken, over a pipe."""

    def __init__(self, pipe: Any):
        super().__init__()
        self.pipe = pipe
        self._is_first = True

    def _on_training_start(self) -> None:
        # Also in a run that goes on
        self._is_first = True

    def _on_step(self) -> bool:
        if self._is_first:
            self.pipe.send("ready")
        self._is_first = False
        return True


class _LoudState(SaveTrainingState):
    """Says when it begins to save."""

    pipe: Any

    def save(self) -> bool:
        self.pipe.send("save")
        return super().save()


def learn(pipe: Any, folder: str) -> None:
    """A run that saves its state every 25 steps, until it is killed. It goes on with what is in the folder."""
    th.set_num_threads(1)
    env = make_vec_env("Pendulum-v1", seed=3)
    options: dict[str, Any] = {"pretrain_steps": 20, "learning_starts": 20, "batch_size": 32, "seed": 3, "device": "cpu"}
    if sets(Path(folder)):
        model = DDPGfD.resume(folder, env)
    else:
        model = DDPGfD("MlpPolicy", env, "Pendulum-v1", policy_kwargs={"net_arch": [16]}, **options)
    pipe.send(f"begin {model.num_timesteps}")
    state = _LoudState(folder, save_freq=25, every=0.0)
    state.pipe = pipe
    model.learn(10**6, callback=[_Reports(pipe), state])


def overwrite(pipe: Any, path: str) -> None:
    """Save a model over and over again."""
    th.set_num_threads(1)
    model = DDPGfD("MlpPolicy", "Pendulum-v1", policy_kwargs={"net_arch": [256, 256]}, device="cpu")
    model.save(path)
    pipe.send("ready")
    while True:
        model.save(path)


class Victim:
    """
    A process that will be killed.

    :param function: What it does, with a pipe and a path
    :param path: The path
    """

    def __init__(self, function: Callable[[Any, str], None], path: Path):
        self._pipe, child = _FORK.Pipe()
        self._process = _FORK.Process(target=function, args=(child, str(path)), daemon=True)
        self._process.start()
        child.close()

    def wait_for(self, word: str) -> str:
        """:return: What it says that begins with the word. It says other things before"""
        while True:
            said = str(self._pipe.recv())
            if said.startswith(word):
                return said

    def kill(self) -> None:
        """With SIGKILL."""
        self._process.kill()
        self._process.join()
        self._pipe.close()


def kill_runs(n_kills: int, draw: random.Random) -> list[dict[str, Any]]:
    """:return: A row for each kill of a run, which then goes on and is killed again"""
    rows = []
    with TemporaryDirectory() as folder:
        for kind in ("random moment", "within 30 ms of a save"):
            for number in range(n_kills):
                path = Path(folder, "state")
                victim = Victim(learn, path)
                begin = int(victim.wait_for("begin").split()[1])
                victim.wait_for("ready")
                if kind == "random moment":
                    time.sleep(draw.uniform(0.0, 2.0))
                else:
                    victim.wait_for("save")
                    time.sleep(draw.uniform(0.0, 0.03))
                victim.kill()
                present = sets(path)
                unreadable = sum(not _is_whole(one) for one in present)
                newest = read_manifest(newest_set(path))["num_timesteps"] if present else None
                row: dict[str, Any] = {"kind": kind, "kill": number, "begin": begin, "sets": len(present)}
                stale = len(list(path.glob(".step*.tmp")))
                rows.append({**row, "unreadable": unreadable, "newest": newest, "stale_files": stale})
                print(rows[-1], flush=True)
    return rows


def _is_whole(path: Path) -> bool:
    try:
        verify(path)
    except TrainingStateError:
        return False
    return True


def kill_overwrites(n_kills: int, draw: random.Random) -> list[dict[str, Any]]:
    """:return: A row for each kill of a ``model.save()``"""
    rows = []
    with TemporaryDirectory() as folder:
        path = Path(folder, "model.zip")
        for number in range(n_kills):
            victim = Victim(overwrite, path)
            victim.wait_for("ready")
            time.sleep(draw.uniform(0.0, 0.2))
            victim.kill()
            try:
                DDPGfD.load(path, device="cpu")
                readable = True
            except (OSError, RuntimeError, ValueError):
                readable = False
            rows.append({"kill": number, "readable": readable})
            print(rows[-1], flush=True)
    return rows


def kill_whole_run(n_kills: int, draw: random.Random, n_timesteps: int = 5000) -> list[dict[str, Any]]:
    """:return: One row: whether the model of a run of the command line that was killed is the one of a run that was not"""
    with TemporaryDirectory() as folder:
        arguments = [*TRAIN, "-n", str(n_timesteps), "--eval-freq", "1000", "--save-freq", "300"]
        for name in ("whole", "killed"):
            command = [sys.executable, "-m", "sb3_pgfd", "train", *arguments, "-f", str(Path(folder, name)), "-params", *SMALL]
            begin = time.monotonic()
            if name == "whole":
                subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
                duration = time.monotonic() - begin
                continue
            run, n_killed = Path(folder, name, "ddpgfd", "Pendulum-v1_1"), 0
            while True:
                process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
                if n_killed == n_kills:
                    process.wait()
                    break
                wait_until, before = draw.uniform(0.5, 1.0) * duration / n_kills, len(_steps(run))
                while len(_steps(run)) <= before + 1 and process.poll() is None:
                    time.sleep(0.05)
                time.sleep(min(wait_until, 1.0) if process.poll() is None else 0.0)
                if process.poll() is not None:
                    break
                process.kill()
                process.wait()
                n_killed += 1
                command = [sys.executable, "-m", "sb3_pgfd", "train", "--resume", str(run)]
        models = [_parameters(Path(folder, name, "ddpgfd", "Pendulum-v1_1")) for name in ("whole", "killed")]
        equal = all(th.equal(value, models[1][key]) for key, value in models[0].items())
        files = {}
        for name in ("evaluations.npz", "0.monitor.csv", "progress.csv"):
            both = [Path(folder, kind, "ddpgfd", "Pendulum-v1_1", name) for kind in ("whole", "killed")]
            files[name.replace(".", "_") + "_rows_equal"] = _rows(both[0]) == _rows(both[1])
    return [{"n_timesteps": n_timesteps, "kills": n_killed, "final_parameters_equal": equal, **files}]


def _steps(run: Path) -> set[int]:
    """:return: Steps of the checkpoints of a run"""
    return {int(path.stem.split("_")[2]) for path in run.glob("rl_model_*_steps.zip") if path.stem.split("_")[2].isdigit()}


def _parameters(run: Path) -> dict[str, th.Tensor]:
    return DDPGfD.load(run / "Pendulum-v1.zip", device="cpu").policy.state_dict()


def _rows(path: Path) -> Any:
    """:return: Numbers of a log without those of the clock"""
    import numpy as np

    if path.suffix == ".npz":
        with np.load(path) as file:
            return {name: file[name].tolist() for name in file}
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    rows = list(csv.DictReader(lines))
    return [{name: value for name, value in row.items() if name != "t" and not name.startswith("time/")} for row in rows]


def main() -> None:
    """Write a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("runs", "overwrites", "whole_run"))
    parser.add_argument("--kills", type=int, help="default: 100, of a whole run 5")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    options = parser.parse_args()
    draw = random.Random(options.seed)
    th.set_num_threads(1)
    functions: dict[str, Callable[..., list[dict[str, Any]]]] = {
        "runs": kill_runs,
        "overwrites": kill_overwrites,
        "whole_run": kill_whole_run,
    }
    rows = functions[options.what](options.kills or (5 if options.what == "whole_run" else 100), draw)
    with (RESULTS / f"faults_{options.what}.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
